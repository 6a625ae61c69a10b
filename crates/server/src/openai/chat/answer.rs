//! One answer as it comes: its text in parts, its calls, its log-probabilities.

use lossy_engine::{Finish, Step};
use lossy_output::{Part, PartParser};
use lossy_tokenizer::Tokenizer;
use serde::Serialize;
use utoipa::ToSchema;

use crate::openai::logprobs::TokenLogprobs;
use crate::request::unique;
use crate::work::{Outcome, Timings};

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

/// An answer in the making.
pub struct Answer {
    parser: PartParser,
    /// all so far
    message: AnswerMessage,
    content: String,
    thinking: String,
    /// of all tokens so far
    pub logprobs: Vec<TokenLogprobs>,
    /// set when it has ended
    pub end: Option<(&'static str, Timings)>,
}

impl Answer {
    /// Nothing yet.
    pub fn new(parser: PartParser) -> Answer {
        Answer {
            parser,
            message: AnswerMessage { role: "assistant", ..AnswerMessage::default() },
            content: String::new(),
            thinking: String::new(),
            logprobs: Vec::new(),
            end: None,
        }
    }

    /// Takes a token; returns what is new.
    pub fn push(&mut self, tokenizer: &Tokenizer, step: &Step) -> Vec<Delta> {
        // The token that ends an answer is no part of it.
        if step.finish != Some(Finish::EndOfText) {
            self.logprobs.extend(TokenLogprobs::of(tokenizer, &step.sampled));
        }
        let parts = self.parser.push(&step.text);
        self.take(parts)
    }

    /// Takes the end; returns what was held back.
    pub fn finish(&mut self, outcome: Outcome) -> Vec<Delta> {
        let mut parts = self.parser.push(&outcome.rest);
        parts.extend(self.parser.finish());
        let deltas = self.take(parts);
        let reason = match outcome.reason() {
            "stop" if !self.message.tool_calls.is_empty() => "tool_calls",
            reason => reason,
        };
        self.end = Some((reason, outcome.timings));
        deltas
    }

    fn take(&mut self, parts: Vec<Part>) -> Vec<Delta> {
        parts.into_iter().filter_map(|part| self.delta(part)).collect()
    }

    fn delta(&mut self, part: Part) -> Option<Delta> {
        match part {
            Part::Content(text) => {
                self.content.push_str(&text);
                Some(Delta { content: Some(text), ..Delta::default() })
            }
            Part::Thinking(text) => {
                self.thinking.push_str(&text);
                let (reasoning_content, reasoning) = (Some(text.clone()), Some(text));
                Some(Delta { reasoning_content, reasoning, ..Delta::default() })
            }
            Part::CallBegins { index, name } => {
                let id = unique("call_");
                let function = Function { name: name.clone(), arguments: String::new() };
                self.message.tool_calls.push(Call { id: id.clone(), r#type: "function", function });
                let function = FunctionDelta { name: Some(name), arguments: String::new() };
                let call = CallDelta { index, id: Some(id), r#type: Some("function"), function };
                Some(Delta { tool_calls: vec![call], ..Delta::default() })
            }
            Part::CallArguments { index, text } => {
                if let Some(call) = self.message.tool_calls.get_mut(index) {
                    call.function.arguments.push_str(&text);
                }
                let function = FunctionDelta { name: None, arguments: text };
                let call = CallDelta { index, function, ..CallDelta::default() };
                Some(Delta { tool_calls: vec![call], ..Delta::default() })
            }
            Part::CallEnds { .. } => None,
        }
    }

    /// The whole message.
    pub fn message(&self) -> AnswerMessage {
        let has_calls = !self.message.tool_calls.is_empty();
        AnswerMessage {
            content: (!has_calls || !self.content.is_empty()).then(|| self.content.clone()),
            reasoning_content: (!self.thinking.is_empty()).then(|| self.thinking.clone()),
            ..self.message.clone()
        }
    }
}
