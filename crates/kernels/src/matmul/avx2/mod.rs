//! Products with 256-bit vectors.
//!
//! The plain algorithm is in [`quantized`](super::quantized); what makes it fast:
//! 1. `vpmaddubsw` multiplies a quad of all eight rows with a broadcast of four int8 activations and adds neighbours, so a
//!    32-bit lane holds two partial sums of one row. No shuffles, no horizontal sums.
//! 2. Products are added as i16 as long as they cannot overflow (4-bit codes: all eight quads, 8 · 2 · 15 · 127 = 30,480;
//!    5-bit: four, 31,496; 6-bit: two, 32,004), then `vpmaddwd` widens them to i32, with the integer scale if there is one.
//! 3. 8-bit codes are two nibbles: `code = 16 · high + low`, each with the whole i16 sum of (2). That is two `vpmaddubsw` for 32
//!    products and no widening in between, like `vpmaddwd` on widened codes, but the activations stay as they are.
//! 4. Offsets are subtracted as `offset · Σ x`, one operation for eight rows and 32 columns.
//! 5. Few tokens: codes are unpacked in registers and used at once; the kernel runs at the speed of memory.
//! 6. Many tokens: two strips are unpacked to a panel in L1, and each panel vector meets four tokens in registers.
//! 7. CPUs with dot products of bytes add four products to an i32 at once, 8-bit codes too, which need no nibbles then. With
//!    512 bits two strips are one vector.
//!
//! Everything here is safe code but for the calls of functions that need more of the CPU than their caller: a format says where
//! in a tile its planes and scales are ([`Format`]), references say that they are there.

#![allow(clippy::needless_range_loop, reason = "`r` and `t` are the strip and token of a register tile")]

mod block;
mod few;
pub(crate) mod float;
mod many;
mod unpack;
mod wide;

use super::formats::Format;
use super::tile::ROWS;
use crate::Avx2;
use crate::activations::Operand;

/// Tokens that a register tile of either kernel holds.
const TILE_TOKENS: usize = 4;

/// Where the sums of some strips are among those of all, `[n_tokens, n_strips, 8]`.
#[derive(Clone, Copy)]
struct Place {
    first: usize,
    n_strips: usize,
}

impl Place {
    /// Where those of strip `r` and token `t` are.
    #[inline(always)]
    fn at(self, r: usize, t: usize) -> usize {
        t * self.n_strips + self.first + r
    }
}

/// Adds the products of quantized strips and int8 activations to `sums`, `[n_tokens, strips, 8]`.
///
/// Lengths are those that [`check`](super::strips::check) asserts.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn dot_q8<F: Format>(avx2: Avx2, strips: &[&[u8]], x: Operand, sums: &mut [f32]) {
    let sums = sums.as_chunks_mut::<ROWS>().0;
    if x.n_tokens <= TILE_TOKENS {
        few::dot::<F>(avx2, strips, x, sums);
    } else {
        many::dot::<F>(avx2, strips, x, sums);
    }
}
