//! A model: what its file says, and its weights.

mod family;
mod info;
mod info_gguf;
mod info_hf;
mod names;
mod source;
mod weights;

pub use family::{BiasRule, Family};
pub use info::ModelInfo;
pub use source::ModelSource;
pub(crate) use weights::{Layer, Model};
