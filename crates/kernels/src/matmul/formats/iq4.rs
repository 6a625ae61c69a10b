//! IQ4_NL and IQ4_XS: 4-bit indices of 16 uneven levels, a scale for 32 columns.
//!
//! IQ4_NL tile: 128 bytes of nibbles, 8 f16 scales. IQ4_XS: a header of 8 f16 scales for 256 columns; tile: 128 bytes of
//! nibbles, 8 signed bytes that multiply the header's scale. `scale · (level + 128 − 128)`: with the offset a level is an
//! unsigned byte.

use super::{Format, Min};
use crate::matmul::tile::{COLS, ROWS, Tile, nibble, read_halves, write_halves, write_nibbles};
use lossy_quant::{BlockIQ4NL, BlockIQ4XS, IQ4_CODEBOOK};

/// The levels + 128.
pub(crate) const LEVELS: [u8; 16] = {
    let mut levels = [0; 16];
    let mut i = 0;
    while i < 16 {
        levels[i] = IQ4_CODEBOOK[i] as u8 ^ 0x80;
        i += 1;
    }
    levels
};

/// Four bits of the levels, from bit `shift` on.
#[cfg(target_arch = "x86_64")]
const fn nibbles_of(shift: u32) -> [u8; 16] {
    let mut nibbles = LEVELS;
    let mut i = 0;
    while i < 16 {
        nibbles[i] = LEVELS[i] >> shift & 15;
        i += 1;
    }
    nibbles
}

/// Codes of 32 columns that the file holds as 16 bytes: low nibbles first, then high nibbles.
fn file_nibbles(qs: &[u8; 16]) -> [u8; COLS] {
    std::array::from_fn(|col| qs[col % 16] >> (4 * (col / 16)) & 15)
}

fn set_levels(nibbles: &[u8], out: &mut Tile) {
    out.set_codes(128, |row, col| LEVELS[usize::from(nibble(nibbles, row, col))]);
}

pub(crate) struct IQ4NL;

impl Format for IQ4NL {
    type Block = BlockIQ4NL;
    const TILES: usize = 1;
    const HEADER_BYTES: usize = 0;
    const TILE_BYTES: usize = 128 + 16;
    const OFFSET: i16 = 128;
    const MIN: Min = Min::None;

    fn pack(rows: &[BlockIQ4NL; ROWS], _: &mut [u8], tile: &mut [u8]) {
        write_nibbles(&rows.map(|block| file_nibbles(&block.qs)), tile);
        write_halves(rows.map(|block| block.d), &mut tile[128..]);
    }

    fn unpack(_: &[u8], tile: &[u8], out: &mut Tile) {
        set_levels(tile, out);
        out.scale = read_halves(&tile[128..]);
    }
}

pub(crate) struct IQ4XS;

impl Format for IQ4XS {
    type Block = BlockIQ4XS;
    const TILES: usize = 8;
    const HEADER_BYTES: usize = 16;
    const TILE_BYTES: usize = 128 + 8;
    const OFFSET: i16 = 128;
    const MIN: Min = Min::None;

    fn pack(rows: &[BlockIQ4XS; ROWS], header: &mut [u8], tiles: &mut [u8]) {
        write_halves(rows.map(|block| block.d), header);
        let scales = rows.map(|block| block.scales());
        for (index, tile) in tiles.chunks_exact_mut(Self::TILE_BYTES).enumerate() {
            write_nibbles(&rows.map(|block| file_nibbles(&block.qs[index])), tile);
            for (row, scales) in scales.iter().enumerate() {
                tile[128 + row] = scales[index] as u8;
            }
        }
    }

    fn unpack(header: &[u8], tile: &[u8], out: &mut Tile) {
        set_levels(tile, out);
        let d = read_halves(header);
        out.scale = std::array::from_fn(|row| d[row] * f32::from(tile[128 + row] as i8));
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::*;
    use crate::matmul::avx2::{Unpack, unpack::*};
    use std::arch::x86_64::*;

    /// What a table has at each index.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn look_up(table: [u8; 16], indices: __m256i) -> __m256i {
        let bytes = u128::from_le_bytes(table);
        let table = _mm256_set_epi64x((bytes >> 64) as i64, bytes as i64, (bytes >> 64) as i64, bytes as i64);
        _mm256_shuffle_epi8(table, indices)
    }

    /// High and low nibbles of the levels.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn split_levels(indices: __m256i) -> (__m256i, __m256i) {
        let [high, low] = const { [nibbles_of(4), nibbles_of(0)] };
        (look_up(high, indices), look_up(low, indices))
    }

    impl Unpack for IQ4NL {
        const WIDE: bool = true;
        const QUADS: usize = 8;
        type Header = ();
        #[inline(always)]
        unsafe fn header(_: *const u8) {}
        #[inline(always)]
        unsafe fn codes(tile: *const u8) -> [__m256i; 8] {
            // SAFETY: the caller's promise.
            unsafe { nibbles(tile) }
        }
        #[inline(always)]
        unsafe fn nibbles(codes: __m256i) -> (__m256i, __m256i) {
            // SAFETY: AVX2 is available.
            unsafe { split_levels(codes) }
        }
        #[inline(always)]
        unsafe fn bytes(codes: __m256i) -> __m256i {
            // SAFETY: AVX2 is available.
            unsafe { look_up(LEVELS, codes) }
        }
        #[inline(always)]
        unsafe fn scale(_: (), tile: *const u8) -> __m256 {
            // SAFETY: the caller's promise.
            unsafe { halves(tile.add(128)) }
        }
    }

    impl Unpack for IQ4XS {
        const WIDE: bool = true;
        const QUADS: usize = 8;
        type Header = __m256;
        #[inline(always)]
        unsafe fn header(header: *const u8) -> __m256 {
            // SAFETY: the caller's promise.
            unsafe { halves(header) }
        }
        #[inline(always)]
        unsafe fn codes(tile: *const u8) -> [__m256i; 8] {
            // SAFETY: the caller's promise.
            unsafe { nibbles(tile) }
        }
        #[inline(always)]
        unsafe fn nibbles(codes: __m256i) -> (__m256i, __m256i) {
            // SAFETY: AVX2 is available.
            unsafe { split_levels(codes) }
        }
        #[inline(always)]
        unsafe fn bytes(codes: __m256i) -> __m256i {
            // SAFETY: AVX2 is available.
            unsafe { look_up(LEVELS, codes) }
        }
        #[inline(always)]
        unsafe fn scale(d: __m256, tile: *const u8) -> __m256 {
            // SAFETY: the caller's promise.
            unsafe { _mm256_mul_ps(d, signed_bytes(tile.add(128))) }
        }
    }
}
