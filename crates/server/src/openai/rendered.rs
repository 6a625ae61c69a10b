//! What `…/render` answers: the tokens that a prompt becomes, and how an answer to it would be chosen.
//!
//! Routers ask for it before they choose a server: prompts that begin alike go where their beginning was read. The form is that of
//! vLLM's render endpoints, whose answer is the request that its engine would get. What constrains an answer (schemas, grammars,
//! tools) is not compiled here; the request itself is refused if it cannot be.

use serde::Serialize;
use utoipa::ToSchema;

use super::usage::StreamOptions;
use crate::app::App;
use crate::error::ApiError;
use crate::request::{SamplingFields, unique};

/// A prompt as tokens.
#[derive(Serialize, ToSchema)]
pub struct RenderedPrompt {
    request_id: String,
    /// the prompt
    token_ids: Vec<u32>,
    /// of pictures and sounds; null: texts only are read here
    features: Option<bool>,
    sampling_params: SamplingParams,
    /// as the request names it
    model: String,
    stream: bool,
    stream_options: Option<StreamOptions>,
    cache_salt: Option<String>,
    /// 0: requests are answered in the order in which they come
    priority: i32,
}

/// How an answer would be chosen, in vLLM's words.
#[derive(Clone, Serialize, ToSchema)]
struct SamplingParams {
    n: usize,
    temperature: f32,
    top_p: f32,
    /// 0: off
    top_k: usize,
    min_p: f32,
    repetition_penalty: f32,
    frequency_penalty: f32,
    presence_penalty: f32,
    /// null: a random one
    seed: Option<u64>,
    stop: Vec<String>,
    ignore_eos: bool,
    /// at most as many as there is room for
    max_tokens: usize,
}

/// What a request says besides its prompt.
pub struct Asked {
    /// what the name of an answer begins with
    pub prefix: &'static str,
    /// the field that the prompt stands in
    pub field: &'static str,
    /// the model's name
    pub model: Option<String>,
    /// whether a stream is wanted
    pub stream: Option<bool>,
    /// what it has besides
    pub stream_options: Option<StreamOptions>,
    /// most tokens of an answer that says nothing about it; `None`: as the server was started
    pub max_tokens: Option<usize>,
}

impl Asked {
    /// With its prompt.
    ///
    /// # Errors
    /// A field is wrong, or the prompt does not fit.
    pub fn with(
        &self,
        app: &App,
        sampling: &SamplingFields,
        prompt: Vec<u32>,
    ) -> Result<RenderedPrompt, ApiError> {
        let n = sampling.n(app.options.limits.n)?;
        let seed = sampling.seed(app.options.seed)?;
        let setting = app.served.setting(sampling.kv.as_deref(), sampling.positions.as_deref())?;
        let options = sampling.options(&app.options.defaults, app.served.info.n_vocab, seed)?;
        app.check_length(self.field, setting, prompt.len())?;
        let room = app.served.settings[setting].cache.n_ctx() - prompt.len();
        let max_tokens = if sampling.limit().is_some() {
            options.max_tokens
        } else {
            options.max_tokens.or(self.max_tokens)
        };
        let is_named = matches!(sampling.seed, Some(seed) if seed >= 0) || app.options.seed.is_some();
        let chosen = options.sampling;
        Ok(RenderedPrompt {
            request_id: unique(self.prefix),
            token_ids: prompt,
            features: None,
            sampling_params: SamplingParams {
                n,
                temperature: chosen.temperature,
                top_p: chosen.top_p,
                top_k: chosen.top_k,
                min_p: chosen.min_p,
                repetition_penalty: chosen.repeat_penalty,
                frequency_penalty: chosen.frequency_penalty,
                presence_penalty: chosen.presence_penalty,
                seed: is_named.then_some(seed),
                stop: options.stop,
                ignore_eos: options.ignore_eos,
                max_tokens: max_tokens.unwrap_or(room).min(room),
            },
            model: self.model.clone().unwrap_or_else(|| app.served.id.clone()),
            stream: self.stream == Some(true),
            stream_options: self.stream_options.clone(),
            cache_salt: sampling.cache_salt.clone(),
            priority: 0,
        })
    }
}
