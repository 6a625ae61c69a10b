//! Why positions are refused.

use crate::parameters::ParameterError;

/// Why positions are refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PositionError {
    /// no such name
    #[error("unknown positions `{name}`; there are {known}")]
    Unknown {
        /// what was asked for
        name: String,
        /// names
        known: String,
    },
    /// a parameter that the positions do not have, or one out of range
    #[error("positions `{name}`: {error}")]
    Parameter {
        /// whose parameter
        name: String,
        /// which, and why
        error: ParameterError,
    },
    /// the context is too long
    #[error(
        "positions `{name}` reach {longest} tokens on a model that was trained for {n_trained}, but the context is {n_ctx}; {fix}"
    )]
    TooLong {
        /// the positions
        name: String,
        /// longest context
        longest: usize,
        /// trained context
        n_trained: usize,
        /// wanted context
        n_ctx: usize,
        /// what to do
        fix: &'static str,
    },
    /// the model does not fit
    #[error("positions `{name}` cannot be used with this model: {reason}")]
    Model {
        /// the positions
        name: String,
        /// why
        reason: String,
    },
    /// a rotation that is no number
    #[error("positions cannot be rotated with base {base} and {scaling}")]
    Rotation {
        /// base of the frequencies
        base: f64,
        /// stretching
        scaling: String,
    },
}
