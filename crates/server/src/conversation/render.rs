//! From turns to the tokens of a prompt.

use std::hash::{DefaultHasher, Hash, Hasher};

use lossy_tokenizer::{Message, RenderOptions};
use serde_json::{Map, Value};

use super::tools::RequestTools;
use crate::app::App;
use crate::error::ApiError;
use crate::work::{Outline, Part};

/// What a prompt is made of.
pub struct Turns {
    /// who said what, as templates expect it; not empty
    pub messages: Vec<Message>,
    /// the field of the request that they stand in
    pub field: &'static str,
    /// what the model may call
    pub tools: RequestTools,
    /// how much the model is to think, a word of `reasoning_effort`; `none`: not at all
    pub effort: Option<String>,
    /// variables for the template
    pub variables: Map<String, Value>,
    /// whether the prompt ends with the words that open an answer
    pub opens_answer: bool,
}

/// A prompt, what it consists of, and the words that end it.
pub struct Rendered {
    /// its tokens
    pub prompt: Vec<u32>,
    /// its messages
    pub outline: Outline,
    /// its last words
    pub ends_with: String,
}

/// The prompt of a conversation.
///
/// # Errors
/// The model has no template; the template refuses a message, or has no place for it.
pub fn render(app: &App, turns: &Turns) -> Result<Rendered, ApiError> {
    let served = &app.served;
    let template = served.template(turns.field)?;
    let mut extra = served.template_variables.clone();
    if let Some(effort) = &turns.effort {
        extra.insert("reasoning_effort".to_string(), Value::String(effort.clone()));
        extra.insert("enable_thinking".to_string(), Value::Bool(effort != "none"));
    }
    extra.extend(turns.variables.clone());
    let mut messages = turns.messages.clone();
    let n_before = messages.len();
    let told = turns.tools.tell(&mut messages, served);
    let n_added = messages.len() - n_before;
    let mut hash = DefaultHasher::new();
    (template.source(), serde_json::to_string(&extra).unwrap_or_default()).hash(&mut hash);
    let options = RenderOptions { add_generation_prompt: turns.opens_answer, tools: told, extra };
    let prompt = template
        .encode_outlined(&served.tokenizer, &messages, &options)
        .map_err(|error| ApiError::invalid(turns.field, error.to_string()))?;
    let part = |(index, message): (usize, &Message)| {
        let message_index = index.saturating_sub(n_added);
        Some(Part { start: prompt.starts[index]?, message: message_index, role: message.role.clone() })
    };
    let mut parts: Vec<Part> = messages.iter().enumerate().filter_map(part).collect();
    parts.sort_by_key(|part| part.start);
    let outline = Outline { parts, template: hash.finish() };
    Ok(Rendered { prompt: prompt.ids, outline, ends_with: prompt.ends_with })
}
