//! Why no token can be chosen.

use super::MaskError;

/// Why no token can be chosen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SampleError {
    /// the model computed no number for any token
    #[error(
        "no logit of {n_vocab} is a finite number ({n_nan} are NaN), so no token can be chosen: the weights are damaged, or \
         the model's numbers outgrow float32"
    )]
    NotFinite {
        /// tokens of the vocabulary
        n_vocab: usize,
        /// logits that are NaN
        n_nan: usize,
    },
    /// every token is banned
    #[error(
        "none of the {n_vocab} tokens may be chosen: {}",
        if *masked { "the grammar and the logit bias together ban all of them" } else { "the logit bias bans all of them" }
    )]
    NothingAllowed {
        /// tokens of the vocabulary
        n_vocab: usize,
        /// whether a mask was in use
        masked: bool,
    },
    /// the mask cannot say which tokens are allowed
    #[error(transparent)]
    Mask(#[from] MaskError),
}

impl SampleError {
    /// Of logits among which nothing could be chosen.
    pub(super) fn of(logits: &[f32], masked: bool) -> SampleError {
        let n_vocab = logits.len();
        if logits.iter().any(|logit| logit.is_finite()) {
            return SampleError::NothingAllowed { n_vocab, masked };
        }
        SampleError::NotFinite { n_vocab, n_nan: logits.iter().filter(|logit| logit.is_nan()).count() }
    }
}
