//! Chat templates.

mod built_in;
mod encode;
mod message;
mod template;

pub use built_in::BUILT_IN_TEMPLATES;
pub use encode::OutlinedPrompt;
pub use message::Message;
pub use template::{ChatTemplate, RenderOptions};
