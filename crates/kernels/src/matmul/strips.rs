//! What a weight format gives the matrix products: packing of strips, and their products with activations.

use super::tile::ROWS;
use crate::Isa;
use crate::activations::Operand;

/// A weight format and its kernels. A *strip* is eight rows of a matrix, packed.
pub(crate) trait Strips: Send + Sync {
    /// The format as ggml spells it.
    fn name(&self) -> &'static str;

    /// Rows have a multiple of this many columns.
    fn block_len(&self) -> usize;

    /// Bytes of a strip of `n_cols` columns.
    fn strip_bytes(&self, n_cols: usize) -> usize;

    /// Packs up to eight rows, each in the file's bytes, into a strip; missing rows become zeros.
    fn pack_strip(&self, rows: &[&[u8]], strip: &mut [u8]);

    /// Writes the values of one row of a strip, `[n_cols]`.
    fn values(&self, strip: &[u8], row: usize, out: &mut [f32]);

    /// Writes all products of the rows of `strips` with the tokens of `x` to `sums`, `[n_tokens, strips, 8]`.
    fn dot(&self, isa: Isa, strips: &[&[u8]], x: Operand, sums: &mut [f32]);
}

/// Asserts what kernels rely on: every strip has `strip_bytes`, and the slices of `x` and `sums` fit its counts.
pub(crate) fn check(strips: &[&[u8]], strip_bytes: usize, x: Operand, sums: &[f32]) {
    assert!(strips.iter().all(|strip| strip.len() == strip_bytes), "a strip has another length");
    let has_rows = x.rows.len() == x.n_tokens * x.n_cols;
    assert!(has_rows || x.kind == crate::ActivationKind::Q8 && x.rows.is_empty(), "rows of the operand");
    if x.kind == crate::ActivationKind::Q8 {
        assert_eq!(x.blocks.len(), x.n_tokens * x.n_blocks());
    }
    assert_eq!(sums.len(), x.n_tokens * strips.len() * ROWS);
}
