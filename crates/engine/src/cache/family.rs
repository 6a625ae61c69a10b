//! What the name of a KV scheme means. A name takes four steps: a [`Family`] reads it, with its parameters,
//! into a [`KvStorage`]; that makes, for the layers of one model, a [`PageCode`] each, which knows pages, heads and
//! positions; and under it a [`RotatedCode`](lossy_kernels::kv::RotatedCode) of the kernels has the arithmetic, where a head of
//! a page needs no more than its bytes.
//!
//! What all schemes share, `sinks`, `residual`, `layers`, `first` and `last`, is read above, in
//! [`KvScheme`](super::KvScheme).

use std::fmt::Debug;
use std::sync::Arc;

use lossy_kernels::KvType;

use super::code::PageCode;
use super::layout::Window;
use super::{Calibration, KvGeometry, PAGE_TOKENS};
use crate::parameters::{ParameterError, Parameters};

/// The storage that a name means, or why one of its parameters is refused.
pub(super) type Parsed = Result<Arc<dyn KvStorage>, ParameterError>;

/// Schemes of one kind.
pub(super) struct Family {
    /// their names, for messages
    pub names: &'static str,
    /// those that are worth their bits on most models
    pub ladder: &'static [Rung],
    /// the storage that a name means; `None` if the name is of another family
    pub parse: fn(name: &str, parameters: &mut Parameters<'_>) -> Option<Parsed>,
}

/// A recommended scheme. The bits put the rungs of all families in order; a search measures what a cache really takes.
pub(super) struct Rung {
    /// the scheme
    pub name: &'static str,
    /// bits per value, scales included, of a typical model
    pub bits: f64,
}

/// What a scheme needs to know of a model to be used with it.
pub struct Context<'a> {
    /// heads and layers
    pub geometry: &'a KvGeometry,
    /// statistics of its keys and values, if there are any
    pub calibration: Option<&'a Calibration>,
}

/// A way to store a layer's keys and values.
pub(super) trait KvStorage: Debug + Send + Sync {
    /// Its name, with those of its own parameters that are not the defaults.
    fn name(&self) -> String;
    /// Sinks and residual unless the user says otherwise.
    fn defaults(&self) -> Defaults;
    /// The type, if nothing is packed.
    fn exact(&self) -> Option<KvType> {
        None
    }
    /// Whether values come transformed.
    fn transforms_values(&self) -> bool {
        false
    }
    /// Whether statistics of the model are needed.
    fn needs_calibration(&self) -> bool {
        false
    }
    /// What the pages that a token skips may weigh together, as a share of all of attention's weights; `None`: it reads all.
    fn sparsity(&self) -> Option<f32> {
        None
    }
    /// What a token sees as it is, where so many recent tokens stay exact.
    fn window(&self, residual: usize) -> Window {
        Window::pages(residual.div_ceil(PAGE_TOKENS))
    }
    /// Heads are stored with a multiple of so many channels: an even number.
    fn channel_multiple(&self) -> usize;
    /// The code of each layer's pages, whose heads are stored with `stored_dim` channels.
    fn codes(
        &self,
        context: &Context<'_>,
        stored_dim: usize,
    ) -> Result<Vec<Arc<dyn PageCode>>, KvSchemeError>;
}

/// Exact tokens at both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Defaults {
    pub sinks: usize,
    pub residual: usize,
}

/// Why a scheme is invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KvSchemeError {
    /// no family has the name
    #[error("unknown KV scheme `{name}`; there are {known}")]
    Unknown {
        /// what was asked for
        name: String,
        /// names
        known: String,
    },
    /// a cache type of llama.cpp that lossy does not have
    #[error("KV scheme `{name}` is a llama.cpp cache type that lossy does not have; {instead}")]
    Foreign {
        /// what was asked for
        name: String,
        /// what to use
        instead: &'static str,
    },
    /// a parameter that the scheme does not have, or one out of range
    #[error("KV scheme `{name}`: {error}")]
    Parameter {
        /// the scheme
        name: String,
        /// which, and why
        error: ParameterError,
    },
    /// the model does not fit
    #[error("KV scheme `{name}` cannot be used with this model: {reason}")]
    Model {
        /// the scheme
        name: String,
        /// why, and what to do
        reason: String,
    },
    /// keys and values of schemes that do not go together
    #[error("keys as {keys} do not go with values as {values}; {instead}")]
    Mixture {
        /// scheme of the keys
        keys: String,
        /// scheme of the values
        values: String,
        /// what to use
        instead: String,
    },
    /// there are no statistics yet
    #[error("KV scheme `{name}` needs the model to be calibrated first")]
    NotCalibrated {
        /// the scheme
        name: String,
    },
}
