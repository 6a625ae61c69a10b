use crate::DType;
use bytemuck::Pod;

/// One quantization block: its bytes in file order, and what they mean.
pub trait Block: Pod {
    /// The format that this is a block of.
    const DTYPE: DType;

    /// Writes the values of the block, `[DTYPE.block_len()]`.
    ///
    /// # Panics
    /// When `out` has another length.
    fn dequantize(&self, out: &mut [f32]);

    /// Whether all values are numbers: not NaN, not infinite. Codes always are, so this looks at the scales.
    fn is_finite(&self) -> bool;
}

/// The blocks in `bytes`, copied out one by one, so that the bytes need no alignment.
///
/// # Panics
/// When `bytes` is not a whole number of blocks.
pub fn read_blocks<B: Block>(bytes: &[u8]) -> impl ExactSizeIterator<Item = B> + '_ {
    let (blocks, rest) = (bytes.chunks_exact(size_of::<B>()), bytes.len() % size_of::<B>());
    assert_eq!(rest, 0, "{} bytes are not whole blocks of {} ({})", bytes.len(), size_of::<B>(), B::DTYPE);
    blocks.map(bytemuck::pod_read_unaligned)
}
