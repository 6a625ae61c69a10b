//! Products with 256-bit vectors.
//!
//! The plain algorithm is in [`quantized`](super::quantized); what makes it fast:
//! 1. `vpmaddubsw` multiplies a quad of all eight rows with a broadcast of four int8 activations and adds neighbours, so a
//!    32-bit lane holds two partial sums of one row. No shuffles, no horizontal sums.
//! 2. Products are added as i16 as long as these cannot overflow, then `vpmaddwd` widens them to i32, with the integer scale if there is
//!    one. Sums wrap, so what must fit is the sum after a format's offset is subtracted: 4-bit codes 0..15 for all eight quads (8 · 2 ·
//!    15 · 127 = 30,480), 5-bit codes −16..15 too (32,512), 6-bit codes −32..31 for the four quads of a half (32,512).
//! 3. The offset is subtracted as `offset · Σ x` of either i16 of a lane, one operation for eight rows and 32 columns.
//! 4. 8-bit codes: `|code| · (sign of the code · x)`, each `vpmaddubsw` widened at once. That is two multiplications for 32 products, as
//!    with `vpmaddwd` on widened codes or `vpmaddubsw` on two nibbles, but a third of the operations is on units that are idle.
//! 5. Few tokens: codes are unpacked in registers and used at once; the kernel runs at the speed of memory. Up to sixteen tokens take
//!    turns with the unpacked tile, and with 512 bits up to 32 with tiles of two strips.
//! 6. Many tokens: two strips are unpacked to a panel in L1, and each panel vector meets four tokens in registers.
//! 7. CPUs with dot products of bytes add four products to an i32 at once, 8-bit codes too, as they are. With
//!    512 bits two strips are one vector.
//!
//! Everything here is safe code but for the calls of functions that need more of the CPU than their caller: a format says where
//! in a tile its planes and scales are ([`Format`]), references say that they are there.

#![allow(clippy::needless_range_loop, reason = "`r` and `t` are the strip and token of a register tile")]

mod block;
mod few;
mod few_wide;
pub(crate) mod float;
mod many;
mod planes;
mod several;
mod tiles;
mod unpack;
mod wide;

use super::formats::Format;
use super::tile::ROWS;
use crate::Avx2;
use crate::activations::{LEAST_TOKENS, Operand};
use crate::isa::Extension;

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

/// Writes the products of quantized strips and int8 activations to `sums`, `[n_tokens, strips, 8]`.
///
/// Lengths are those that [`check`](super::strips::check) asserts.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn dot_q8<F: Format>(avx2: Avx2, strips: &[&[u8]], x: Operand, sums: &mut [f32]) {
    let sums = sums.as_chunks_mut::<ROWS>().0;
    match avx2.extension() {
        Extension::Avx512(proof) if x.n_tokens <= few_tokens(avx2) => {
            few_wide::dot::<F>(proof, strips, x, sums);
        }
        Extension::Vnni(proof) if x.n_tokens <= TILE_TOKENS => few::dot::<F>(Some(proof), strips, x, sums),
        Extension::None if x.n_tokens <= TILE_TOKENS => few::dot::<F>(None, strips, x, sums),
        Extension::None if x.n_tokens <= several::MOST_TOKENS => several::dot::<F>(strips, x, sums),
        _ => many::dot::<F>(avx2, strips, x, sums),
    }
}

/// Strips that meet more tokens together: those of a panel, or twice as many with tiles of AMX, beside which copying sums takes long.
pub(super) fn many_strips(avx2: Avx2) -> usize {
    match avx2.extension() {
        Extension::None | Extension::Vnni(_) => 2,
        Extension::Avx512(_) if avx2.has_tiles() => 8,
        Extension::Avx512(_) => 4,
    }
}

/// Most tokens that meet tiles which are unpacked in registers, so that memory is read as one long stream.
pub(super) fn few_tokens(avx2: Avx2) -> usize {
    match avx2.extension() {
        Extension::Avx512(_) if avx2.has_tiles() => LEAST_TOKENS - 1,
        Extension::Avx512(_) => few_wide::MOST_TOKENS,
        Extension::None | Extension::Vnni(_) => several::MOST_TOKENS,
    }
}
