//! int8 blocks in the order in which tiles of AMX read them.

use super::{BlockQ8, COLS};
use crate::{Compute, Isa};
use bytemuck::Zeroable;
use std::ops::Range;

/// Tokens of a tile.
pub(crate) const TILE_TOKENS: usize = 16;
/// With fewer tokens no kernel reads tiles: more fill tiles of sixteen tokens well enough.
pub(crate) const LEAST_TOKENS: usize = 25;

/// The blocks of sixteen tokens in the same columns, see [`BlockQ8`]. Behind the last token is what was there.
#[derive(Clone, Copy, Debug, PartialEq, Zeroable)]
#[repr(C, align(64))]
pub(crate) struct TileQ8 {
    pub codes: [[i8; COLS]; TILE_TOKENS],
    pub scale: [f32; TILE_TOKENS],
    pub scaled_sum: [f32; TILE_TOKENS],
    pub half_sums: [[i16; 2]; TILE_TOKENS],
}

const _: () = assert!(size_of::<TileQ8>() == 704);

/// Tiles of the rows of some tokens.
#[derive(Clone, Debug, Default)]
pub(super) struct TileRows {
    /// `[⌈n_tokens / 16⌉, n_blocks]`
    tiles: Vec<TileQ8>,
}

impl TileRows {
    /// Takes blocks, `[n_tokens, n_blocks]`, if kernels will read tiles of them.
    pub fn set(&mut self, cx: &Compute, blocks: &[BlockQ8], n_blocks: usize) {
        let n_tokens = blocks.len() / n_blocks;
        let Isa::Avx2(avx2) = cx.isa else { return };
        if !avx2.has_tiles() || n_tokens < LEAST_TOKENS {
            return self.tiles.clear();
        }
        self.tiles.resize(n_tokens.div_ceil(TILE_TOKENS) * n_blocks, TileQ8::zeroed());
        let tokens = blocks.chunks(TILE_TOKENS * n_blocks);
        let mut tasks: Vec<_> = self.tiles.chunks_exact_mut(n_blocks).zip(tokens).collect();
        cx.pool.run_mut(&mut tasks, |_, (tiles, blocks)| {
            for (token, blocks) in blocks.chunks_exact(n_blocks).enumerate() {
                for (tile, block) in tiles.iter_mut().zip(blocks) {
                    tile.codes[token] = block.codes;
                    tile.scale[token] = block.scale;
                    tile.scaled_sum[token] = block.scaled_sum;
                    tile.half_sums[token] = block.half_sums;
                }
            }
        });
    }

    /// Those of some tokens, of which the first begins a tile.
    pub fn of(&self, tokens: Range<usize>, n_blocks: usize) -> &[TileQ8] {
        if self.tiles.is_empty() {
            return &[];
        }
        debug_assert!(tokens.start.is_multiple_of(TILE_TOKENS));
        &self.tiles[tokens.start / TILE_TOKENS * n_blocks..tokens.end.div_ceil(TILE_TOKENS) * n_blocks]
    }

    /// Bytes that it holds.
    pub fn bytes(&self) -> usize {
        size_of::<TileQ8>() * self.tiles.capacity()
    }
}
