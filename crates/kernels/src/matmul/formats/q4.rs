//! Q4_0 and Q4_1: 4-bit codes, an f16 scale for 32 columns, Q4_1 also an f16 minimum.
//!
//! Tile: 128 bytes of nibbles, 8 scales, (Q4_1) 8 minima. Q4_0: `d · (code − 8)`; Q4_1: `d · code + m`.

use super::{Format, Min};
use crate::matmul::tile::{ROWS, Tile, codes_of, nibble, read_halves, write_halves, write_nibbles};
use lossy_quant::{BlockQ4_0, BlockQ4_1};

pub(crate) struct Q4_0;

impl Format for Q4_0 {
    type Block = BlockQ4_0;
    const TILES: usize = 1;
    const HEADER_BYTES: usize = 0;
    const TILE_BYTES: usize = 128 + 16;
    const OFFSET: i16 = 8;
    const MIN: Min = Min::None;

    fn pack(rows: &[BlockQ4_0; ROWS], _: &mut [u8], tile: &mut [u8]) {
        let codes = codes_of(rows, |block| block.codes().map(|code| (code + 8) as u8));
        write_nibbles(&codes, tile);
        write_halves(rows.map(|block| block.d), &mut tile[128..]);
    }

    fn unpack(_: &[u8], tile: &[u8], out: &mut Tile) {
        out.set_codes(Self::OFFSET, |row, col| nibble(tile, row, col));
        out.scale = read_halves(&tile[128..]);
    }
}

pub(crate) struct Q4_1;

impl Format for Q4_1 {
    type Block = BlockQ4_1;
    const TILES: usize = 1;
    const HEADER_BYTES: usize = 0;
    const TILE_BYTES: usize = 128 + 32;
    const OFFSET: i16 = 0;
    const MIN: Min = Min::Block;

    fn pack(rows: &[BlockQ4_1; ROWS], _: &mut [u8], tile: &mut [u8]) {
        write_nibbles(&codes_of(rows, BlockQ4_1::codes), tile);
        write_halves(rows.map(|block| block.d), &mut tile[128..]);
        write_halves(rows.map(|block| block.m), &mut tile[144..]);
    }

    fn unpack(_: &[u8], tile: &[u8], out: &mut Tile) {
        out.set_codes(Self::OFFSET, |row, col| nibble(tile, row, col));
        out.scale = read_halves(&tile[128..]);
        out.min = read_halves(&tile[144..]);
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::*;
    use crate::matmul::avx2::{Unpack, unpack::*};
    use std::arch::x86_64::*;

    impl Unpack for Q4_0 {
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
        unsafe fn scale(_: (), tile: *const u8) -> __m256 {
            // SAFETY: the caller's promise.
            unsafe { halves(tile.add(128)) }
        }
    }

    impl Unpack for Q4_1 {
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
        unsafe fn scale(_: (), tile: *const u8) -> __m256 {
            // SAFETY: the caller's promise.
            unsafe { halves(tile.add(128)) }
        }
        #[inline(always)]
        unsafe fn min(_: (), tile: *const u8) -> __m256 {
            // SAFETY: the caller's promise.
            unsafe { halves(tile.add(144)) }
        }
    }
}
