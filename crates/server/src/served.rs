//! The model as requests see it: its names, its tokenizer and template, its settings and what they cost.

use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use lossy_engine::{Cache, KvScheme, ModelInfo};
use lossy_eval::Certificate;
use lossy_output::{Thinking, ThinkingFormat, ToolFormat, Vocabulary};
use lossy_tokenizer::{ChatTemplate, Tokenizer};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::error::ApiError;

/// A setting that a request may have, and what is known of its loss.
#[derive(Clone)]
pub struct Setting {
    /// where its sequences live
    pub cache: Arc<Cache>,
    /// what was measured; `None`: nothing was
    pub certificate: Option<Certificate>,
}

/// A model that is served.
pub struct Served {
    /// the name that requests use
    pub id: String,
    /// its file
    pub path: String,
    /// shapes and names
    pub info: ModelInfo,
    /// bytes of its weights in memory
    pub weight_bytes: usize,
    /// text to ids and back
    pub tokenizer: Tokenizer,
    /// messages to a prompt, if the model has it
    pub template: Option<ChatTemplate>,
    /// further variables of the template
    pub template_variables: Map<String, Value>,
    /// the usual setting, and those that a request may choose: at least one
    pub settings: Vec<Setting>,
    /// what is made of these when it is first needed
    pub made: Made,
}

/// What is made of a model when it is first needed, and when it was loaded.
pub struct Made {
    /// seconds since 1970
    pub(crate) created: u64,
    vocabulary: OnceLock<Result<Vocabulary, String>>,
    thinking: OnceLock<Thinking>,
}

impl Default for Made {
    fn default() -> Made {
        let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Made { created, vocabulary: OnceLock::new(), thinking: OnceLock::new() }
    }
}

/// What a setting costs, for whoever wants to know before using it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct LossReport {
    /// how keys and values are stored
    pub kv: String,
    /// how positions are told to the model
    pub positions: String,
    /// tokens of the context
    pub n_ctx: usize,
    /// bits of a cached key or value, scales included
    pub bits_per_value: f64,
    /// bytes of a cached token
    pub bytes_per_token: usize,
    /// `exact`, `measured`, or `not measured`
    pub status: &'static str,
    /// mean KL divergence from the exact cache, nats
    pub kl: Option<f64>,
    /// its standard error
    pub kl_se: Option<f64>,
    /// share of predictions with the same most probable token
    pub same_top: Option<f64>,
    /// perplexity over that of the exact cache
    pub ppl_ratio: Option<f64>,
    /// the texts that it was measured on
    pub texts: Vec<String>,
    /// tokens of the contexts that it was measured in
    pub measured_n_ctx: Option<usize>,
    /// predictions that were compared
    pub n_scored: Option<usize>,
    /// the command that measures it again
    pub command: Option<String>,
}

impl Setting {
    /// What it costs, as far as that is known.
    pub fn report(&self) -> LossReport {
        let (cache, known) = (&self.cache, self.certificate.as_ref());
        let status = match known {
            Some(_) => "measured",
            None if cache.kv().is_exact() => "exact",
            None => "not measured",
        };
        LossReport {
            kv: cache.kv().to_string(),
            positions: cache.positions().scheme().to_string(),
            n_ctx: cache.n_ctx(),
            bits_per_value: cache.bits_per_value(),
            bytes_per_token: cache.bytes_per_token(),
            status,
            kl: known.map(|known| known.loss.kl.value),
            kl_se: known.map(|known| known.loss.kl.se),
            same_top: known.map(|known| known.loss.same_top.value),
            ppl_ratio: known.map(|known| known.loss.ppl_ratio.value),
            texts: known.map(|known| known.texts.clone()).unwrap_or_default(),
            measured_n_ctx: known.map(|known| known.n_ctx),
            n_scored: known.map(|known| known.n_scored),
            command: known.map(|known| known.command.clone()),
        }
    }
}

impl Served {
    /// The usual setting.
    pub fn usual(&self) -> &Setting {
        &self.settings[0]
    }

    /// The setting that a request names.
    ///
    /// # Errors
    /// The operator does not allow it; the error has those that are allowed.
    pub fn setting(&self, kv: Option<&str>, positions: Option<&str>) -> Result<usize, ApiError> {
        let kv = match kv {
            None => None,
            Some(name) => {
                let scheme: KvScheme =
                    name.parse().map_err(|error| ApiError::invalid("kv", format!("kv: {error}")))?;
                Some(scheme.to_string())
            }
        };
        let usual = &self.usual().cache;
        let wanted_kv = kv.unwrap_or_else(|| usual.kv().to_string());
        let wanted_positions =
            positions.map_or_else(|| usual.positions().scheme().to_string(), str::to_string);
        let name = |setting: &Setting| {
            (setting.cache.kv().to_string(), setting.cache.positions().scheme().to_string())
        };
        let wanted = (wanted_kv, wanted_positions);
        self.settings.iter().position(|setting| name(setting) == wanted).ok_or_else(|| {
            let allowed: Vec<String> = self
                .settings
                .iter()
                .map(name)
                .map(|(kv, positions)| format!("kv {kv} with positions {positions}"))
                .collect();
            let param = if positions.is_some() { "positions" } else { "kv" };
            let message = format!(
                "kv {} with positions {} is not offered here; this server allows {}",
                wanted.0,
                wanted.1,
                allowed.join(", ")
            );
            ApiError::invalid(param, message)
        })
    }

    /// The template, for the conversation in a field of a request.
    ///
    /// # Errors
    /// The model has none.
    pub fn template(&self, field: &str) -> Result<&ChatTemplate, ApiError> {
        self.template.as_ref().ok_or_else(|| {
            ApiError::invalid(
                field,
                "the model has no chat template: use /v1/completions, or start the server with --chat-template",
            )
        })
    }

    /// The tokens as constraints need them; made when it is first asked for.
    ///
    /// # Errors
    /// The vocabulary cannot be used for constraints.
    pub fn vocabulary(&self) -> Result<&Vocabulary, ApiError> {
        let made = self.made.vocabulary.get_or_init(|| {
            Vocabulary::new(&self.tokenizer, self.info.n_vocab).map_err(|error| error.to_string())
        });
        made.as_ref().map_err(|message| ApiError::internal(message.clone()))
    }

    /// How the model calls tools.
    pub fn tool_format(&self) -> ToolFormat {
        ToolFormat::of_template(self.template.as_ref().map_or("", |template| template.source()))
    }

    /// How the model thinks, if it does.
    pub fn thinking_format(&self) -> Option<ThinkingFormat> {
        ThinkingFormat::of_template(self.template.as_ref()?.source())
    }

    /// The same, with its tokens.
    ///
    /// # Errors
    /// The vocabulary cannot be used for constraints.
    pub fn thinking(&self) -> Result<Option<&Thinking>, ApiError> {
        let Some(format) = self.thinking_format() else { return Ok(None) };
        let vocabulary = self.vocabulary()?;
        Ok(Some(self.made.thinking.get_or_init(|| Thinking::new(vocabulary, format))))
    }
}
