//! Numbers that are no numbers: where they were found.

use std::fmt;

/// A weight that is NaN or infinite.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error(
    "tensor `{name}` has the value {value} at {place}: the file is damaged, or was made with an error; fetch it again, or \
     take another one"
)]
pub struct WeightNotFinite {
    /// the tensor, as the file calls it
    pub name: String,
    /// NaN or infinite
    pub value: f32,
    /// row and column, or the index in a vector
    pub place: String,
}

/// A step of the forward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// the hidden state that enters the first layer
    Embedding,
    /// queries, keys and values
    Projections {
        /// layer, from 0
        layer: usize,
    },
    /// what the queries read from the cache
    Attention {
        /// layer, from 0
        layer: usize,
    },
    /// the hidden state after attention was added
    AttentionOutput {
        /// layer, from 0
        layer: usize,
    },
    /// the hidden state after the MLP was added
    Mlp {
        /// layer, from 0
        layer: usize,
    },
    /// the logits
    Logits,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Embedding => write!(f, "in the embedding of the tokens"),
            Place::Projections { layer } => write!(f, "in the queries, keys or values of layer {layer}"),
            Place::Attention { layer } => write!(f, "in what attention reads in layer {layer}"),
            Place::AttentionOutput { layer } => {
                write!(f, "in the hidden state after attention in layer {layer}")
            }
            Place::Mlp { layer } => write!(f, "in the hidden state after the MLP of layer {layer}"),
            Place::Logits => write!(f, "in the logits, after the last layer"),
        }
    }
}

/// Whether all values are numbers.
pub(crate) fn all_finite(values: &[f32]) -> bool {
    // Runs without a branch, which vectorizes.
    let is_finite = |run: &[f32]| run.iter().fold(true, |all, value| all & value.is_finite());
    values.chunks(4096).all(is_finite)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_that_is_no_number_is_found_anywhere() {
        let mut values = vec![f32::MAX; 9000];
        assert!(all_finite(&values) && all_finite(&[]));
        for at in [0, 4095, 4096, 8999] {
            for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                values[at] = value;
                assert!(!all_finite(&values), "{value} at {at}");
                values[at] = 0.0;
            }
        }
    }
}
