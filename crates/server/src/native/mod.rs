//! What llama-server, vLLM and routers offer besides OpenAI's interface: tokens, templates, the server itself.

pub mod cache;
pub mod status;
pub mod template;
pub mod tokens;
