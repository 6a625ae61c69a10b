//! An answer in the words of a message.

use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::conversation::{Answer, Block, Call, End, EndReason};
use crate::request::unique;
use crate::work::{CacheMiss, MissReason, Timings};

/// A whole message.
#[derive(Debug, Serialize, ToSchema)]
pub struct MessageAnswer {
    id: String,
    r#type: &'static str,
    role: &'static str,
    model: String,
    /// thinking, text and calls, in their order
    content: Vec<ContentBlock>,
    /// `end_turn`, `max_tokens`, `stop_sequence` or `tool_use`; null in the first event of a stream
    stop_reason: Option<&'static str>,
    /// the text at which it stopped
    stop_sequence: Option<String>,
    usage: MessageUsage,
    /// why the cache missed, if that was asked for
    #[serde(skip_serializing_if = "Option::is_none")]
    diagnostics: Option<Diagnostics>,
    /// counts and times; absent in a stream's first event
    #[serde(skip_serializing_if = "Option::is_none")]
    timings: Option<Timings>,
}

/// A block of a message.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ContentBlock {
    /// thinking
    Thinking {
        /// the thinking
        thinking: String,
        /// always empty: nothing is signed here
        signature: String,
    },
    /// text
    Text {
        /// the text
        text: String,
    },
    /// a call
    ToolUse {
        /// what the result names
        id: String,
        /// the tool
        name: String,
        /// its arguments
        input: Map<String, Value>,
    },
}

/// Tokens of a message.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct MessageUsage {
    /// of the prompt: those that were neither cached nor will be
    input_tokens: usize,
    /// of the prompt: those that were not read anew
    cache_read_input_tokens: usize,
    /// of the prompt: those that were read anew, and are kept
    cache_creation_input_tokens: usize,
    /// of the answer
    pub output_tokens: usize,
}

/// Why the cache did not have all of a prompt.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Diagnostics {
    cache_miss_reason: Option<CacheMissReason>,
}

/// Why, and how much.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct CacheMissReason {
    r#type: &'static str,
    /// tokens that were read again
    cache_missed_input_tokens: usize,
}

impl Diagnostics {
    /// Of a miss in a prompt of so many tokens.
    pub fn of(miss: Option<&CacheMiss>, n_prompt: usize) -> Diagnostics {
        let reason = |miss: &CacheMiss| CacheMissReason {
            r#type: match miss.reason {
                MissReason::MessagesChanged => "messages_changed",
                MissReason::SystemChanged => "system_changed",
                MissReason::ToolsChanged => "tools_changed",
                MissReason::TemplateChanged | MissReason::SettingChanged => "model_changed",
                MissReason::FirstSeen => "previous_message_not_found",
                MissReason::Evicted | MissReason::Damaged => "unavailable",
            },
            cache_missed_input_tokens: n_prompt.saturating_sub(miss.token),
        };
        Diagnostics { cache_miss_reason: miss.map(reason) }
    }
}

impl MessageUsage {
    /// Of counts.
    pub fn of(timings: &Timings) -> MessageUsage {
        let kept = timings.kept_n();
        MessageUsage {
            input_tokens: timings.prompt_n - kept,
            cache_read_input_tokens: timings.cache_n,
            cache_creation_input_tokens: kept,
            output_tokens: timings.predicted_n,
        }
    }
}

impl ContentBlock {
    fn of(block: &Block) -> ContentBlock {
        match block {
            Block::Thinking(text) => {
                ContentBlock::Thinking { thinking: text.clone(), signature: String::new() }
            }
            Block::Text(text) => ContentBlock::Text { text: text.clone() },
            Block::Call(call) => ContentBlock::ToolUse {
                id: tool_use_id(&call.id),
                name: call.name.clone(),
                input: input(call),
            },
        }
    }
}

/// The arguments of a call. Those that broke off are no object: the text is there as it is.
fn input(call: &Call) -> Map<String, Value> {
    match serde_json::from_str(&call.arguments) {
        Ok(Value::Object(input)) => input,
        _ if call.arguments.trim().is_empty() => Map::new(),
        _ => Map::from_iter([("INVALID_JSON".to_string(), call.arguments.clone().into())]),
    }
}

