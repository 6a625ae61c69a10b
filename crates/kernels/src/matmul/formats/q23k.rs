//! Q2_K and Q3_K: 2- and 3-bit codes; 256 columns share an f16 factor of the scales of 16 columns.
//!
//! Q2_K: header 8 f16 `d`, 8 f16 `dmin`; tile: 64 bytes of bit pairs, 8 × 2 bytes with a 4-bit scale (low) and a 4-bit
//! minimum (high): `(d · scale) · code − dmin · min`.
//! Q3_K: header 8 f16 `d`; tile: 64 bytes of bit pairs, 32 bytes with each code's bit 2, 8 × 2 signed bytes of scales (6 bits in
//! the file): `(d · scale) · (code − 4)`.

use super::{Format, Min};
use crate::matmul::tile::{COLS, ROWS, Tile, bit, pair, read_halves, write_bits, write_halves, write_pairs};
use lossy_quant::{BlockQ2K, BlockQ3K};

pub(crate) struct Q2K;

impl Format for Q2K {
    type Block = BlockQ2K;
    const TILES: usize = 8;
    const HEADER_BYTES: usize = 32;
    const TILE_BYTES: usize = 64 + 16;
    const OFFSET: i16 = 0;
    const MIN: Min = Min::Halves;

    fn pack(rows: &[BlockQ2K; ROWS], header: &mut [u8], tiles: &mut [u8]) {
        write_halves(rows.map(|block| block.d), header);
        write_halves(rows.map(|block| block.dmin), &mut header[16..]);
        let codes = rows.map(|block| block.codes());
        for (index, tile) in tiles.chunks_exact_mut(Self::TILE_BYTES).enumerate() {
            let codes = codes.each_ref().map(|codes| std::array::from_fn(|col| codes[COLS * index + col]));
            write_pairs(&codes, 0, tile);
            for (row, block) in rows.iter().enumerate() {
                tile[64 + 2 * row..][..2].copy_from_slice(&block.scales[2 * index..][..2]);
            }
        }
    }

    fn unpack(header: &[u8], tile: &[u8], out: &mut Tile) {
        out.set_codes(0, |row, col| pair(tile, row, col));
        let scales = |row: usize, half: usize| i16::from(tile[64 + 2 * row + half]);
        out.scale = read_halves(header);
        out.half_scales = std::array::from_fn(|row| [scales(row, 0) & 15, scales(row, 1) & 15]);
        out.min = read_halves(&header[16..]).map(|dmin| -dmin);
        out.half_mins = std::array::from_fn(|row| [scales(row, 0) >> 4, scales(row, 1) >> 4]);
    }
}

pub(crate) struct Q3K;

impl Format for Q3K {
    type Block = BlockQ3K;
    const TILES: usize = 8;
    const HEADER_BYTES: usize = 16;
    const TILE_BYTES: usize = 64 + 32 + 16;
    const OFFSET: i16 = 4;
    const MIN: Min = Min::None;

    fn pack(rows: &[BlockQ3K; ROWS], header: &mut [u8], tiles: &mut [u8]) {
        write_halves(rows.map(|block| block.d), header);
        let codes = rows.map(|block| block.codes());
        let scales = rows.map(|block| block.scales());
        for (index, tile) in tiles.chunks_exact_mut(Self::TILE_BYTES).enumerate() {
            let codes = codes
                .each_ref()
                .map(|codes| std::array::from_fn(|col| (codes[COLS * index + col] + 4) as u8));
            write_pairs(&codes, 0, tile);
            write_bits(&codes, 2, &mut tile[64..]);
            for (row, scales) in scales.iter().enumerate() {
                tile[96 + 2 * row] = scales[2 * index] as u8;
                tile[97 + 2 * row] = scales[2 * index + 1] as u8;
            }
        }
    }

    fn unpack(header: &[u8], tile: &[u8], out: &mut Tile) {
        out.set_codes(Self::OFFSET, |row, col| pair(tile, row, col) | bit(&tile[64..], row, col) << 2);
        out.scale = read_halves(header);
        out.half_scales = std::array::from_fn(|row| {
            [i16::from(tile[96 + 2 * row] as i8), i16::from(tile[97 + 2 * row] as i8)]
        });
    }
}
