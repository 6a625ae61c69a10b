//! Certificates in the user's cache directory.

use std::path::PathBuf;

use lossy_engine::ModelSource;
use lossy_eval::{Certificate, Certificates, Report, Setting};

use crate::args::Activations;
use crate::terminal::note;
use crate::{directories, version};

fn folder() -> Option<PathBuf> {
    Some(directories::cache_home()?.join("lossy").join("certificates"))
}

/// Loss grows with the context, and in a short one most of a cache is exact still: what was measured on fewer tokens says
/// nothing about more than that.
const LEAST_CTX: usize = 512;

/// What is known of a model's KV schemes with the model's own positions, by this version of the program; for contexts of
/// `n_ctx` tokens.
pub fn known(source: &ModelSource, activations: Activations, n_ctx: usize) -> Vec<Certificate> {
    let hash = source.fingerprint().to_string();
    let find = |folder| Certificates::new(folder).find(&hash, version::short(), activations.name());
    let mut known = folder().map(find).unwrap_or_default();
    known.retain(|certificate| {
        let setting: Option<Setting> = certificate.setting.parse().ok();
        certificate.n_ctx >= LEAST_CTX.min(n_ctx)
            && setting.is_some_and(|setting| setting.positions.is_none())
    });
    known
}

/// Keeps a certificate of each setting of a report; with its file, where it could be written. Where not, a line says so.
pub fn keep(report: &Report) -> Vec<(Certificate, Option<PathBuf>)> {
    let folder = folder();
    let mut failure = None;
    let mut keep = |certificate: Certificate| {
        let kept = folder.clone().map(|folder| Certificates::new(folder).keep(&certificate));
        let file = kept.and_then(|kept| kept.map_err(|error| failure = Some(error)).ok());
        (certificate, file)
    };
    let kept = Certificate::all(report).into_iter().map(&mut keep).collect();
    if let (Some(error), Some(folder)) = (failure, folder) {
        note(&format!("{}: what was measured cannot be kept: {error}", folder.display()));
    }
    kept
}
