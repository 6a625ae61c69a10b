//! The fields of a chat request, besides those of every request.

use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::openai::form::FormFields;
use crate::openai::usage::StreamOptions;
use crate::request::SamplingFields;

/// A chat request.
#[derive(ToSchema)]
#[allow(dead_code)] // The schema of what two structs read.
pub struct ChatRequest {
    #[schema(inline)]
    #[serde(flatten)]
    sampling: SamplingFields,
    #[schema(inline)]
    #[serde(flatten)]
    form: FormFields,
    #[schema(inline)]
    #[serde(flatten)]
    chat: ChatFields,
}

/// What is to be answered, and in which form.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub struct ChatFields {
    /// the model's name; absent: the one that is served
    pub model: Option<String>,
    /// the conversation
    pub messages: Vec<Value>,
    /// piece by piece, as server-sent events
    pub stream: Option<bool>,
    /// what a stream has besides
    pub stream_options: Option<StreamOptions>,
    /// functions that the model may call
    pub tools: Option<Vec<Value>>,
    /// whether it may, must, or must not: `auto`, `none`, `required`, or a function's name
    pub tool_choice: Option<Value>,
    /// whether it may call several at once
    pub parallel_tool_calls: Option<bool>,
    /// log-probabilities of the tokens
    pub logprobs: Option<bool>,
    /// and of so many that were likely in their place
    pub top_logprobs: Option<u32>,
    /// how much the model is to think: `none`, `minimal`, `low`, `medium`, `high`; templates may know it
    pub reasoning_effort: Option<String>,
    /// most tokens of thinking
    #[serde(alias = "thinking_budget_tokens", alias = "reasoning_budget")]
    pub thinking_token_budget: Option<i64>,
    /// variables for the chat template
    pub chat_template_kwargs: Option<Map<String, Value>>,
    /// end the prompt with the words that open an answer; absent: yes
    pub add_generation_prompt: Option<bool>,
    /// whether a stream tells how far the prompt has been read
    pub return_progress: Option<bool>,
}

/// Fields that change an answer and are not computed, with what to do instead.
pub const REFUSED: [(&str, &str); 10] = [
    ("functions", "name functions in `tools`"),
    ("function_call", "use `tool_choice`"),
    ("audio", "answers are text"),
    ("continue_final_message", "use /v1/completions to continue a text"),
    ("web_search_options", "give the model a tool that searches"),
    ("prompt_logprobs", "use /v1/completions with `echo` and `logprobs`"),
    ("guided_regex", "use `grammar`"),
    ("guided_grammar", "use `grammar`"),
    ("guided_json", "use `response_format`"),
    ("min_tokens", "use `logit_bias` against the end of the text"),
];
