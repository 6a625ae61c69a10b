//! A chat template and how it is rendered.

use serde_json::{Map, Value};

use super::Message;
use crate::TokenizerError;

/// What a template is rendered with, besides the messages.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RenderOptions {
    /// End with the words that open the assistant's turn.
    pub add_generation_prompt: bool,
    /// Tools that the model may call, in OpenAI's shape (`{"type": "function", "function": {…}}`).
    pub tools: Vec<Value>,
    /// Further variables for the template, for example `enable_thinking`.
    pub extra: Map<String, Value>,
}

/// A model's chat template.
#[derive(Debug)]
pub struct ChatTemplate {
    source: String,
}

impl ChatTemplate {
    /// Parses a template; `special_tokens` are variables such as `bos_token`.
    pub fn new(source: &str, _special_tokens: &[(String, String)]) -> Result<Self, TokenizerError> {
        Ok(ChatTemplate { source: source.to_string() })
    }

    /// The template as the model's file has it.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The prompt of a conversation.
    pub fn render(&self, _messages: &[Message], _options: &RenderOptions) -> Result<String, TokenizerError> {
        Err(TokenizerError::Template { line: None, problem: "not built yet".to_string() })
    }
}
