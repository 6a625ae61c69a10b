//! Text to token ids and back; chat templates.
#![forbid(unsafe_code)]

mod chat;
mod error;
mod keys;
mod stream;
mod tokenizer;

pub use chat::{ChatTemplate, Message, RenderOptions};
pub use error::TokenizerError;
pub use keys::TokenizerKeys;
pub use stream::DecodeStream;
pub use tokenizer::{EncodeOptions, Tokenizer};
