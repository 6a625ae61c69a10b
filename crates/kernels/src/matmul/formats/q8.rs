//! Q8_0: 8-bit codes, an f16 scale for 32 columns.
//!
//! Tile: 256 bytes of codes + 128, 8 scales: `d · (code − 128)`.

use super::{Format, Min};
use crate::matmul::tile::{ROWS, Tile, byte, codes_of, read_halves, write_bytes, write_halves};
use lossy_quant::BlockQ8_0;

pub(crate) struct Q8_0;

impl Format for Q8_0 {
    type Block = BlockQ8_0;
    const TILES: usize = 1;
    const HEADER_BYTES: usize = 0;
    const TILE_BYTES: usize = 256 + 16;
    const OFFSET: i16 = 128;
    const MIN: Min = Min::None;

    fn pack(rows: &[BlockQ8_0; ROWS], _: &mut [u8], tile: &mut [u8]) {
        let codes = codes_of(rows, |block| block.qs.map(|code| code as u8 ^ 0x80));
        write_bytes(&codes, tile);
        write_halves(rows.map(|block| block.d), &mut tile[256..]);
    }

    fn unpack(_: &[u8], tile: &[u8], out: &mut Tile) {
        out.set_codes(Self::OFFSET, |row, col| byte(tile, row, col));
        out.scale = read_halves(&tile[256..]);
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::*;
    use crate::matmul::avx2::{Unpack, unpack::*};
    use std::arch::x86_64::*;

    impl Unpack for Q8_0 {
        const WIDE: bool = true;
        const QUADS: usize = 8;
        type Header = ();
        #[inline(always)]
        unsafe fn header(_: *const u8) {}
        #[inline(always)]
        unsafe fn codes(tile: *const u8) -> [__m256i; 8] {
            // SAFETY: the caller's promise.
            unsafe { std::array::from_fn(|j| load(tile, j)) }
        }
        #[inline(always)]
        unsafe fn scale(_: (), tile: *const u8) -> __m256 {
            // SAFETY: the caller's promise.
            unsafe { halves(tile.add(256)) }
        }
    }
}
