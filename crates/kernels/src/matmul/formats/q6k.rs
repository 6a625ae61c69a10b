//! Q6_K: 6-bit codes; 256 columns share an f16 factor of the 8-bit scales of 16 columns.
//!
//! Header: 8 f16 `d`. Tile: 128 bytes of nibbles, 64 bytes with each code's bits 4 and 5, 8 × 2 signed bytes of scales:
//! `(d · scale) · (code − 32)`.

use super::{Format, Min};
use crate::matmul::tile::{
    COLS, ROWS, Tile, nibble, pair, read_halves, write_halves, write_nibbles, write_pairs,
};
use lossy_quant::BlockQ6K;

pub(crate) struct Q6K;

impl Format for Q6K {
    type Block = BlockQ6K;
    const TILES: usize = 8;
    const HEADER_BYTES: usize = 16;
    const TILE_BYTES: usize = 128 + 64 + 16;
    const OFFSET: i16 = 32;
    const MIN: Min = Min::None;

    fn pack(rows: &[BlockQ6K; ROWS], header: &mut [u8], tiles: &mut [u8]) {
        write_halves(rows.map(|block| block.d), header);
        let codes = rows.map(|block| block.codes());
        for (index, tile) in tiles.chunks_exact_mut(Self::TILE_BYTES).enumerate() {
            let codes = codes
                .each_ref()
                .map(|codes| std::array::from_fn(|col| (codes[COLS * index + col] + 32) as u8));
            write_nibbles(&codes, tile);
            write_pairs(&codes, 4, &mut tile[128..]);
            for (row, block) in rows.iter().enumerate() {
                tile[192 + 2 * row] = block.scales[2 * index] as u8;
                tile[193 + 2 * row] = block.scales[2 * index + 1] as u8;
            }
        }
    }

    fn unpack(header: &[u8], tile: &[u8], out: &mut Tile) {
        out.set_codes(Self::OFFSET, |row, col| nibble(tile, row, col) | pair(&tile[128..], row, col) << 4);
        out.scale = read_halves(header);
        out.half_scales = std::array::from_fn(|row| {
            [i16::from(tile[192 + 2 * row] as i8), i16::from(tile[193 + 2 * row] as i8)]
        });
    }
}
