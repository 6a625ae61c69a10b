//! Q5_0 and Q5_1: 5-bit codes, an f16 scale for 32 columns, Q5_1 also an f16 minimum.
//!
//! Q5_0: `d · (code − 16)`; Q5_1: `d · code + m`.

use super::{Format, Min, Scales};
use crate::matmul::tile::{Bits, Halves, Nibbles, Planes, ROWS, codes_of};
use bytemuck::{Pod, Zeroable};
use lossy_quant::{BlockQ5_0, BlockQ5_1};

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct TileQ5_0 {
    nibbles: Nibbles,
    /// bit 4
    bits: Bits,
    d: Halves,
}

const _: () = assert!(size_of::<TileQ5_0>() == 176);

pub(crate) struct Q5_0;

impl Format for Q5_0 {
    type Block = BlockQ5_0;
    type Group = [TileQ5_0; 1];
    const BITS: u32 = 5;
    const OFFSET: i16 = 16;

    fn pack(rows: &[BlockQ5_0; ROWS]) -> [TileQ5_0; 1] {
        let codes = codes_of(rows, |block| block.codes().map(|code| (code + 16) as u8));
        [TileQ5_0 {
            nibbles: Nibbles::pack(&codes),
            bits: Bits::pack(&codes, 4),
            d: Halves::pack(rows.map(|block| block.d)),
        }]
    }

    #[inline(always)]
    fn planes(tile: &TileQ5_0) -> Planes<'_> {
        Planes::Five(&tile.nibbles, &tile.bits)
    }

    #[inline(always)]
    fn scales(tile: &TileQ5_0) -> Scales<'_> {
        Scales::Own { d: &tile.d }
    }
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct TileQ5_1 {
    nibbles: Nibbles,
    /// bit 4
    bits: Bits,
    d: Halves,
    m: Halves,
}

const _: () = assert!(size_of::<TileQ5_1>() == 192);

pub(crate) struct Q5_1;

impl Format for Q5_1 {
    type Block = BlockQ5_1;
    type Group = [TileQ5_1; 1];
    const BITS: u32 = 5;
    const MIN: Min = Min::Block;

    fn pack(rows: &[BlockQ5_1; ROWS]) -> [TileQ5_1; 1] {
        let codes = codes_of(rows, BlockQ5_1::codes);
        [TileQ5_1 {
            nibbles: Nibbles::pack(&codes),
            bits: Bits::pack(&codes, 4),
            d: Halves::pack(rows.map(|block| block.d)),
            m: Halves::pack(rows.map(|block| block.m)),
        }]
    }

    #[inline(always)]
    fn planes(tile: &TileQ5_1) -> Planes<'_> {
        Planes::Five(&tile.nibbles, &tile.bits)
    }

    #[inline(always)]
    fn scales(tile: &TileQ5_1) -> Scales<'_> {
        Scales::OwnMin { d: &tile.d, m: &tile.m }
    }
}
