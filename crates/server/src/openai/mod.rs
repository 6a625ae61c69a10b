//! OpenAI's interface: chats and completions, whole or as a stream.

pub mod chat;
pub mod completions;
pub mod form;
pub mod logprobs;
pub mod messages;
pub mod models;
pub mod usage;
