//! Models, cache, forward pass and sampling.
//!
//! The way from a file to text: [`ModelSource`] opens a file, [`Engine`] loads its weights, [`Engine::sequence`] starts a
//! [`Sequence`], [`Engine::prefill`] and [`Engine::forward`] turn ids into logits, a [`Sampler`] turns logits into the
//! next id, and [`Generation`] does the whole loop.
#![forbid(unsafe_code)]

pub mod cache;
mod engine;
mod error;
mod fingerprint;
mod forward;
mod generate;
mod hex;
mod model;
mod parameters;
pub mod positions;
mod prepare;
mod sampling;

pub use cache::{Calibration, KvScheme, KvSchemeError};
pub use engine::{BatchItem, Engine, EngineOptions, LogitRows, Logits, Progress, Sequence};
pub use error::EngineError;
pub use fingerprint::Fingerprint;
pub use generate::{Finish, Generation, GenerationOptions, Step};
pub use hex::Hex;
pub use lossy_kernels::{ActivationKind, KvType};
pub use model::{BiasRule, Family, ModelInfo, ModelSource};
pub use parameters::ParameterError;
pub use positions::{
    PositionError, PositionMap, PositionScheme, Rope, RopeConfig, RopeScaling, Trained, Yarn,
};
pub use prepare::{CALIBRATION_TEXT, Calibrated};
pub use sampling::{Sampled, Sampler, SamplingOptions, TokenLogprob};
