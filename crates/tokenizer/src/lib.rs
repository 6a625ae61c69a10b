//! Text to token ids and back; chat templates.
#![forbid(unsafe_code)]

mod added;
mod bpe;
mod bytes;
mod chat;
mod error;
mod gguf;
mod hf;
mod jinja;
mod json;
mod keys;
mod merge;
mod pre;
mod special;
mod split;
mod spm;
mod stream;
mod to_gguf;
mod tokenizer;
mod vocab;

pub use chat::{BUILT_IN_TEMPLATES, ChatTemplate, Message, OutlinedPrompt, RenderOptions};
pub use error::TokenizerError;
pub use keys::{SpecialIds, TokenizerKeys};
pub use stream::DecodeStream;
pub use to_gguf::gguf_entries;
pub use tokenizer::{EncodeOptions, Tokenizer};
