//! An opened model file, before its weights are loaded.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use lossy_formats::TensorView;
use lossy_formats::gguf::Gguf;
use lossy_formats::hf::HfDir;
use lossy_tokenizer::{ChatTemplate, Tokenizer};

use super::ModelInfo;
use super::account::Account;
use super::info::missing;
use super::info_gguf::{FACTORS, LONG_FACTORS, SHORT_FACTORS};
use super::info_hf::HfConfig;
use super::tensors::{self, BiasGroup, hf_name};
use super::{BiasRule, keys};
use crate::positions::RopeScaling;
use crate::{Fingerprint, LoadError, Unread};

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
    pub fn open(path: &Path) -> Result<ModelSource, LoadError> {
        if path.is_dir() {
            return ModelSource::from_hf(HfDir::open(path)?);
        }
        let is_of_directory = path.extension().is_some_and(|end| end == "safetensors" || end == "json");
        if is_of_directory && path.is_file() {
            return Err(LoadError::PartOfDirectory { path: path.to_owned() });
        }
        ModelSource::from_gguf(Gguf::open(path)?)
    }

    /// From a GGUF that is already open.
    pub fn from_gguf(gguf: Gguf) -> Result<ModelSource, LoadError> {
        let info = ModelInfo::from_gguf(&gguf)?;
        Ok(ModelSource::new(Files::Gguf(Arc::new(gguf)), info))
    }

    /// From a Hugging Face directory that is already open.
    pub fn from_hf(dir: HfDir) -> Result<ModelSource, LoadError> {
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
    pub fn tokenizer(&self) -> Result<Tokenizer, LoadError> {
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
    pub fn chat_template(&self) -> Result<Option<ChatTemplate>, LoadError> {
        Ok(match &self.files {
            Files::Gguf(gguf) => ChatTemplate::from_gguf(gguf.metadata())?,
            Files::Hf(dir) => ChatTemplate::from_hf(dir)?,
        })
    }

    /// Another chat template for this model, with its special tokens as variables.
    ///
    /// # Errors
    /// The template cannot be parsed.
    pub fn chat_template_of(&self, source: &str) -> Result<ChatTemplate, LoadError> {
        Ok(match &self.files {
            Files::Gguf(gguf) => ChatTemplate::for_gguf(gguf.metadata(), source)?,
            Files::Hf(dir) => ChatTemplate::for_hf(dir, source)?,
        })
    }

    /// A tensor by its GGUF name.
    pub fn tensor(&self, name: &str) -> Option<TensorView<'_>> {
        match &self.files {
            Files::Gguf(gguf) => gguf.tensor(name),
            Files::Hf(dir) => dir.tensor(&hf_name(name)?),
        }
    }

    /// Whether all that the files have is computed: tensors, shapes and keys of the configuration.
    ///
    /// # Errors
    /// A tensor is missing or of another shape, or the model has something that is not computed, or not known.
    pub fn check(&self) -> Result<(), LoadError> {
        Account::of(self)?.tell(&Unread::Refuse)
    }

    /// All tensors, in the order of the file.
    pub fn tensors(&self) -> Box<dyn Iterator<Item = TensorView<'_>> + '_> {
        match &self.files {
            Files::Gguf(gguf) => Box::new(gguf.tensors()),
            Files::Hf(dir) => Box::new(dir.tensors()),
        }
    }

    /// What the file calls the tensor that GGUF calls `name`.
    pub(crate) fn own_name(&self, name: &str) -> String {
        match &self.files {
            Files::Gguf(_) => name.to_string(),
            Files::Hf(_) => hf_name(name).unwrap_or_else(|| name.to_string()),
        }
    }

    /// A tensor by its GGUF name, which must have this shape (rows, columns).
    pub(crate) fn tensor_of_shape(&self, name: &str, wanted: &[usize]) -> Result<TensorView<'_>, LoadError> {
        let tensor = self
            .tensor(name)
            .ok_or_else(|| missing(&self.own_name(name), self.tensors().map(|tensor| tensor.name)))?;
        if tensor.shape != wanted {
            return Err(LoadError::TensorShape {
                name: tensor.name.to_string(),
                found: tensor.shape.to_vec(),
                wanted: wanted.to_vec(),
            });
        }
        Ok(tensor)
    }

    /// Whether the model has the biases of a group; `found` is the GGUF name of one that is there.
    pub(super) fn has_biases(&self, group: BiasGroup, found: Option<&str>) -> Result<bool, LoadError> {
        if group == BiasGroup::Qkv && self.info.family.qkv_bias == BiasRule::Required {
            return Ok(true);
        }
        match &self.files {
            Files::Gguf(_) => Ok(found.is_some()),
            Files::Hf(dir) => {
                let found = found.map(|name| self.own_name(name));
                HfConfig::new(dir.config())?.has_biases(group, found.as_deref())
            }
        }
    }

    /// Whether the output matrix is a tensor of its own, and not the embedding.
    pub(super) fn has_own_output(&self) -> Result<bool, LoadError> {
        let output = self.tensor(tensors::OUTPUT);
        let Files::Hf(dir) = &self.files else { return Ok(output.is_some()) };
        let is_tied = HfConfig::new(dir.config())?.is_tied()?;
        match (is_tied, output) {
            (false, Some(_)) => Ok(true),
            (true, None) => Ok(false),
            (false, None) => Err(LoadError::Config(
                "config.json: `tie_word_embeddings` is false, or absent, which means the same, but the model has no \
                 `lm_head.weight`"
                    .to_owned(),
            )),
            (true, Some(output)) => match self.tensor(tensors::EMBEDDING) {
                Some(embedding) if embedding.dtype == output.dtype && embedding.bytes == output.bytes => Ok(false),
                _ => Err(LoadError::Config(
                    "config.json: `tie_word_embeddings` is true, but the model has a `lm_head.weight` that differs from \
                     `model.embed_tokens.weight`"
                        .to_owned(),
                )),
            },
        }
    }

    /// Whether the rotation was made of this tensor, by the file's name.
    pub(super) fn is_of_rotation(&self, name: &str) -> bool {
        match &self.info.rope.scaling {
            RopeScaling::Factors(_) => self.gguf().is_some() && name == FACTORS,
            RopeScaling::LongRope(_) => {
                self.gguf().is_some() && [SHORT_FACTORS, LONG_FACTORS].contains(&name)
            }
            _ => false,
        }
    }

    /// What tells this model from others: a hash of its files. They are read whole the first time. Of `config.json` those
    /// keys count that the result may depend on.
    pub fn fingerprint(&self) -> Fingerprint {
        *self.fingerprint.get_or_init(|| {
            let release = || self.release_pages();
            match &self.files {
                Files::Gguf(gguf) => Fingerprint::of(gguf.files(), &release),
                Files::Hf(dir) => {
                    // What a tokenizer makes of a text is no part of what the model makes of tokens.
                    let config = keys::hf::of_result(dir.config());
                    Fingerprint::of(std::iter::once(config.as_bytes()).chain(dir.files()), &release)
                }
            }
        })
    }

    /// Tells the system that the mapped bytes are not needed soon.
    pub fn release_pages(&self) {
        match &self.files {
            Files::Gguf(gguf) => gguf.release_pages(),
            Files::Hf(dir) => dir.release_pages(),
        }
    }
}
