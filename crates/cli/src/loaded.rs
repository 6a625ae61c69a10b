//! A model that is ready to run, with its tokenizer and chat template.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Error, Result, bail};
use lossy_engine::{
    Cache, CacheOptions, Calibrated, Engine, EngineOptions, KvScheme, ModelInfo, ModelSource,
    SamplingOptions, SettingError,
};
use lossy_tokenizer::{ChatTemplate, Message, RenderOptions, Tokenizer, TokenizerError};
use serde_json::{Map, Value};

use crate::terminal::{Spinner, note};
use crate::units::grouped;
use crate::{directories, hub, interrupt};

/// Opens a model without its weights.
///
/// # Errors
/// It is no model, or one that cannot be run; the error names the file.
pub fn open(path: &Path) -> Result<ModelSource> {
    if path.is_dir() && !path.join("config.json").exists() {
        bail!("{} is a directory without config.json: name one that has it, or a GGUF file", path.display());
    }
    ModelSource::open(path).map_err(in_file(path)).map_err(|error| hub::with_mending(path, error))
}

/// Names the file in an error, unless it does so itself.
pub fn in_file<E: Into<Error>>(path: &Path) -> impl Fn(E) -> Error {
    let name = path.display().to_string();
    move |error| {
        let error = error.into();
        if error.to_string().starts_with(&name) { error } else { error.context(name.clone()) }
    }
}

/// A model in memory.
pub struct Loaded {
    path: PathBuf,
    /// weights and threads
    pub engine: Engine,
    /// where sequences live
    pub cache: Arc<Cache>,
    /// how it was made
    pub cache_options: CacheOptions,
    /// text to ids and back
    pub tokenizer: Tokenizer,
    /// what turns messages into a prompt, once it was asked for
    template: OnceCell<Option<ChatTemplate>>,
    /// further variables of the template
    pub template_variables: Map<String, Value>,
    /// shapes and names
    pub info: ModelInfo,
}

/// Where the statistics of calibrated models are kept.
pub fn calibrations() -> Option<PathBuf> {
    directories::cache_home().map(|home| home.join("lossy").join("calibration"))
}

/// A cache, after calibration if its scheme needs that and it was not done before.
///
/// # Errors
/// The options do not fit the model, or calibration fails or is stopped by Ctrl-C.
pub fn make_cache(
    engine: &mut Engine,
    options: &CacheOptions,
    spinner: &Spinner,
) -> Result<Arc<Cache>, SettingError> {
    let what = options.kv.as_ref().map_or(String::new(), |scheme| format!("calibrating {scheme}"));
    let cache = engine.cache_with(options, &mut |progress| {
        spinner.measured(&what, progress.n_done, progress.n_total);
        interrupt::go_on()
    })?;
    if let Some(Calibrated { n_tokens: Some(_), file: None, .. }) = cache.calibrated() {
        spinner.hide(|| note(&lossy_eval::Note::CalibrationNotSaved.to_string()));
    }
    Ok(cache)
}

impl Loaded {
    /// Loads the model at `path`, and makes a cache.
    pub fn open(path: &Path, options: &EngineOptions, cache_options: CacheOptions) -> Result<Loaded> {
        let spinner = Spinner::start("loading the model");
        let source = open(path)?;
        let tokenizer = source.tokenizer().map_err(in_file(path))?;
        let mut engine = Engine::load(&source, options).map_err(in_file(path))?;
        let cache = make_cache(&mut engine, &cache_options, &spinner).map_err(in_file(path))?;
        let info = source.info().clone();
        let (path, template, template_variables) = (path.to_path_buf(), OnceCell::new(), Map::new());
        Ok(Loaded { path, engine, cache, cache_options, tokenizer, template, template_variables, info })
    }

    /// From now on sequences are stored in another KV scheme.
    ///
    /// # Errors
    /// The scheme does not fit the model, or calibration fails or is stopped by Ctrl-C.
    pub fn set_kv(&mut self, scheme: &KvScheme, spinner: &Spinner) -> Result<(), SettingError> {
        self.cache_options.kv = Some(scheme.clone());
        self.cache = make_cache(&mut self.engine, &self.cache_options, spinner)?;
        Ok(())
    }

    /// Says how a context beyond the trained one is told to the model.
    pub fn tell_positions(&self) {
        let (n_ctx, n_trained) = (self.cache.n_ctx(), self.info.n_ctx_train);
        if n_ctx > n_trained {
            let positions = self.cache.positions();
            note(&format!(
                "a context of {} tokens on a model trained for {}: positions {}, good for {} at most",
                grouped(n_ctx as u64),
                grouped(n_trained as u64),
                positions.scheme(),
                grouped(positions.longest() as u64)
            ));
        }
    }

    /// What turns messages into a prompt, if the model has it. It is parsed when it is first asked for, so that a
    /// template with a mistake stops only what needs it.
    ///
    /// # Errors
    /// The template has a mistake.
    pub fn template(&self) -> Result<Option<&ChatTemplate>> {
        if self.template.get().is_none() {
            let template = self.engine.source().chat_template().map_err(in_file(&self.path))?;
            self.template.set(template).ok().context("the template is set once")?;
        }
        Ok(self.template.get().and_then(Option::as_ref))
    }

    /// Uses another template than the model's.
    pub fn use_template(&mut self, template: ChatTemplate) {
        self.template = OnceCell::from(Some(template));
    }

    /// The engine, and the template if there is one, for whoever runs them otherwise.
    pub fn into_parts(self) -> (Engine, Option<ChatTemplate>) {
        (self.engine, self.template.into_inner().flatten())
    }

    /// How a conversation is rendered up to where the model answers.
    pub fn render_options(&self) -> RenderOptions {
        RenderOptions {
            add_generation_prompt: true,
            extra: self.template_variables.clone(),
            ..RenderOptions::default()
        }
    }

    /// Fails if the chat template has no place for a system message.
    pub fn check_system(&self, system: &str) -> Result<()> {
        let Some(template) = self.template()? else { bail!("the model has no chat template") };
        match template.render(&[Message::system(system), Message::user("?")], &self.render_options()) {
            Err(TokenizerError::LostMessage { number: 1, .. }) => {
                bail!("the model's chat template has no place for a system message: put it into the prompt")
            }
            rendered => Ok(rendered.map(drop)?),
        }
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
