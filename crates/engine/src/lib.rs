//! Models, caches, the forward pass and sampling.
//!
//! The way from a file to text: [`ModelSource`] opens a file, [`Engine`] loads its weights, [`Engine::cache`] makes a
//! [`Cache`] of some KV scheme and positions, [`Cache::sequence`] starts a [`Sequence`], and a [`Generation`] says what to
//! run next and turns logits into text. [`Engine::advance`] runs many generations at once; [`Engine::forward`] is the
//! batch beneath it, and [`Engine::prefill`] reads a prompt.
//!
//! ```no_run
#![doc = include_str!("../examples/generate.rs")]
//! ```
#![forbid(unsafe_code)]

// In the order of dependency: a module imports only from those above it.
mod hex;
mod fingerprint;
mod parameters;
mod prefix;
mod sampling;
mod speculation;
mod positions;
mod cache;
mod finite;
mod unread;
mod error;
mod model;
mod logits;
mod hooks;
mod buffer;
mod forward;
mod options;
mod extent;
mod calibrate;
mod sequence;
pub mod prefix_cache;
mod batch;
mod generate;
mod round;
mod engine;

pub use batch::{BatchItem, LogitRows, Logits};
pub use cache::{Budget, CacheError, Calibration, KvScheme, KvSchemeError, PAGE_TOKENS, SavedError};
pub use calibrate::{CALIBRATION_TEXT, Calibrated};
pub use engine::{Engine, OnProgress, Progress};
pub use error::{EngineError, LoadError, RequestError, RequestErrorKind, SettingError};
pub use fingerprint::Fingerprint;
pub use finite::{Place, WeightNotFinite};
pub use generate::{Finish, Generation, GenerationOptions, Step};
pub use hex::Hex;
pub use lossy_kernels::{ActivationKind, GateFunction, Isa, IsaError, KvType};
pub use model::{BiasRule, Family, HfClass, ModelInfo, ModelSource, SlidingWindow};
pub use options::{CacheOptions, CalibrationOptions, EngineOptions};
pub use parameters::ParameterError;
pub use positions::{
    LongRope, PositionError, PositionMap, PositionScheme, Positions, Rope, RopeConfig, RopeScaling, Trained,
    Yarn,
};
pub use prefix::common as common_prefix;
pub use round::{Beside, Steps};
pub use sampling::{Mask, MaskError, SampleError, Sampled, Sampler, SamplingOptions, TokenLogprob};
pub use sequence::{Cache, Sequence};
pub use speculation::Speculation;
pub use unread::{Unread, UnreadParts};

/// What benchmarks and tests of this project take apart. It is no part of the library's interface and may change at any
/// time.
#[doc(hidden)]
pub mod internals {
    pub use crate::cache::{
        CacheLayout, Context, HeadStatistics, KvGeometry, KvPool, KvSequence, PAGE_TOKENS, PackedLayers,
        PageCode, Place, Rows, Span, Window, append_layer, attend_layer,
    };
}
