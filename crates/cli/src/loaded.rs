//! A model that is ready to run, with its tokenizer and chat template.

use std::path::Path;

use anyhow::{Context, Result, bail};
use lossy_engine::{Engine, EngineOptions, ModelInfo, ModelSource, SamplingOptions};
use lossy_tokenizer::{ChatTemplate, Tokenizer};

use crate::terminal::Spinner;

/// A model in memory.
pub struct Loaded {
    /// weights and threads
    pub engine: Engine,
    /// text to ids and back
    pub tokenizer: Tokenizer,
    /// what turns messages into a prompt, if the model has it
    pub template: Option<ChatTemplate>,
    /// shapes and names
    pub info: ModelInfo,
}

impl Loaded {
    /// Loads the model at `path`.
    pub fn open(path: &Path, options: &EngineOptions) -> Result<Loaded> {
        let _spinner = Spinner::start("loading the model");
        let context = || path.display().to_string();
        let source = ModelSource::open(path).with_context(context)?;
        Ok(Loaded {
            tokenizer: source.tokenizer().with_context(context)?,
            template: source.chat_template().with_context(context)?,
            info: source.info().clone(),
            engine: Engine::load(&source, options).with_context(context)?,
        })
    }

    /// Fails if a token of `--logit-bias` is not in the vocabulary.
    pub fn check(&self, sampling: &SamplingOptions) -> Result<()> {
        let n_vocab = self.engine.n_vocab();
        match sampling.logit_bias.iter().find(|(token, _)| *token as usize >= n_vocab) {
            Some((token, _)) => {
                bail!("--logit-bias: token {token} is not among the {n_vocab} of the vocabulary")
            }
            None => Ok(()),
        }
    }
}
