//! A response: its items, its status, what it took.

use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::fields::ResponseFields;
use crate::conversation::{End, EndReason, TokenLogprobs};
use crate::error::ApiError;
use crate::openai::usage::{Head, now};
use crate::work::Timings;

/// How far an item or a response is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// it goes on
    InProgress,
    /// it is whole
    Completed,
    /// it broke off
    Incomplete,
    /// an error ended it
    Failed,
}

/// An item of a response's output.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Item {
    /// thinking
    Reasoning {
        /// its name
        id: String,
        /// always empty: the thinking itself is there
        summary: Vec<ContentPart>,
        /// the thinking
        content: Vec<ContentPart>,
        /// how far it is
        status: Status,
    },
    /// text
    Message {
        /// its name
        id: String,
        /// `assistant`
        role: &'static str,
        /// the text
        content: Vec<ContentPart>,
        /// how far it is
        status: Status,
    },
    /// a call of a function
    FunctionCall {
        /// its name
        id: String,
        /// what the result names
        call_id: String,
        /// the function
        name: String,
        /// JSON
        arguments: String,
        /// how far it is
        status: Status,
    },
    /// a call of a custom tool
    CustomToolCall {
        /// its name
        id: String,
        /// what the result names
        call_id: String,
        /// the tool
        name: String,
        /// any text
        input: String,
        /// how far it is
        status: Status,
    },
}

/// A part of an item's content.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ContentPart {
    /// what is said
    OutputText {
        /// the text
        text: String,
        /// always empty
        annotations: Vec<Value>,
        /// of its tokens, if they were asked for
        logprobs: Vec<TokenLogprobs>,
    },
    /// what is thought
    ReasoningText {
        /// the text
        text: String,
    },
}

/// Why a response is not whole.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct IncompleteDetails {
    reason: &'static str,
}

/// What ended a response.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ResponseError {
    code: &'static str,
    message: String,
}

/// Tokens of a response.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ResponseUsage {
    /// of the prompt
    input_tokens: usize,
    input_tokens_details: InputTokensDetails,
    /// of the answer
    output_tokens: usize,
    output_tokens_details: OutputTokensDetails,
    /// both
    total_tokens: usize,
}

/// Tokens of the prompt, in part.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct InputTokensDetails {
    /// those that were not read anew
    cached_tokens: usize,
    /// those that were read anew, and are kept
    cache_write_tokens: usize,
}

/// Tokens of the answer, in part.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct OutputTokensDetails {
    /// those of thinking
    reasoning_tokens: usize,
}

impl ResponseUsage {
    /// Of an answer with so many tokens of thinking.
    pub fn of(timings: &Timings, n_thinking: usize) -> ResponseUsage {
        let input_tokens = timings.cache_n + timings.prompt_n;
        ResponseUsage {
            input_tokens,
            input_tokens_details: InputTokensDetails {
                cached_tokens: timings.cache_n,
                cache_write_tokens: timings.kept_n(),
            },
            output_tokens: timings.predicted_n,
            output_tokens_details: OutputTokensDetails { reasoning_tokens: n_thinking },
            total_tokens: input_tokens + timings.predicted_n,
        }
    }
}

/// A response, whole or in the making.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ResponseObject {
    id: String,
    object: &'static str,
    created_at: u64,
    completed_at: Option<u64>,
    model: String,
    status: Status,
    error: Option<ResponseError>,
    incomplete_details: Option<IncompleteDetails>,
    /// what the model thought, said and called, in its order
    pub output: Vec<Item>,
    usage: Option<ResponseUsage>,
    /// counts and times, and why the cache missed
    timings: Option<Timings>,
    instructions: Option<String>,
    max_output_tokens: Option<i64>,
    metadata: Map<String, Value>,
    parallel_tool_calls: bool,
    previous_response_id: Option<String>,
    prompt_cache_key: Option<String>,
    reasoning: Map<String, Value>,
    store: bool,
    temperature: f32,
    text: Value,
    tool_choice: Value,
    tools: Vec<Value>,
    top_p: f32,
    truncation: &'static str,
}

impl ResponseObject {
    /// Of a request whose answer has not begun.
    pub fn new(fields: &ResponseFields, model: &str, (temperature, top_p): (f32, f32)) -> ResponseObject {
        let head = Head::new("resp", "response", model);
        let effort = fields.reasoning.as_ref().and_then(|reasoning| reasoning.effort.clone());
        let format = fields.text.as_ref().and_then(|text| text.format.as_ref());
        let mut text =
            serde_json::json!({"format": {"type": format.map_or("text", |format| &format.r#type)}});
        if let Some(schema) = format.and_then(|format| format.schema.as_ref()) {
            text["format"]["schema"] = schema.clone();
        }
        ResponseObject {
            id: head.id.replacen('-', "_", 1),
            object: head.object,
            created_at: head.created,
            completed_at: None,
            model: head.model,
            status: Status::InProgress,
            error: None,
            incomplete_details: None,
            output: Vec::new(),
            usage: None,
            timings: None,
            instructions: fields.instructions.clone(),
            max_output_tokens: fields.max_output_tokens,
            metadata: fields.metadata.clone().unwrap_or_default(),
            parallel_tool_calls: fields.parallel_tool_calls.unwrap_or(true),
            previous_response_id: None,
            prompt_cache_key: fields.prompt_cache_key.clone(),
            reasoning: Map::from_iter([
                ("effort".to_string(), effort.into()),
                ("summary".to_string(), Value::Null),
            ]),
            store: false,
            temperature,
            text,
            tool_choice: fields.tool_choice.clone().unwrap_or_else(|| "auto".into()),
            tools: fields.tools.clone().unwrap_or_default(),
            top_p,
            truncation: "disabled",
        }
    }

    /// It has ended by itself.
    pub fn end(&mut self, end: &End, n_thinking: usize) {
        let is_cut = end.reason == EndReason::Length;
        self.status = if is_cut { Status::Incomplete } else { Status::Completed };
        self.incomplete_details = is_cut.then_some(IncompleteDetails { reason: "max_output_tokens" });
        self.completed_at = Some(now());
        self.usage = Some(ResponseUsage::of(&end.timings, n_thinking));
        self.timings = Some(end.timings.clone());
    }

    /// An error has ended it.
    pub fn fail(&mut self, error: &ApiError) {
        self.status = Status::Failed;
        self.error = Some(ResponseError { code: "server_error", message: error.message().to_string() });
    }

    /// How far it is.
    pub fn status(&self) -> Status {
        self.status
    }
}
