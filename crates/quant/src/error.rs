use crate::DType;

/// Why bytes could not be converted to or from a number format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuantError {
    /// The format has no scalar conversion here.
    #[error("{0} cannot be computed: only its size is known", dtype.name())]
    NotComputable {
        /// The format.
        dtype: DType,
    },
    /// The format can be read but not written.
    #[error("{0} cannot be written: it has no encoder", dtype.name())]
    NoEncoder {
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
}
