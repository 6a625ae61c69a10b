//! Makes a loaded model ready for a KV scheme: finds the statistics that the scheme needs, or takes them.

use std::fs;
use std::io::Write as _;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lossy_formats::AtomicFile;
use lossy_tokenizer::EncodeOptions;
use sha2::{Digest, Sha256};

use crate::cache::{Calibration, KvScheme};
use crate::{Engine, EngineError, Hex, ModelSource, Progress};

/// What the statistics are taken from unless the user names a text: public-domain prose, code in four languages, dialogue,
/// tables, names and numbers. The text that loss is measured on shares nothing with it.
pub const CALIBRATION_TEXT: &str = include_str!("../text/calibration.txt");

/// Where the statistics in use are from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Calibrated {
    /// Tokens that were read for them now; `None`: they were kept, or in use already.
    pub n_tokens: Option<usize>,
    /// the file in which they are kept; `None`: in none
    pub file: Option<PathBuf>,
}

impl Engine {
    /// Stores new sequences in `scheme` from now on, after [calibration](Engine::prepare_calibration) if the scheme needs
    /// it; then what that did is returned.
    ///
    /// # Errors
    /// The scheme does not fit the model; otherwise as there.
    pub fn prepare_kv(
        &mut self,
        source: &ModelSource,
        scheme: &KvScheme,
        directory: Option<&Path>,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Option<Calibrated>, EngineError> {
        let is_needed = scheme.needs_calibration() && self.calibration().is_none();
        let calibrated =
            is_needed.then(|| self.prepare_calibration(source, directory, progress)).transpose()?;
        self.set_kv(scheme)?;
        Ok(calibrated)
    }

    /// Finds the statistics of this model and its calibration text among those that are kept in `directory`, or makes and
    /// keeps them. `progress` is called while the model is calibrated.
    ///
    /// # Errors
    /// Calibration fails, or is stopped by `progress`. That statistics cannot be kept is not an error.
    pub fn prepare_calibration(
        &mut self,
        source: &ModelSource,
        directory: Option<&Path>,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Calibrated, EngineError> {
        let own = self.calibration_text().cloned();
        let text = own.as_deref().unwrap_or(CALIBRATION_TEXT);
        let path = directory.map(|directory| directory.join(file_name(source, text)));
        let kept = path.as_deref().and_then(read).filter(|kept| kept.fits(&self.kv_geometry()));
        if let Some(kept) = kept {
            self.set_calibration(Arc::new(kept))?;
            return Ok(Calibrated { n_tokens: None, file: path });
        }
        let tokens = source.tokenizer()?.encode(text, EncodeOptions::default())?;
        let calibration = self.calibrate(&tokens, progress)?;
        let file = path.filter(|path| keep(path, &calibration).is_ok());
        Ok(Calibrated { n_tokens: Some(tokens.len()), file })
    }
}

/// A name that another model, another text, or another model of the same shape does not have.
fn file_name(source: &ModelSource, text: &str) -> String {
    let digest = Sha256::new().chain_update(source.fingerprint()).chain_update(text).finalize();
    format!("{}.json", Hex(&digest[..16]))
}

/// Statistics that were kept; what cannot be read is made anew.
fn read(path: &Path) -> Option<Calibration> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Keeps statistics for the next run, as a whole or not at all.
fn keep(path: &Path, calibration: &Calibration) -> std::io::Result<()> {
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
        let path = directory.join("kept.json");
        fs::write(&path, b"{\"version\":1,").expect("a file for the test");
        assert!(read(&path).is_none());
        assert!(read(&directory.join("none.json")).is_none());
        fs::remove_dir_all(&directory).expect("the test's folder");
    }
}
