//! OpenAI's interface: chats, responses and completions, whole or as a stream.

pub mod chat;
pub mod completions;
pub mod decisions;
pub mod form;
pub mod messages;
pub mod models;
pub mod rendered;
pub mod responses;
pub mod usage;
