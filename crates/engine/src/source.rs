//! An opened model file, before its weights are loaded.

use std::path::Path;

use crate::{EngineError, ModelInfo};

/// A GGUF file or a Hugging Face directory.
pub enum ModelSource {}

impl ModelSource {
    /// Opens a GGUF file (split ones by any part) or a Hugging Face directory.
    pub fn open(_path: &Path) -> Result<ModelSource, EngineError> {
        todo!()
    }

    /// Shapes and names, as the file states them.
    pub fn info(&self) -> &ModelInfo {
        match *self {}
    }

    /// The GGUF, if it is one (for `inspect`).
    pub fn gguf(&self) -> Option<&lossy_formats::gguf::Gguf> {
        match *self {}
    }

    /// The Hugging Face directory, if it is one.
    pub fn hf(&self) -> Option<&lossy_formats::hf::HfDir> {
        match *self {}
    }

    /// The tokenizer of the file.
    pub fn tokenizer(&self) -> Result<lossy_tokenizer::Tokenizer, EngineError> {
        match *self {}
    }

    /// The chat template of the file, if it has one.
    pub fn chat_template(&self) -> Result<Option<lossy_tokenizer::ChatTemplate>, EngineError> {
        match *self {}
    }
}
