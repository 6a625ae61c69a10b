//! A model without some of its layers, or with narrower MLPs.
//!
//! ```text
//! Pruned::new(source)                      nothing is left out yet; a WeightSource, so it can be measured
//!     depth::cheapest_layer → remove       the layer whose removal moves predictions least, measured for each
//!     width::narrow → narrow               channels of all MLPs, and what is left of the down matrix refitted
//!     steps                                both as often as is wanted, within a loss that is allowed
//! write::Plan::new(pruned).write(out)      a GGUF: tensors renamed, metadata by layer along with them
//! ```
//!
//! Layers and channels are what saves time on a CPU: a token reads fewer bytes and multiplies fewer numbers. Scattered zeros save
//! nothing there, so nobody makes them here. All MLPs get one width, since other programs have one number for it.

pub mod depth;
pub mod steps;
mod view;
pub mod width;
pub mod write;

pub use view::{Narrowed, Pruned};

use lossy_formats::gguf::CreateError;
use lossy_quant::{DType, QuantError};

use crate::feedback::FeedbackError;
use crate::weights::WeightError;

/// Why a model cannot be pruned.
#[derive(Debug, thiserror::Error)]
pub enum PruneError {
    /// a model that is no GGUF
    #[error(
        "the model is a Hugging Face directory, but a GGUF file is what is pruned here: convert it first"
    )]
    NoGguf,
    /// a layer that is not there
    #[error("there is no layer {layer}: the model has {n_layers}, from 0 to {}", n_layers.saturating_sub(1))]
    NoSuchLayer {
        /// the layer
        layer: usize,
        /// layers of the model
        n_layers: usize,
    },
    /// a layer that is named twice
    #[error("layer {layer} is named twice")]
    Twice {
        /// the layer
        layer: usize,
    },
    /// nothing would be left
    #[error("{n} of {n_layers} layers cannot be removed: at least one stays")]
    TooMany {
        /// layers to remove
        n: usize,
        /// layers of the model
        n_layers: usize,
    },
    /// a width between those that blocks allow
    #[error(
        "{wanted} of {n_ff} MLP channels would stay, but a width must be a multiple of {multiple} for the blocks of `{tensor}` \
         ({dtype}); the nearest is {nearest}. Take a share between {least:.1} % and {most:.1} %, or another type with smaller blocks \
         for the down matrices"
    )]
    Width {
        /// channels that would stay
        wanted: usize,
        /// channels of the model
        n_ff: usize,
        /// what a width is a multiple of
        multiple: usize,
        /// a matrix that asks for it
        tensor: String,
        /// its type
        dtype: DType,
        /// the nearest width
        nearest: usize,
        /// the least share that can be left out, percent
        least: f64,
        /// the largest
        most: f64,
    },
    /// MLPs that cannot be narrower
    #[error("MLPs of {n_ff} channels cannot be narrower: a width must be a multiple of {multiple}")]
    TooNarrow {
        /// channels of the model
        n_ff: usize,
        /// what a width is a multiple of
        multiple: usize,
    },
    /// the least step loses too much
    #[error(
        "{what} the divergence is {kl:.4} nats on text that chose nothing, which is more than kl={max}: allow more, or prune nothing"
    )]
    Loss {
        /// the model
        what: String,
        /// its divergence
        kl: f64,
        /// what was allowed
        max: f64,
    },
    /// the text says nothing of what a matrix multiplies
    #[error("what `{tensor}` multiplies is 0 for all of the text, or no number: give another text")]
    Unseen {
        /// the matrix
        tensor: String,
    },
    /// a matrix cannot be encoded
    #[error("tensor `{tensor}`: {error}")]
    Encode {
        /// the matrix
        tensor: String,
        /// why
        error: QuantError,
    },
    /// a matrix cannot be encoded with feedback
    #[error("tensor `{tensor}`: {error}")]
    Feedback {
        /// the matrix
        tensor: String,
        /// why
        error: FeedbackError,
    },
    /// a key by layer that has another length
    #[error("key `{key}` has {found} values for {n_layers} layers: it is not known which of them go")]
    Key {
        /// the key
        key: String,
        /// its values
        found: usize,
        /// layers of the model
        n_layers: usize,
    },
    /// weights that cannot be computed with
    #[error(transparent)]
    Weights(#[from] WeightError),
    /// a file that cannot be written
    #[error(transparent)]
    Create(#[from] CreateError),
    /// the caller wants to stop
    #[error("stopped")]
    Stopped,
}
