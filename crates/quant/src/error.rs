use crate::DType;

/// Why bytes could not be converted to or from a number format.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum QuantError {
    /// The format has no scalar conversion here.
    #[error("{0} cannot be computed: only its size is known", dtype.name())]
    NotComputable {
        /// The format.
        dtype: DType,
    },
    /// The format has no scales that could be searched for.
    #[error("{0} has no scales", dtype.name())]
    NoScales {
        /// The format.
        dtype: DType,
    },
    /// The number of values is not a whole number of blocks.
    #[error("{n_values} values are not whole blocks of {block_len} ({0})", dtype.name())]
    PartialBlock {
        /// The format.
        dtype: DType,
        /// Values asked for.
        n_values: usize,
        /// Values in one block.
        block_len: usize,
    },
    /// The bytes do not match the number of values.
    #[error("{n_values} values of {0} take {expected} bytes, but there are {found}", dtype.name())]
    WrongBytes {
        /// The format.
        dtype: DType,
        /// Values asked for.
        n_values: usize,
        /// Bytes that these values take.
        expected: usize,
        /// Bytes given.
        found: usize,
    },
    /// There is not one weight for each value.
    #[error("there are {found} weights for {n_values} values")]
    WrongWeights {
        /// Values.
        n_values: usize,
        /// Weights.
        found: usize,
    },
    /// A value is no number.
    #[error("value {at} is {value}")]
    NotFinite {
        /// Which one, from 0.
        at: usize,
        /// What it is.
        value: f32,
    },
    /// A weight is no number, or below 0.
    #[error("the weight of value {at} is {value}, but weights are numbers from 0")]
    Weight {
        /// Which one, from 0.
        at: usize,
        /// What it is.
        value: f32,
    },
    /// A value needs a scale that half precision does not have.
    #[error("value {at} is {value}, too large for {0}", dtype.name())]
    TooLarge {
        /// The format.
        dtype: DType,
        /// The largest value of the block, from 0.
        at: usize,
        /// What it is.
        value: f32,
    },
}
