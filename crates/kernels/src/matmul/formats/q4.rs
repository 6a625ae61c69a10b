//! Q4_0 and Q4_1: 4-bit codes, an f16 scale for 32 columns, Q4_1 also an f16 minimum.
//!
//! Q4_0: `d · (code − 8)`; Q4_1: `d · code + m`.

use super::{Format, Min, Scales};
use crate::matmul::tile::{Halves, Nibbles, Planes, ROWS, codes_of};
use bytemuck::{Pod, Zeroable};
use lossy_quant::{BlockQ4_0, BlockQ4_1};

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct TileQ4_0 {
    nibbles: Nibbles,
    d: Halves,
}

const _: () = assert!(size_of::<TileQ4_0>() == 144);

pub(crate) struct Q4_0;

impl Format for Q4_0 {
    type Block = BlockQ4_0;
    type Group = [TileQ4_0; 1];
    const BITS: u32 = 4;
    const OFFSET: i16 = 8;

    fn pack(rows: &[BlockQ4_0; ROWS]) -> [TileQ4_0; 1] {
        let codes = codes_of(rows, |block| block.codes().map(|code| (code + 8) as u8));
        [TileQ4_0 { nibbles: Nibbles::pack(&codes), d: Halves::pack(rows.map(|block| block.d)) }]
    }

    #[inline(always)]
    fn planes(tile: &TileQ4_0) -> Planes<'_> {
        Planes::Four(&tile.nibbles)
    }

    #[inline(always)]
    fn scales(tile: &TileQ4_0) -> Scales<'_> {
        Scales::Own { d: &tile.d }
    }
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct TileQ4_1 {
    nibbles: Nibbles,
    d: Halves,
    m: Halves,
}

const _: () = assert!(size_of::<TileQ4_1>() == 160);

pub(crate) struct Q4_1;

impl Format for Q4_1 {
    type Block = BlockQ4_1;
    type Group = [TileQ4_1; 1];
    const BITS: u32 = 4;
    const MIN: Min = Min::Block;

    fn pack(rows: &[BlockQ4_1; ROWS]) -> [TileQ4_1; 1] {
        [TileQ4_1 {
            nibbles: Nibbles::pack(&codes_of(rows, BlockQ4_1::codes)),
            d: Halves::pack(rows.map(|block| block.d)),
            m: Halves::pack(rows.map(|block| block.m)),
        }]
    }

    #[inline(always)]
    fn planes(tile: &TileQ4_1) -> Planes<'_> {
        Planes::Four(&tile.nibbles)
    }

    #[inline(always)]
    fn scales(tile: &TileQ4_1) -> Scales<'_> {
        Scales::OwnMin { d: &tile.d, m: &tile.m }
    }
}
