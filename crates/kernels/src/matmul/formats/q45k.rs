//! Q4_K and Q5_K: 4- and 5-bit codes; 256 columns share f16 factors of the scales and minima of 32 columns.
//!
//! Header: 8 f16 `d`, 8 f16 `dmin`. Tile: 128 bytes of nibbles, (Q5_K) 32 bytes with each code's bit 4, 8 bytes of scales, 8
//! bytes of minima (6 bits each in the file): `(d · scale) · code − dmin · min`.

use super::{Format, Min};
use crate::matmul::tile::{
    COLS, ROWS, Tile, bit, nibble, read_halves, write_bits, write_halves, write_nibbles,
};
use half::f16;
use lossy_quant::{BlockQ4K, BlockQ5K};

fn write_header(d: [f16; ROWS], dmin: [f16; ROWS], header: &mut [u8]) {
    write_halves(d, header);
    write_halves(dmin, &mut header[16..]);
}

/// Writes the scales and minima of tile `index`, 16 bytes.
fn write_scales(rows: &[([u8; 8], [u8; 8]); ROWS], index: usize, out: &mut [u8]) {
    for (row, (scales, mins)) in rows.iter().enumerate() {
        out[row] = scales[index];
        out[8 + row] = mins[index];
    }
}

fn set_scales(header: &[u8], scales: &[u8], out: &mut Tile) {
    let (d, dmin) = (read_halves(header), read_halves(&header[16..]));
    out.scale = std::array::from_fn(|row| d[row] * f32::from(scales[row]));
    out.min = std::array::from_fn(|row| -(dmin[row] * f32::from(scales[8 + row])));
}

fn columns(codes: &[u8; 256], index: usize) -> [u8; COLS] {
    std::array::from_fn(|col| codes[COLS * index + col])
}

pub(crate) struct Q4K;

impl Format for Q4K {
    type Block = BlockQ4K;
    const TILES: usize = 8;
    const HEADER_BYTES: usize = 32;
    const TILE_BYTES: usize = 128 + 16;
    const OFFSET: i16 = 0;
    const MIN: Min = Min::Block;

    fn pack(rows: &[BlockQ4K; ROWS], header: &mut [u8], tiles: &mut [u8]) {
        write_header(rows.map(|block| block.d), rows.map(|block| block.dmin), header);
        let codes = rows.map(|block| block.codes());
        let scales = rows.map(|block| block.scales_mins());
        for (index, tile) in tiles.chunks_exact_mut(Self::TILE_BYTES).enumerate() {
            write_nibbles(&codes.each_ref().map(|codes| columns(codes, index)), tile);
            write_scales(&scales, index, &mut tile[128..]);
        }
    }

    fn unpack(header: &[u8], tile: &[u8], out: &mut Tile) {
        out.set_codes(0, |row, col| nibble(tile, row, col));
        set_scales(header, &tile[128..], out);
    }
}

pub(crate) struct Q5K;

impl Format for Q5K {
    type Block = BlockQ5K;
    const TILES: usize = 8;
    const HEADER_BYTES: usize = 32;
    const TILE_BYTES: usize = 128 + 32 + 16;
    const OFFSET: i16 = 0;
    const MIN: Min = Min::Block;

    fn pack(rows: &[BlockQ5K; ROWS], header: &mut [u8], tiles: &mut [u8]) {
        write_header(rows.map(|block| block.d), rows.map(|block| block.dmin), header);
        let codes = rows.map(|block| block.codes());
        let scales = rows.map(|block| block.scales_mins());
        for (index, tile) in tiles.chunks_exact_mut(Self::TILE_BYTES).enumerate() {
            let codes = codes.each_ref().map(|codes| columns(codes, index));
            write_nibbles(&codes, tile);
            write_bits(&codes, 4, &mut tile[128..]);
            write_scales(&scales, index, &mut tile[160..]);
        }
    }

    fn unpack(header: &[u8], tile: &[u8], out: &mut Tile) {
        out.set_codes(0, |row, col| nibble(tile, row, col) | bit(&tile[128..], row, col) << 4);
        set_scales(header, &tile[160..], out);
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::*;
    use crate::matmul::avx2::{Unpack, unpack::*};
    use std::arch::x86_64::*;

    impl Unpack for Q4K {
        const QUADS: usize = 8;
        type Header = [__m256; 2];
        #[inline(always)]
        unsafe fn header(header: *const u8) -> [__m256; 2] {
            // SAFETY: the caller's promise.
            unsafe { [halves(header), halves(header.add(16))] }
        }
        #[inline(always)]
        unsafe fn codes(tile: *const u8) -> [__m256i; 8] {
            // SAFETY: the caller's promise.
            unsafe { nibbles(tile) }
        }
        #[inline(always)]
        unsafe fn scale([d, _]: [__m256; 2], tile: *const u8) -> __m256 {
            // SAFETY: the caller's promise.
            unsafe { _mm256_mul_ps(d, unsigned_bytes(tile.add(128))) }
        }
        #[inline(always)]
        unsafe fn min([_, dmin]: [__m256; 2], tile: *const u8) -> __m256 {
            // SAFETY: the caller's promise.
            unsafe { _mm256_xor_ps(_mm256_mul_ps(dmin, unsigned_bytes(tile.add(136))), _mm256_set1_ps(-0.0)) }
        }
    }

    impl Unpack for Q5K {
        const QUADS: usize = 4;
        type Header = [__m256; 2];
        #[inline(always)]
        unsafe fn header(header: *const u8) -> [__m256; 2] {
            // SAFETY: the caller's promise.
            unsafe { [halves(header), halves(header.add(16))] }
        }
        #[inline(always)]
        unsafe fn codes(tile: *const u8) -> [__m256i; 8] {
            // SAFETY: the caller's promise.
            unsafe { nibbles_and_bit(tile, tile.add(128)) }
        }
        #[inline(always)]
        unsafe fn scale([d, _]: [__m256; 2], tile: *const u8) -> __m256 {
            // SAFETY: the caller's promise.
            unsafe { _mm256_mul_ps(d, unsigned_bytes(tile.add(160))) }
        }
        #[inline(always)]
        unsafe fn min([_, dmin]: [__m256; 2], tile: *const u8) -> __m256 {
            // SAFETY: the caller's promise.
            unsafe { _mm256_xor_ps(_mm256_mul_ps(dmin, unsigned_bytes(tile.add(168))), _mm256_set1_ps(-0.0)) }
        }
    }
}
