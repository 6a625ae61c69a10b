//! The text that statistics of weights are made of.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use lossy_compress::calibration;
use lossy_engine::ModelSource;

use crate::loaded::in_file;

/// Tokens of the bundled text, about.
const BUNDLED_TOKENS: u64 = 20_000;

/// `-f`
#[derive(Args, Clone, Debug)]
pub struct CalibrationText {
    /// Text to make statistics of, in UTF-8; may be given several times [default: bundled prose, code and conversations, some
    /// 20,000 tokens]
    #[arg(short = 'f', long = "file", value_name = "TEXT")]
    files: Vec<PathBuf>,
}

/// A text as tokens, and what it is.
pub struct NamedTokens {
    pub tokens: Vec<u32>,
    pub names: Vec<String>,
}

impl CalibrationText {
    /// Whether a text was given.
    pub fn is_given(&self) -> bool {
        !self.files.is_empty()
    }

    /// Tokens, about: a file is not read, and has one for four bytes.
    pub fn n_tokens_about(&self) -> u64 {
        if self.files.is_empty() {
            return BUNDLED_TOKENS;
        }
        let bytes = |path: &PathBuf| fs::metadata(path).map_or(0, |metadata| metadata.len());
        self.files.iter().map(|path| bytes(path) / 4).sum()
    }

    /// Reads it.
    pub fn tokens(&self, source: &ModelSource) -> Result<NamedTokens> {
        if self.files.is_empty() {
            let tokens = calibration::bundled(source)?;
            return Ok(NamedTokens { tokens, names: vec!["bundled with lossy".to_string()] });
        }
        let (mut tokens, mut names) = (Vec::new(), Vec::new());
        for path in &self.files {
            let text = fs::read_to_string(path).with_context(|| format!("{}", path.display()))?;
            tokens.extend(calibration::of_text(source, &text).map_err(in_file(path))?);
            names.push(path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned());
        }
        Ok(NamedTokens { tokens, names })
    }
}
