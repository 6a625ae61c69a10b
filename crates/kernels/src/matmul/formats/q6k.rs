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

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::*;
    use crate::matmul::avx2::{Unpack, unpack::*};
    use std::arch::x86_64::*;

    /// Nibbles with bits 4 and 5 from a plane of pairs.
    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn six_bits(tile: *const u8) -> [__m256i; 8] {
        // SAFETY: the caller's promise.
        let (mut quads, planes) = unsafe { (nibbles(tile), [load(tile, 4), load(tile, 5)]) };
        for (half, pairs) in planes.into_iter().enumerate() {
            let places = [
                _mm256_slli_epi16::<4>(pairs),
                _mm256_slli_epi16::<2>(pairs),
                pairs,
                _mm256_srli_epi16::<2>(pairs),
            ];
            for (j, place) in places.into_iter().enumerate() {
                let high = _mm256_and_si256(place, _mm256_set1_epi8(0x30));
                quads[4 * half + j] = _mm256_or_si256(quads[4 * half + j], high);
            }
        }
        quads
    }

    impl Unpack for Q6K {
        const QUADS: usize = 2;
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
            unsafe { six_bits(tile) }
        }
        #[inline(always)]
        unsafe fn scale(d: __m256, _: *const u8) -> __m256 {
            d
        }
        #[inline(always)]
        unsafe fn half_scales(tile: *const u8) -> __m256i {
            // SAFETY: the caller's promise.
            unsafe { signed_pairs(tile.add(192)) }
        }
    }
}
