//! The text that statistics are taken from, and the file that they are saved in.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lossy_formats::AtomicFile;
use lossy_kernels::ActivationKind;
use sha2::{Digest, Sha256};

use crate::cache::{Calibration, KvGeometry};
use crate::{CalibrationOptions, Fingerprint, Hex};

/// What the statistics are taken from unless the user names a text: public-domain prose, code in four languages, dialogue,
/// tables, names and numbers. The text that loss is measured on shares nothing with it.
pub const CALIBRATION_TEXT: &str = include_str!("../text/calibration.txt");

/// Statistics in use, and where they are from.
#[derive(Clone, Debug)]
pub struct Calibrated {
    /// the statistics
    pub calibration: Arc<Calibration>,
    /// tokens that were read for them now; `None`: they were saved, given, or in use already
    pub n_tokens: Option<usize>,
    /// the file that they are saved in; `None`: in none
    pub file: Option<PathBuf>,
}

/// The name of the file that statistics are saved in, from all that they depend on: the program, the model, how it is
/// computed, the text.
pub(crate) fn file_name(model: Fingerprint, activations: ActivationKind, text: &str) -> String {
    let how = format!("{} {}\0", env!("CARGO_PKG_VERSION"), activations.name());
    let hash = Sha256::new().chain_update(model).chain_update(how).chain_update(text).finalize();
    format!("{}.json", Hex(&hash[..16]))
}

impl CalibrationOptions {
    /// The text to read.
    pub(crate) fn text(&self) -> &str {
        self.text.as_deref().unwrap_or(CALIBRATION_TEXT)
    }
}

/// Statistics that were saved for a model of this shape; what cannot be read is made anew.
pub(crate) fn load(path: &Path, geometry: &KvGeometry) -> Option<Calibration> {
    let saved: Calibration = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    Some(saved).filter(|saved| saved.fits(geometry))
}

/// Saves statistics for the next run, as a whole or not at all.
pub(crate) fn save(path: &Path, calibration: &Calibration) -> std::io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(directory)?;
    let mut file = AtomicFile::create(path)?;
    file.write_all(&serde_json::to_vec(calibration)?)?;
    Ok(file.commit()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_that_are_cut_off_are_not_read() {
        let directory = std::env::temp_dir().join(format!("lossy-calibration-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("a folder for the test");
        let path = directory.join("saved.json");
        fs::write(&path, b"{\"version\":1,").expect("a file for the test");
        let geometry = KvGeometry { n_layers: 1, n_kv_heads: 1, heads_per_kv: 1, head_dim: 64 };
        assert!(load(&path, &geometry).is_none());
        assert!(load(&directory.join("none.json"), &geometry).is_none());
        fs::remove_dir_all(&directory).expect("the test's folder");
    }
}
