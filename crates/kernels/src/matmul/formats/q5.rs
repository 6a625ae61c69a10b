//! Q5_0 and Q5_1: 5-bit codes, an f16 scale for 32 columns, Q5_1 also an f16 minimum.
//!
//! Tile: 128 bytes of nibbles, 32 bytes with each code's bit 4, 8 scales, (Q5_1) 8 minima. Q5_0: `d · (code − 16)`; Q5_1:
//! `d · code + m`.

use super::{Format, Min};
use crate::matmul::tile::{
    ROWS, Tile, bit, codes_of, nibble, read_halves, write_bits, write_halves, write_nibbles,
};
use lossy_quant::{BlockQ5_0, BlockQ5_1};

pub(crate) struct Q5_0;

impl Format for Q5_0 {
    type Block = BlockQ5_0;
    const TILES: usize = 1;
    const HEADER_BYTES: usize = 0;
    const TILE_BYTES: usize = 128 + 32 + 16;
    const OFFSET: i16 = 16;
    const MIN: Min = Min::None;

    fn pack(rows: &[BlockQ5_0; ROWS], _: &mut [u8], tile: &mut [u8]) {
        let codes = codes_of(rows, |block| block.codes().map(|code| (code + 16) as u8));
        write_nibbles(&codes, tile);
        write_bits(&codes, 4, &mut tile[128..]);
        write_halves(rows.map(|block| block.d), &mut tile[160..]);
    }

    fn unpack(_: &[u8], tile: &[u8], out: &mut Tile) {
        out.set_codes(Self::OFFSET, |row, col| nibble(tile, row, col) | bit(&tile[128..], row, col) << 4);
        out.scale = read_halves(&tile[160..]);
    }
}

pub(crate) struct Q5_1;

impl Format for Q5_1 {
    type Block = BlockQ5_1;
    const TILES: usize = 1;
    const HEADER_BYTES: usize = 0;
    const TILE_BYTES: usize = 128 + 32 + 32;
    const OFFSET: i16 = 0;
    const MIN: Min = Min::Block;

    fn pack(rows: &[BlockQ5_1; ROWS], _: &mut [u8], tile: &mut [u8]) {
        let codes = codes_of(rows, BlockQ5_1::codes);
        write_nibbles(&codes, tile);
        write_bits(&codes, 4, &mut tile[128..]);
        write_halves(rows.map(|block| block.d), &mut tile[160..]);
        write_halves(rows.map(|block| block.m), &mut tile[176..]);
    }

    fn unpack(_: &[u8], tile: &[u8], out: &mut Tile) {
        out.set_codes(Self::OFFSET, |row, col| nibble(tile, row, col) | bit(&tile[128..], row, col) << 4);
        out.scale = read_halves(&tile[160..]);
        out.min = read_halves(&tile[176..]);
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::*;
    use crate::matmul::avx2::{Unpack, unpack::*};
    use std::arch::x86_64::*;

    impl Unpack for Q5_0 {
        const QUADS: usize = 4;
        type Header = ();
        #[inline(always)]
        unsafe fn header(_: *const u8) {}
        #[inline(always)]
        unsafe fn codes(tile: *const u8) -> [__m256i; 8] {
            // SAFETY: the caller's promise.
            unsafe { nibbles_and_bit(tile, tile.add(128)) }
        }
        #[inline(always)]
        unsafe fn scale(_: (), tile: *const u8) -> __m256 {
            // SAFETY: the caller's promise.
            unsafe { halves(tile.add(160)) }
        }
    }

    impl Unpack for Q5_1 {
        const QUADS: usize = 4;
        type Header = ();
        #[inline(always)]
        unsafe fn header(_: *const u8) {}
        #[inline(always)]
        unsafe fn codes(tile: *const u8) -> [__m256i; 8] {
            // SAFETY: the caller's promise.
            unsafe { nibbles_and_bit(tile, tile.add(128)) }
        }
        #[inline(always)]
        unsafe fn scale(_: (), tile: *const u8) -> __m256 {
            // SAFETY: the caller's promise.
            unsafe { halves(tile.add(160)) }
        }
        #[inline(always)]
        unsafe fn min(_: (), tile: *const u8) -> __m256 {
            // SAFETY: the caller's promise.
            unsafe { halves(tile.add(176)) }
        }
    }
}
