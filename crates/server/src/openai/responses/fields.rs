//! The fields of a request for a response, besides those of every request.

use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::request::SamplingFields;

/// A request for a response.
#[derive(ToSchema)]
#[allow(dead_code)] // The schema of what two structs read.
pub struct ResponseRequest {
    #[schema(inline)]
    #[serde(flatten)]
    sampling: SamplingFields,
    #[schema(inline)]
    #[serde(flatten)]
    response: ResponseFields,
}

/// What is to be answered, and in which form.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub struct ResponseFields {
    /// the model's name; absent: the one that is served
    pub model: Option<String>,
    /// a text, or items: messages, calls and their results, reasoning
    pub input: Value,
    /// a system message before all others
    pub instructions: Option<String>,
    /// piece by piece, as server-sent events
    pub stream: Option<bool>,
    /// what the model may call: functions, and custom tools, whose input is text
    pub tools: Option<Vec<Value>>,
    /// whether it may, must, or must not: `auto`, `none`, `required`, a tool, or a list of those that are allowed
    pub tool_choice: Option<Value>,
    /// whether it may call several at once
    pub parallel_tool_calls: Option<bool>,
    /// most tokens of the response, thinking included; more than there is room for is no error
    pub max_output_tokens: Option<i64>,
    /// log-probabilities of so many tokens that were likely in the place of each
    pub top_logprobs: Option<u32>,
    /// `message.output_text.logprobs`: log-probabilities of the tokens; others change nothing here
    pub include: Option<Vec<String>>,
    /// how much the model is to think
    pub reasoning: Option<Reasoning>,
    /// the form of the text
    pub text: Option<TextFields>,
    /// most tokens of thinking
    pub thinking_token_budget: Option<i64>,
    /// variables for the chat template
    pub chat_template_kwargs: Option<Map<String, Value>>,
    /// comes back as it is
    pub metadata: Option<Map<String, Value>>,
    /// comes back as it is; every prompt is looked for in the cache
    pub prompt_cache_key: Option<String>,
}

/// How much the model is to think.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub struct Reasoning {
    /// `none`, `minimal`, `low`, `medium`, `high`; templates may know it
    pub effort: Option<String>,
}

/// The form of the text.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub struct TextFields {
    /// `text`, `json_object`, or `json_schema` with a schema
    pub format: Option<TextFormat>,
}

/// The form of the text.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub struct TextFormat {
    /// `text`, `json_object` or `json_schema`
    pub r#type: String,
    /// with `json_schema`: the schema
    pub schema: Option<Value>,
}

/// Fields that change a response and are not computed, with what to do instead.
pub const REFUSED: [(&str, &str); 8] = [
    ("previous_response_id", "this server keeps no responses: send all items in `input`"),
    ("conversation", "this server keeps no conversations: send all items in `input`"),
    ("background", "wait for the response, or stream it"),
    ("prompt", "this server keeps no prompts: send the text in `instructions` and `input`"),
    ("context_management", "leave out or sum up earlier items before they are sent"),
    ("moderation", "no moderation model is served here"),
    ("n", "a response is one answer"),
    ("stop", "the interface has no stop texts: use /v1/chat/completions"),
];
