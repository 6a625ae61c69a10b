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

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::*;
    use crate::matmul::avx2::{Unpack, unpack::*};
    use std::arch::x86_64::*;

    /// Pairs of bits, quad by quad.
    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn pairs(tile: *const u8) -> [__m256i; 8] {
        let three = _mm256_set1_epi8(3);
        let mut quads = [_mm256_setzero_si256(); 8];
        for half in 0..2 {
            // SAFETY: the caller's promise.
            let plane = unsafe { load(tile, half) };
            quads[4 * half] = _mm256_and_si256(plane, three);
            quads[4 * half + 1] = _mm256_and_si256(_mm256_srli_epi16::<2>(plane), three);
            quads[4 * half + 2] = _mm256_and_si256(_mm256_srli_epi16::<4>(plane), three);
            quads[4 * half + 3] = _mm256_and_si256(_mm256_srli_epi16::<6>(plane), three);
        }
        quads
    }

    /// Pairs of bits with a third from a plane of bits.
    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn three_bits(tile: *const u8) -> [__m256i; 8] {
        // SAFETY: the caller's promise.
        let (mut quads, bits) = unsafe { (pairs(tile), load(tile, 2)) };
        let four = _mm256_set1_epi8(4);
        let chains = [
            (_mm256_add_epi8(bits, bits), [1, 0].as_slice()),
            (_mm256_srli_epi16::<2>(bits), &[4, 3, 2]),
            (_mm256_srli_epi16::<5>(bits), &[7, 6, 5]),
        ];
        for (mut doubled, places) in chains {
            for j in places.iter().copied() {
                quads[j] = _mm256_or_si256(quads[j], _mm256_and_si256(doubled, four));
                doubled = _mm256_add_epi8(doubled, doubled);
            }
        }
        quads
    }

    impl Unpack for Q2K {
        const QUADS: usize = 4;
        const HALVES: bool = true;
        type Header = [__m256; 2];
        #[inline(always)]
        unsafe fn header(header: *const u8) -> [__m256; 2] {
            // SAFETY: the caller's promise.
            unsafe { [halves(header), halves(header.add(16))] }
        }
        #[inline(always)]
        unsafe fn codes(tile: *const u8) -> [__m256i; 8] {
            // SAFETY: the caller's promise.
            unsafe { pairs(tile) }
        }
        #[inline(always)]
        unsafe fn scale([d, _]: [__m256; 2], _: *const u8) -> __m256 {
            d
        }
        #[inline(always)]
        unsafe fn min([_, dmin]: [__m256; 2], _: *const u8) -> __m256 {
            // SAFETY: the caller's promise.
            unsafe { _mm256_xor_ps(dmin, _mm256_set1_ps(-0.0)) }
        }
        #[inline(always)]
        unsafe fn half_scales(tile: *const u8) -> __m256i {
            // SAFETY: the caller's promise.
            unsafe { _mm256_and_si256(signed_pairs(tile.add(64)), _mm256_set1_epi16(15)) }
        }
        #[inline(always)]
        unsafe fn half_mins(tile: *const u8) -> __m256i {
            // SAFETY: the caller's promise.
            unsafe {
                _mm256_and_si256(_mm256_srli_epi16::<4>(signed_pairs(tile.add(64))), _mm256_set1_epi16(15))
            }
        }
    }

    impl Unpack for Q3K {
        const QUADS: usize = 4;
        const HALVES: bool = true;
        type Header = __m256;
        #[inline(always)]
        unsafe fn header(header: *const u8) -> __m256 {
            // SAFETY: the caller's promise.
            unsafe { halves(header) }
        }
        #[inline(always)]
        unsafe fn codes(tile: *const u8) -> [__m256i; 8] {
            // SAFETY: the caller's promise.
            unsafe { three_bits(tile) }
        }
        #[inline(always)]
        unsafe fn scale(d: __m256, _: *const u8) -> __m256 {
            d
        }
        #[inline(always)]
        unsafe fn half_scales(tile: *const u8) -> __m256i {
            // SAFETY: the caller's promise.
            unsafe { signed_pairs(tile.add(96)) }
        }
    }
}
