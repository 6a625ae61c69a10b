//! Serves a model to many users at once, over the interfaces that clients speak.
//!
//! ```text
//! client ─► http::listen ─► router ─► http::guard ─► openai · anthropic · native      an interface translates …  (page: files)
//!                                                        │   ▲
//!                                                        ▼   │ pieces
//!                                                   conversation                      … to turns and wishes, these
//!                                                        │   ▲                           become a Job
//!                                                        ▼   │ events
//!                                                  work (the engine's thread)
//! ```
//! An interface is one folder: it translates requests to a conversation, and the pieces of answers to its own words. Nothing
//! below knows it. [`serve`] does everything.
#![forbid(unsafe_code)]

// In the order of dependency: a module imports only from those above it.
mod error;
mod options;
mod counters;
mod work;
mod served;
mod http;
mod app;
mod request;
mod conversation;
mod openai;
mod anthropic;
mod native;
mod openapi;
mod page;
mod router;
mod serve;

pub use openapi::Description;
pub use options::{Access, Address, DocumentOptions, Limits, Notes, ServerOptions};
pub use serve::{ServeError, serve};
pub use served::{LossReport, Made, Served, Setting};

/// Reads bytes as the body of each kind of request, up to where the model is needed. For fuzzers.
#[doc(hidden)]
pub fn read_request_bodies(bytes: &[u8]) {
    let Ok(value) = serde_json::from_slice(bytes) else { return };
    let Ok(body) = http::json::Body::of(value) else { return };
    openai::chat::read_body(&body);
    openai::completions::read_body(&body);
    openai::decisions::read_body(&body);
    openai::responses::read_body(&body);
    anthropic::read_body(&body);
    native::tokens::read_body(&body);
}
