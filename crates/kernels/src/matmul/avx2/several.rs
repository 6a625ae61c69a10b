//! More tokens than have their sums in registers, but not enough for a panel.
//!
//! A tile is unpacked once, and tokens meet it four by four, whose sums come from L1 and go back there. So the weights still come from
//! memory as one long stream, and products go on while it flows.

use super::block::{add_block, integers, is_wide, spread};
use super::unpack::{ScaleVectors, codes, factors, magnitudes, scales};
use super::{Format, ROWS, TILE_TOKENS};
use crate::activations::{BlockQ8, Operand};
use crate::matmul::formats::{Group, Tile, groups};
use crate::simd::{prefetch, store_floats, with_const};
use std::arch::x86_64::*;

/// Most tokens. Then panels are as fast, in spite of what it costs to write them.
pub(super) const MOST_TOKENS: usize = 16;

/// Bytes ahead of the tile in work that are fetched from memory. Products take longer than memory, and find them in the first level.
const AHEAD: usize = 2048;

/// A tile as [`integers`] takes it.
struct Unpacked {
    /// quad by quad; of wide formats magnitudes and signed codes in turns
    quads: [__m256i; 16],
    halves: [__m256i; 2],
    scales: ScaleVectors,
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn dot<F: Format>(strips: &[&[u8]], x: Operand, sums: &mut [[f32; ROWS]]) {
    assert!(x.n_tokens <= MOST_TOKENS);
    let mut rows: [&[BlockQ8]; MOST_TOKENS] = [&[]; MOST_TOKENS];
    for (row, blocks) in rows.iter_mut().zip(x.blocks.chunks_exact(x.n_blocks())) {
        *row = blocks;
    }
    let (fours, rest) = rows[..x.n_tokens].as_chunks::<TILE_TOKENS>();
    // The rest is a constant of the whole loop: to choose among kernels in its midst would cost the codes their registers.
    with_const!(T = rest.len(), in [0, 1, 2, 3], tokens::<F, T>(strips, fours, rest, sums));
}

/// [`dot`] of tokens by fours, and of `T` more.
#[target_feature(enable = "avx2,fma,f16c")]
fn tokens<F: Format, const T: usize>(
    strips: &[&[u8]],
    fours: &[[&[BlockQ8]; TILE_TOKENS]],
    rest: &[&[BlockQ8]],
    sums: &mut [[f32; ROWS]],
) {
    let rest: [&[BlockQ8]; T] = std::array::from_fn(|t| rest[t]);
    for (index, strip) in strips.iter().enumerate() {
        let mut four_sums = [[_mm256_setzero_ps(); TILE_TOKENS]; MOST_TOKENS / TILE_TOKENS];
        let mut rest_sums = [_mm256_setzero_ps(); T];
        let mut block = 0;
        for group in groups::<F>(strip) {
            let factors = factors(group.factors());
            for tile in &group.tiles()[..F::Group::TILES] {
                for line in (0..size_of::<Tile<F>>()).step_by(64) {
                    prefetch(tile, AHEAD + line);
                }
                let tile = unpack::<F>(factors, tile);
                for (sums, rows) in four_sums.iter_mut().zip(fours) {
                    add_tile::<F, TILE_TOKENS>(sums, &tile, rows, block);
                }
                add_tile::<F, T>(&mut rest_sums, &tile, &rest, block);
                block += 1;
            }
        }
        let all = four_sums[..fours.len()].as_flattened().iter().chain(&rest_sums);
        for (t, acc) in all.enumerate() {
            store_floats(&mut sums[t * strips.len() + index], *acc);
        }
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn unpack<F: Format>(factors: [__m256; 2], tile: &Tile<F>) -> Unpacked {
    let mut quads = [_mm256_setzero_si256(); 16];
    for (j, quad) in codes::<F>(tile).into_iter().enumerate() {
        if is_wide::<F>() {
            [quads[2 * j], quads[2 * j + 1]] = magnitudes::<F>(quad);
        } else {
            quads[j] = quad;
        }
    }
    let scales = scales::<F>(factors, tile);
    let halves = if F::HALVES { spread(scales.half_scales) } else { [_mm256_setzero_si256(); 2] };
    Unpacked { quads, halves, scales }
}

/// Adds what a tile contributes to the sums of `T` tokens, whose activations are `rows`.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn add_tile<F: Format, const T: usize>(
    acc: &mut [__m256; T],
    tile: &Unpacked,
    rows: &[&[BlockQ8]; T],
    block: usize,
) {
    let x: [&BlockQ8; T] = std::array::from_fn(|t| &rows[t][block]);
    let [integers] = integers::<F, 1, T>(|j, _| tile.quads[j], |h, _| tile.halves[h], x);
    for t in 0..T {
        acc[t] = add_block::<F>(acc[t], integers[t], &tile.scales, x[t]);
    }
}
