//! A model: what its file says, its weights, its forward pass.

mod family;
mod forward;
mod info;
mod info_gguf;
mod info_hf;
mod names;
mod rope;
mod weights;

pub use family::{BiasRule, Family};
pub(crate) use forward::{Forward, ForwardItem};
pub use info::ModelInfo;
pub(crate) use names::hf_name;
pub use rope::{Rope, RopeConfig, RopeScaling, Yarn};
pub(crate) use weights::Model;
