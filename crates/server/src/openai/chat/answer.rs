//! An answer in the words of a chat: whole, and piece by piece.

use serde::Serialize;
use utoipa::ToSchema;

use crate::conversation::{Answer, EndReason, Piece};

/// What is new in an answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct Delta {
    /// who speaks; in the first piece
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<&'static str>,
    /// text
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// thinking
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
    /// the same, under vLLM's name
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
    /// calls, piece by piece
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<CallDelta>,
}

/// What is new in a call.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct CallDelta {
    /// which of the calls
    pub index: usize,
    /// its name; in the first piece
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// `function`; in the first piece
    #[serde(skip_serializing_if = "Option::is_none")]
    pub r#type: Option<&'static str>,
    /// the function
    pub function: FunctionDelta,
}

/// What is new in the call of a function.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct FunctionDelta {
    /// its name; in the first piece
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// JSON
    #[serde(skip_serializing_if = "String::is_empty")]
    pub arguments: String,
}

/// A whole message.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct AnswerMessage {
    /// who speaks
    pub role: &'static str,
    /// text; null where there are only calls
    pub content: Option<String>,
    /// thinking
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
    /// calls
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<Call>,
}

/// A call.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct Call {
    /// its name
    pub id: String,
    /// `function`
    pub r#type: &'static str,
    /// what is called
    pub function: Function,
}

/// A function and what it is called with.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct Function {
    /// its name
    pub name: String,
    /// JSON
    pub arguments: String,
}

impl Delta {
    /// Of a new piece; `None` if there is no word for it.
    pub fn of(piece: Piece) -> Option<Delta> {
        let call = |index, id: Option<String>, function| {
            let r#type = id.is_some().then_some("function");
            Some(Delta { tool_calls: vec![CallDelta { index, id, r#type, function }], ..Delta::default() })
        };
        match piece {
            Piece::Text(text) => Some(Delta { content: Some(text), ..Delta::default() }),
            Piece::Thinking(text) => {
                let (reasoning_content, reasoning) = (Some(text.clone()), Some(text));
                Some(Delta { reasoning_content, reasoning, ..Delta::default() })
            }
            Piece::CallBegins { index, id, name } => {
                call(index, Some(id), FunctionDelta { name: Some(name), arguments: String::new() })
            }
            Piece::CallArguments { index, text } => {
                call(index, None, FunctionDelta { name: None, arguments: text })
            }
            Piece::CallEnds { .. } => None,
        }
    }
}

impl AnswerMessage {
    /// Of an answer.
    pub fn of(answer: &Answer) -> AnswerMessage {
        let (text, thinking) = (answer.text(), answer.thinking());
        let call = |call: &crate::conversation::Call| {
            let function = Function { name: call.name.clone(), arguments: call.arguments.clone() };
            Call { id: call.id.clone(), r#type: "function", function }
        };
        let tool_calls: Vec<Call> = answer.calls().map(call).collect();
        AnswerMessage {
            role: "assistant",
            content: (tool_calls.is_empty() || !text.is_empty()).then_some(text),
            reasoning_content: (!thinking.is_empty()).then_some(thinking),
            tool_calls,
        }
    }
}

/// Why an answer ended.
pub fn finish_reason(reason: EndReason) -> &'static str {
    match reason {
        EndReason::EndOfText | EndReason::Stop(_) => "stop",
        EndReason::Calls => "tool_calls",
        EndReason::Length => "length",
    }
}
