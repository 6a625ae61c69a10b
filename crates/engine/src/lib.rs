//! Models, cache, forward pass and sampling.
//!
//! The way from a file to text: [`ModelSource`] opens a file, [`Engine`] loads its weights, [`Engine::sequence`] starts a
//! [`Sequence`], [`Engine::prefill`] and [`Engine::forward`] turn ids into logits, a [`Sampler`] turns logits into the
//! next id, and [`Generation`] does the whole loop.
#![forbid(unsafe_code)]

mod error;
mod generate;
mod sampling;
mod source;
mod stub;

pub use error::EngineError;
pub use generate::{Finish, Generation, GenerationOptions, Step};
pub use sampling::{Sampled, Sampler, SamplingOptions, TokenLogprob};
pub use source::ModelSource;
pub use stub::{BatchItem, Engine, EngineOptions, LogitRows, Logits, ModelInfo, Progress, Sequence};
