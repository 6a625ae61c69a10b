//! The messages of a chat and their cache.

use anyhow::{Context, Result};
use lossy_engine::Sequence;
use lossy_tokenizer::Message;

use crate::loaded::Loaded;

/// Messages in order, the system message first if there is one. The cache follows: whatever of it does not fit the
/// messages any more is dropped when the next answer begins.
pub struct Conversation {
    messages: Vec<Message>,
    /// tokens and cache of the last prompt and its answer
    pub sequence: Sequence,
}

impl Conversation {
    /// An empty conversation.
    pub fn new(sequence: Sequence, system: Option<String>) -> Conversation {
        Conversation { messages: system.map(Message::system).into_iter().collect(), sequence }
    }

    /// All messages.
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// Replaces all messages.
    pub fn set_messages(&mut self, messages: Vec<Message>) {
        self.messages = messages;
    }

    /// Adds what the user says.
    pub fn push_user(&mut self, text: String) {
        self.messages.push(Message::user(text));
    }

    /// Adds what the model says.
    pub fn push_assistant(&mut self, text: String) {
        self.messages.push(Message::assistant(text));
    }

    /// Takes the last message back if it is the user's.
    pub fn pop_user(&mut self) {
        self.messages.pop_if(|message| message.role == "user");
    }

    /// Takes the last message back if it is the model's.
    pub fn pop_assistant(&mut self) -> Option<String> {
        self.messages.pop_if(|message| message.role == "assistant").map(|message| message.content)
    }

    /// Forgets everything but the system message, and frees the cache.
    pub fn clear(&mut self) {
        self.messages.retain(|message| message.role == "system");
        self.sequence.truncate(0);
    }

    /// The system message.
    pub fn system(&self) -> Option<&str> {
        self.messages
            .first()
            .filter(|message| message.role == "system")
            .map(|message| message.content.as_str())
    }

    /// Sets it, or replaces it.
    pub fn set_system(&mut self, text: String) {
        match self.messages.first_mut().filter(|message| message.role == "system") {
            Some(message) => message.content = text,
            None => self.messages.insert(0, Message::system(text)),
        }
    }

    /// Ids of the whole conversation, up to where the model answers. Control tokens in messages are plain text.
    pub fn encode(&self, loaded: &Loaded) -> Result<Vec<u32>> {
        let template = loaded.template()?.context("the model has no chat template")?;
        Ok(template.encode(&loaded.tokenizer, &self.messages, &loaded.render_options())?)
    }
}