/// A call's name as this interface's clients know them.
pub fn tool_use_id(id: &str) -> String {
    id.replacen("call_", "toolu_", 1)
}

/// Why a message ended, and the text at which it stopped.
pub fn stop(end: &End, stops: &[String]) -> (&'static str, Option<String>) {
    match end.reason {
        EndReason::EndOfText => ("end_turn", None),
        EndReason::Calls => ("tool_use", None),
        EndReason::Length => ("max_tokens", None),
        EndReason::Stop(index) => ("stop_sequence", stops.get(index).cloned()),
    }
}

/// The blocks of an answer; white space between them is none.
pub fn blocks(answer: &Answer) -> Vec<ContentBlock> {
    let is_said = |block: &&Block| !matches!(block, Block::Text(text) if text.trim().is_empty());
    let mut blocks: Vec<ContentBlock> = answer.blocks.iter().filter(is_said).map(ContentBlock::of).collect();
    if blocks.is_empty() {
        blocks.push(ContentBlock::Text { text: answer.text() });
    }
    blocks
}

impl MessageAnswer {
    /// Nothing has been said yet.
    pub fn begun(model: &str, usage: MessageUsage, diagnostics: Option<Diagnostics>) -> MessageAnswer {
        MessageAnswer {
            id: unique("msg_"),
            r#type: "message",
            role: "assistant",
            model: model.to_string(),
            content: Vec::new(),
            stop_reason: None,
            stop_sequence: None,
            usage,
            diagnostics,
            timings: None,
        }
    }

    /// Of an answer that has ended.
    pub fn of(answer: &Answer, model: &str, stops: &[String], wants_diagnostics: bool) -> MessageAnswer {
        let end = answer.end.as_ref();
        let timings = end.map(|end| end.timings.clone()).unwrap_or_default();
        let (stop_reason, stop_sequence) = end.map_or(("end_turn", None), |end| stop(end, stops));
        let diagnostics = wants_diagnostics
            .then(|| Diagnostics::of(timings.cache_miss.as_ref(), timings.cache_n + timings.prompt_n));
        MessageAnswer {
            content: blocks(answer),
            stop_reason: Some(stop_reason),
            stop_sequence,
            timings: Some(timings.clone()),
            ..MessageAnswer::begun(model, MessageUsage::of(&timings), diagnostics)
        }
    }
}

/// The block as it begins in a stream, before anything is in it.
pub fn opened(block: &ContentBlock) -> Value {
    match block {
        ContentBlock::Thinking { .. } => json!({"type": "thinking", "thinking": "", "signature": ""}),
        ContentBlock::Text { .. } => json!({"type": "text", "text": ""}),
        ContentBlock::ToolUse { id, name, .. } => {
            json!({"type": "tool_use", "id": id, "name": name, "input": {}})
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_that_broke_off_are_there_as_they_are() {
        let of = |arguments: &str| input(&Call { arguments: arguments.to_string(), ..Call::default() });
        assert_eq!(Value::Object(of(r#"{"a": [1]}"#)), json!({"a": [1]}));
        assert_eq!(Value::Object(of(r#"{"a": [1"#)), json!({"INVALID_JSON": "{\"a\": [1"}));
        assert_eq!(Value::Object(of("")), json!({}));
    }

    #[test]
    fn a_prompts_tokens_are_counted_once() {
        let usage = MessageUsage::of(&Timings { cache_n: 256, prompt_n: 300, ..Timings::default() });
        let counts = (usage.input_tokens, usage.cache_read_input_tokens, usage.cache_creation_input_tokens);
        assert_eq!(counts, (44, 256, 256));
        // A prompt that is cached up to its last token.
        let usage = MessageUsage::of(&Timings { cache_n: 511, prompt_n: 1, ..Timings::default() });
        assert_eq!((usage.input_tokens, usage.cache_creation_input_tokens), (0, 1));
    }
}
