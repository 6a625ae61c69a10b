//! One tensor of a plan, and what is known of its input.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{MomentsOf, QuantizeError, Written};
use crate::feedback::{FeedbackError, Moments};
use crate::imatrix::Imatrix;
use crate::recipe::{Choice, SourceTensor, is_quantized};
use lossy_formats::TensorView;
use lossy_quant::DType;

/// A tensor, before and after.
pub struct Planned<'a> {
    /// As the source has it.
    pub source: TensorView<'a>,
    /// What it becomes.
    pub choice: Choice,
    /// Bytes that it takes then.
    pub bytes: usize,
}

/// A tensor's type among those that were named.
pub(super) fn named(tensor: &SourceTensor<'_>, types: &BTreeMap<String, DType>) -> Choice {
    let is_quantized = is_quantized(tensor.name, tensor.shape);
    let dtype = types.get(tensor.name).copied().unwrap_or(tensor.dtype);
    Choice { dtype, fallback_from: None, is_quantized }
}

impl Planned<'_> {
    pub(super) fn takes_weights(&self) -> bool {
        let is_inner = !matches!(
            self.source.name,
            "token_embd.weight" | "output.weight" | "per_layer_token_embd.weight"
        );
        self.choice.is_quantized && is_inner && self.choice.dtype.block_len() > 1
    }

    pub(super) fn statistics_error(&self, error: FeedbackError) -> QuantizeError {
        QuantizeError::Feedback { tensor: self.source.name.to_owned(), error }
    }

    /// The statistics for error feedback; `None`: there is none. A matrix of a layer without any is named.
    pub(super) fn moments(
        &self,
        of: Option<&mut MomentsOf<'_>>,
        written: &mut Written,
    ) -> Result<Option<Arc<Moments>>, QuantizeError> {
        let Some(of) = of else { return Ok(None) };
        if !self.choice.is_quantized || self.choice.dtype.block_len() == 1 {
            return Ok(None);
        }
        let found = of(self.source.name).map_err(|error| self.statistics_error(error))?;
        let found = found.filter(|moments| self.source.shape.len() == 2 && moments.is_seen());
        if found.is_none() && self.takes_weights() {
            written.without_feedback.push(self.source.name.to_owned());
        }
        Ok(found)
    }

    /// The weights of the columns, for each expert.
    pub(super) fn weights(&self, imatrix: Option<&Imatrix>, written: &mut Written) -> Vec<Option<Vec<f32>>> {
        let name = self.source.name;
        let Some(entry) = imatrix.and_then(|imatrix| imatrix.entries.get(name)) else { return vec![None] };
        let of_expert = |expert: usize| {
            let found = entry.mean_squares(expert);
            if found.is_none() {
                written.unseen.push(if entry.counts.len() == 1 {
                    name.to_owned()
                } else {
                    format!("{name}, expert {expert}")
                });
            }
            found
        };
        (0..entry.counts.len()).map(of_expert).collect()
    }
}
