//! Certificates that are saved: a file each, in a folder for each model.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use lossy_formats::AtomicFile;

use crate::{Certificate, Measurable, Meter, Note, Observer, Report, Setting};

/// Loss grows with the context, and in a short one most of a cache is still exact: a measurement on fewer tokens says nothing
/// about more than that.
const LEAST_CTX: usize = 512;

/// A folder of certificates.
#[derive(Clone, Debug)]
pub struct Certificates {
    folder: Option<PathBuf>,
}

/// A certificate, and where it lies.
#[derive(Clone, Debug, PartialEq)]
pub struct Saved {
    /// what was measured
    pub certificate: Certificate,
    /// its file; `None`: it is in none
    pub file: Option<PathBuf>,
}

impl Certificates {
    /// Those in `folder`, which need not be there yet; `None`: nothing is saved or found.
    pub fn new(folder: Option<PathBuf>) -> Certificates {
        Certificates { folder }
    }

    /// Saves a certificate of each setting of a report that allows one. If files cannot be written, a note says so.
    pub fn save_all(&self, report: &Report, observer: &mut dyn Observer) -> Vec<Saved> {
        let mut failure = None;
        let mut save = |certificate: Certificate| {
            let file = self.save(&certificate).unwrap_or_else(|error| {
                failure.get_or_insert(error);
                None
            });
            Saved { certificate, file }
        };
        let saved = Certificate::all(report).into_iter().map(&mut save).collect();
        if let (Some(error), Some(folder)) = (&failure, &self.folder) {
            observer.note(&Note::CertificatesNotSaved { folder, error });
        }
        saved
    }

    /// Saves a certificate, unless there is one of the same setting and length that rests on more predictions. Returns its
    /// file.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn save(&self, certificate: &Certificate) -> io::Result<Option<PathBuf>> {
        let Some(folder) = self.of_model(&certificate.model_hash) else { return Ok(None) };
        fs::create_dir_all(&folder)?;
        let name: String = certificate
            .setting
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || c == '=' || c == '.' { c } else { '-' })
            .collect();
        // What weights lose beside another model is not what a cache loses.
        let against = certificate.reference_model.as_ref().map_or(String::new(), |other| {
            let hash: String = other.hash.chars().filter(char::is_ascii_hexdigit).take(16).collect();
            format!("-against-{hash}")
        });
        let (activations, n_ctx) = (&certificate.activations, certificate.n_ctx);
        let path = folder.join(format!("{name}-{activations}-{n_ctx}{against}.json"));
        let is_better = |old: &Certificate| {
            old.version == certificate.version
                && old.setting == certificate.setting
                && old.n_scored > certificate.n_scored
        };
        if read(&path).as_ref().is_some_and(is_better) {
            return Ok(Some(path));
        }
        let mut file = AtomicFile::create(&path)?;
        file.write_all(&serde_json::to_vec_pretty(certificate)?)?;
        file.commit()?;
        Ok(Some(path))
    }

    /// Of a model beside itself, by this version of the program, with these activations; for each setting that of the longest
    /// context. What cannot be read is not there.
    pub fn load(&self, model_hash: &str, version: &str, activations: &str) -> Vec<Certificate> {
        let entries = self.of_model(model_hash).and_then(|folder| fs::read_dir(folder).ok());
        let mut found: Vec<Certificate> = entries
            .into_iter()
            .flatten()
            .filter_map(|entry| read(&entry.ok()?.path()))
            .filter(|c| c.model_hash == model_hash && c.version == version && c.activations == activations)
            .filter(|c| c.reference_model.is_none())
            .collect();
        found.sort_by(|a, b| {
            a.setting.cmp(&b.setting).then((b.n_ctx, b.n_scored).cmp(&(a.n_ctx, a.n_scored)))
        });
        found.dedup_by(|later, first| later.setting == first.setting);
        found
    }

    /// What is known of KV schemes with the model's own positions in contexts of `n_ctx` tokens.
    pub fn known<L: Measurable>(&self, meter: &Meter<L>, n_ctx: usize) -> Vec<Certificate> {
        if self.folder.is_none() {
            return Vec::new();
        }
        let options = meter.options();
        let mut known = self.load(&meter.model_hash(), &options.version, meter.activations());
        known.retain(|certificate| {
            let setting: Option<Setting> = certificate.setting.parse().ok();
            certificate.n_ctx >= LEAST_CTX.min(n_ctx)
                && setting.is_some_and(|setting| setting.positions.is_none())
        });
        known
    }

    fn of_model(&self, model_hash: &str) -> Option<PathBuf> {
        let digits = model_hash.bytes().take_while(u8::is_ascii_hexdigit).take(16).count();
        Some(self.folder.as_ref()?.join(&model_hash[..digits]))
    }
}

fn read(path: &Path) -> Option<Certificate> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ReferenceModel;
    use crate::certificate::tests::certificate;

    #[test]
    fn what_is_saved_is_loaded_again() {
        let folder = std::env::temp_dir().join(format!("lossy-certificates-{}", std::process::id()));
        let certificates = Certificates::new(Some(folder.clone()));
        assert!(certificates.load("0123456789abcdef0123", "1", "q8").is_empty());
        let long = certificate("k2v2:sinks=4", 2.3, 0.03, 2048, 500);
        for one in [
            &certificate("k2v2:sinks=4", 2.3, 0.01, 1024, 900),
            &long,
            &certificate("q8", 8.5, 0.001, 1024, 900),
        ] {
            certificates.save(one).unwrap();
        }
        // Fewer predictions at the same length do not replace more.
        certificates.save(&certificate("q8", 8.5, 0.5, 1024, 10)).unwrap();
        // A loss beside another model says nothing of what a cache loses.
        let other = ReferenceModel { name: "original.gguf".to_string(), hash: "ff00".repeat(16) };
        let against = Certificate { reference_model: Some(other), ..certificate("q8", 8.5, 0.2, 2048, 900) };
        let file = certificates.save(&against).unwrap().unwrap();
        assert!(file.ends_with("q8-q8-2048-against-ff00ff00ff00ff00.json"), "{}", file.display());
        let found = certificates.load("0123456789abcdef0123", "1", "q8");
        assert_eq!(found, [long, certificate("q8", 8.5, 0.001, 1024, 900)]);
        assert!(certificates.load("0123456789abcdef0123", "2", "q8").is_empty());
        assert!(certificates.load("0123456789abcdef0123", "1", "f32").is_empty());
        assert!(certificates.load("fedcba9876543210fedc", "1", "q8").is_empty());
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn without_a_folder_nothing_is_saved_or_found() {
        let certificates = Certificates::new(None);
        let one = certificate("q8", 8.5, 0.001, 1024, 900);
        assert_eq!(certificates.save(&one).unwrap(), None);
        assert!(certificates.load(&one.model_hash, &one.version, &one.activations).is_empty());
    }
}
