//! The fields of a request for a message, besides those of every request.

use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::error::ApiError;
use crate::request::SamplingFields;

/// A request for a message.
#[derive(ToSchema)]
#[allow(dead_code)] // The schema of what two structs read.
pub struct MessagesRequest {
    #[schema(inline)]
    #[serde(flatten)]
    sampling: SamplingFields,
    #[schema(inline)]
    #[serde(flatten)]
    message: MessagesFields,
}

/// What is to be answered, and in which form.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub struct MessagesFields {
    /// the model's name; absent: the one that is served
    pub model: Option<String>,
    /// most tokens of the answer; more than there is room for is no error. Counting needs none
    pub max_tokens: Option<i64>,
    /// the conversation
    pub messages: Vec<Value>,
    /// a text, or blocks of text
    pub system: Option<Value>,
    /// piece by piece, as server-sent events
    pub stream: Option<bool>,
    /// what the model may call
    pub tools: Option<Vec<Value>>,
    /// whether it may, must, or must not: `auto`, `any`, `none`, or a `tool`
    pub tool_choice: Option<Value>,
    /// texts at which the answer stops, and which are not part of it
    pub stop_sequences: Option<Vec<String>>,
    /// whether the model thinks before it answers, and most tokens of that
    pub thinking: Option<ThinkingFields>,
    /// the form of the answer, and how much the model is to think
    pub output_config: Option<OutputConfig>,
    /// the answer says why the cache missed
    pub diagnostics: Option<Map<String, Value>>,
    /// variables for the chat template
    pub chat_template_kwargs: Option<Map<String, Value>>,
}

/// Whether the model thinks.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub struct ThinkingFields {
    /// `enabled`, `adaptive` or `disabled`
    pub r#type: String,
    /// most tokens of thinking
    pub budget_tokens: Option<i64>,
}

impl ThinkingFields {
    /// Whether it does not.
    ///
    /// # Errors
    /// The type is none of those that are known.
    pub fn is_off(&self) -> Result<bool, ApiError> {
        match self.r#type.as_str() {
            "disabled" => Ok(true),
            "enabled" | "adaptive" => Ok(false),
            other => {
                let message = format!("thinking.type is `{other}`, but may be enabled, adaptive or disabled");
                Err(ApiError::invalid("thinking.type", message))
            }
        }
    }

    /// Most tokens of thinking.
    ///
    /// # Errors
    /// It is negative.
    pub fn budget(&self) -> Result<Option<usize>, ApiError> {
        let Some(n) = self.budget_tokens else { return Ok(None) };
        usize::try_from(n).map(Some).map_err(|_| {
            let message = format!("thinking.budget_tokens is {n}, but must be at least 0");
            ApiError::invalid("thinking.budget_tokens", message)
        })
    }
}

/// The form of the answer, and how much the model is to think.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub struct OutputConfig {
    /// `low`, `medium`, `high` and more; templates may know it
    pub effort: Option<String>,
    /// `json_schema` with a schema
    pub format: Option<OutputFormat>,
}

/// The form of the answer.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub struct OutputFormat {
    /// `json_schema`
    pub r#type: String,
    /// the schema
    pub schema: Option<Value>,
}

/// Fields that change an answer and are not computed, with what to do instead.
pub const REFUSED: [(&str, &str); 6] = [
    ("container", "no code is run here"),
    ("mcp_servers", "give the model the tools of the servers in `tools`, and call them yourself"),
    ("context_management", "leave out or sum up earlier messages before they are sent"),
    ("prefill", "use /v1/completions to continue a text"),
    ("stop", "use `stop_sequences`"),
    ("n", "a message is one answer"),
];
