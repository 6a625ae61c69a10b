//! Hugging Face directories: `config.json`, `model.safetensors` or its shards, tokenizer files.

use crate::TensorView;
use std::path::{Path, PathBuf};

/// Why a directory could not be read.
#[derive(Debug, thiserror::Error)]
pub enum HfError {
    /// Not there yet.
    #[error("unimplemented")]
    Unimplemented,
}

/// An open model directory.
#[derive(Debug)]
pub struct HfDir {
    config: serde_json::Value,
}

impl HfDir {
    /// Maps and checks the files of a directory.
    ///
    /// # Errors
    /// When a file is missing, cannot be mapped, or breaks a rule of its format.
    pub fn open(_dir: &Path) -> Result<HfDir, HfError> {
        Err(HfError::Unimplemented)
    }

    /// `config.json`.
    pub fn config(&self) -> &serde_json::Value {
        &self.config
    }

    /// `generation_config.json`, if there is one.
    pub fn generation_config(&self) -> Option<&serde_json::Value> {
        None
    }

    /// The path of `tokenizer.json`, if there is one.
    pub fn tokenizer_json(&self) -> Option<PathBuf> {
        None
    }

    /// `tokenizer_config.json`, if there is one.
    pub fn tokenizer_config(&self) -> Option<&serde_json::Value> {
        None
    }

    /// `chat_template.jinja`, if there is one.
    pub fn chat_template(&self) -> Option<&str> {
        None
    }

    /// All tensors in the order of their names.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = TensorView<'_>> {
        std::iter::empty()
    }

    /// The tensor of this name.
    pub fn tensor(&self, _name: &str) -> Option<TensorView<'_>> {
        None
    }

    /// Length of all weight files together.
    pub fn file_bytes(&self) -> u64 {
        0
    }

    /// Tells the system that the mapped pages are not needed any more; see [`crate::gguf::Gguf::release_pages`].
    pub fn release_pages(&self) {}
}
