//! Certificates in the user's cache directory.

use std::path::PathBuf;

use lossy_engine::ModelSource;
use lossy_eval::{Certificate, Certificates, Report};

use crate::args::Activations;
use crate::{directories, version};

fn folder() -> Option<Certificates> {
    Some(Certificates::new(directories::cache_home()?.join("lossy").join("certificates")))
}

/// What is known of a model, by this version of the program.
pub fn known(source: &ModelSource, activations: Activations) -> Vec<Certificate> {
    let hash = source.fingerprint().to_string();
    let find = |folder: Certificates| folder.find(&hash, version::short(), activations.name());
    folder().map(find).unwrap_or_default()
}

/// Keeps a certificate of each setting of a report; with its file, where it could be written.
pub fn keep(report: &Report) -> Vec<(Certificate, Option<PathBuf>)> {
    let folder = folder();
    let kept = |certificate: Certificate| {
        let file = folder.as_ref().and_then(|folder| folder.keep(&certificate).ok());
        (certificate, file)
    };
    Certificate::all(report).into_iter().map(kept).collect()
}
