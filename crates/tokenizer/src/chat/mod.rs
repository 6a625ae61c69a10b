//! Chat templates.

mod encode;
mod json;
mod message;
mod python;
mod template;

pub use message::Message;
pub use template::{ChatTemplate, RenderOptions};
