//! An opened model file, before its weights are loaded.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use lossy_formats::TensorView;
use lossy_formats::gguf::Gguf;
use lossy_formats::hf::HfDir;
use lossy_tokenizer::{ChatTemplate, Tokenizer};

use super::ModelInfo;
use super::names::hf_name;
use crate::{EngineError, Fingerprint};

/// A GGUF file or a Hugging Face directory. Clones share the mapping.
#[derive(Clone)]
pub struct ModelSource {
    files: Files,
    info: Arc<ModelInfo>,
    fingerprint: Arc<OnceLock<Fingerprint>>,
}

#[derive(Clone)]
enum Files {
    Gguf(Arc<Gguf>),
    Hf(Arc<HfDir>),
}

impl ModelSource {
    /// Opens a GGUF file (a split one by any of its parts) or a Hugging Face directory.
    ///
    /// # Errors
    /// The file cannot be read, is malformed, or is a model of an architecture that cannot be computed.
    pub fn open(path: &Path) -> Result<ModelSource, EngineError> {
        if path.is_dir() {
            ModelSource::from_hf(HfDir::open(path)?)
        } else {
            ModelSource::from_gguf(Gguf::open(path)?)
        }
    }

    /// From a GGUF that is already open.
    pub fn from_gguf(gguf: Gguf) -> Result<ModelSource, EngineError> {
        let info = ModelInfo::from_gguf(&gguf)?;
        Ok(ModelSource::new(Files::Gguf(Arc::new(gguf)), info))
    }

    /// From a Hugging Face directory that is already open.
    pub fn from_hf(dir: HfDir) -> Result<ModelSource, EngineError> {
        let info = ModelInfo::from_hf(&dir)?;
        Ok(ModelSource::new(Files::Hf(Arc::new(dir)), info))
    }

    fn new(files: Files, info: ModelInfo) -> ModelSource {
        ModelSource { files, info: Arc::new(info), fingerprint: Arc::default() }
    }

    /// Shapes and names, as the file states them.
    pub fn info(&self) -> &ModelInfo {
        &self.info
    }

    /// The GGUF, if it is one.
    pub fn gguf(&self) -> Option<&Gguf> {
        match &self.files {
            Files::Gguf(gguf) => Some(gguf),
            Files::Hf(_) => None,
        }
    }

    /// The Hugging Face directory, if it is one.
    pub fn hf(&self) -> Option<&HfDir> {
        match &self.files {
            Files::Gguf(_) => None,
            Files::Hf(dir) => Some(dir),
        }
    }

    /// The tokenizer of the file.
    ///
    /// # Errors
    /// The file has none, or one that cannot be built.
    pub fn tokenizer(&self) -> Result<Tokenizer, EngineError> {
        Ok(self.load_tokenizer()?)
    }

    /// The same, with the error of a tokenizer alone.
    pub(crate) fn load_tokenizer(&self) -> Result<Tokenizer, lossy_tokenizer::TokenizerError> {
        match &self.files {
            Files::Gguf(gguf) => Tokenizer::from_gguf(gguf.metadata()),
            Files::Hf(dir) => Tokenizer::from_hf_dir(dir),
        }
    }

    /// The chat template of the file, if it has one.
    ///
    /// # Errors
    /// The template cannot be parsed.
    pub fn chat_template(&self) -> Result<Option<ChatTemplate>, EngineError> {
        Ok(match &self.files {
            Files::Gguf(gguf) => ChatTemplate::from_gguf(gguf.metadata())?,
            Files::Hf(dir) => ChatTemplate::from_hf(dir)?,
        })
    }

    /// A tensor by its GGUF name.
    pub(crate) fn tensor(&self, name: &str) -> Option<TensorView<'_>> {
        match &self.files {
            Files::Gguf(gguf) => gguf.tensor(name),
            Files::Hf(dir) => dir.tensor(&hf_name(name)?),
        }
    }

    /// A tensor by its GGUF name, which must have this shape (rows, columns).
    pub(crate) fn tensor_of_shape(
        &self,
        name: &str,
        wanted: &[usize],
    ) -> Result<TensorView<'_>, EngineError> {
        let tensor = self.tensor(name).ok_or_else(|| EngineError::MissingTensor(name.to_string()))?;
        if tensor.shape != wanted {
            return Err(EngineError::TensorShape {
                name: name.to_string(),
                found: tensor.shape.to_vec(),
                wanted: wanted.to_vec(),
            });
        }
        Ok(tensor)
    }

    /// What tells this model from others: a hash of its files. They are read whole the first time.
    pub fn fingerprint(&self) -> Fingerprint {
        *self.fingerprint.get_or_init(|| {
            let release = || self.release_pages();
            match &self.files {
                Files::Gguf(gguf) => Fingerprint::of(gguf.files(), &release),
                Files::Hf(dir) => {
                    // What a tokenizer makes of a text is no part of what the model makes of tokens.
                    let config = dir.config().to_string();
                    Fingerprint::of(std::iter::once(config.as_bytes()).chain(dir.files()), &release)
                }
            }
        })
    }

    /// Tells the system that the mapped bytes are not needed soon.
    pub(crate) fn release_pages(&self) {
        match &self.files {
            Files::Gguf(gguf) => gguf.release_pages(),
            Files::Hf(dir) => dir.release_pages(),
        }
    }
}
