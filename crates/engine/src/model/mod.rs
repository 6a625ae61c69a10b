//! A model: what its file says, and its weights.

mod account;
mod family;
mod info;
mod info_gguf;
mod info_hf;
mod keys;
mod rope_hf;
mod source;
mod tensors;
mod to_gguf;
mod weights;

pub use family::{BiasRule, Family, HfClass, SlidingWindow};
pub use info::ModelInfo;
pub use source::ModelSource;
pub(crate) use weights::{Layer, Model};
