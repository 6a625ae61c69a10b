//! The text that statistics of weights are made of.

use std::fs::{self, File};
use std::io::Read;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use lossy_compress::calibration;
use lossy_engine::ModelSource;
use lossy_tokenizer::EncodeOptions;

use crate::loaded::in_file;

/// What is read of a text to estimate its tokens.
const BEGINNING_BYTES: u64 = 1 << 16;

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

    /// Tokens, about: of a file its beginning is read, and the rest is taken to be like that.
    ///
    /// # Errors
    /// The model has no tokenizer, or a file cannot be read.
    pub fn n_tokens_about(&self, source: &ModelSource) -> Result<u64> {
        if self.files.is_empty() {
            return Ok(calibration::bundled(source)?.len() as u64);
        }
        let tokenizer = source.tokenizer()?;
        let mut n_tokens = 0;
        for path in &self.files {
            let read = || -> std::io::Result<(Vec<u8>, u64)> {
                let (mut file, mut beginning) = (File::open(path)?, Vec::new());
                file.by_ref().take(BEGINNING_BYTES).read_to_end(&mut beginning)?;
                Ok((beginning, file.metadata()?.len()))
            };
            let (beginning, n_bytes) = read().with_context(|| format!("{}", path.display()))?;
            let text = String::from_utf8_lossy(&beginning);
            let found = tokenizer.encode(&text, EncodeOptions::default())?.len() as u64;
            n_tokens += found * n_bytes.max(beginning.len() as u64) / beginning.len().max(1) as u64;
        }
        Ok(n_tokens)
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
