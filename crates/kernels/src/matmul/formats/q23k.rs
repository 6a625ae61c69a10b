//! Q2_K and Q3_K: 2- and 3-bit codes; 256 columns share an f16 factor of the scales of 16 columns.
//!
//! Q2_K has 4-bit scales and 4-bit minima: `d · (scale · code) − dmin · min`. Q3_K has signed scales, of 6 bits in the file:
//! `d · (scale · (code − 4))`.

use super::{Format, Min, Scales, Shared, columns};
use crate::matmul::tile::{Bits, Pairs, Planes, ROWS};
use bytemuck::{Pod, Zeroable};
use lossy_quant::{BlockQ2K, BlockQ3K};

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct TileQ2K {
    pairs: Pairs,
    /// scale (low nibble) and minimum (high nibble) of both halves
    nibbles: [[u8; 2]; ROWS],
}

const _: () = assert!(size_of::<TileQ2K>() == 80);

pub(crate) struct Q2K;

impl Format for Q2K {
    type Block = BlockQ2K;
    type Group = Shared<TileQ2K, 2>;
    const BITS: u32 = 2;
    const HALVES: bool = true;
    const MIN: Min = Min::Halves;

    fn pack(rows: &[BlockQ2K; ROWS]) -> Self::Group {
        let codes = rows.map(|block| block.codes());
        Shared::new([rows.map(|block| block.d), rows.map(|block| block.dmin)], |index| TileQ2K {
            pairs: Pairs::pack(&columns(&codes, index, 0), 0),
            nibbles: rows.map(|block| [block.scales[2 * index], block.scales[2 * index + 1]]),
        })
    }

    #[inline(always)]
    fn planes(tile: &TileQ2K) -> Planes<'_> {
        Planes::Two(&tile.pairs)
    }

    #[inline(always)]
    fn scales(tile: &TileQ2K) -> Scales<'_> {
        Scales::HalvesMin { nibbles: &tile.nibbles }
    }
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct TileQ3K {
    pairs: Pairs,
    /// bit 2
    bits: Bits,
    /// of both halves
    scales: [[i8; 2]; ROWS],
}

const _: () = assert!(size_of::<TileQ3K>() == 112);

pub(crate) struct Q3K;

impl Format for Q3K {
    type Block = BlockQ3K;
    type Group = Shared<TileQ3K, 1>;
    const BITS: u32 = 3;
    const OFFSET: i16 = 4;
    const HALVES: bool = true;

    fn pack(rows: &[BlockQ3K; ROWS]) -> Self::Group {
        let codes = rows.map(|block| block.codes());
        let scales = rows.map(|block| block.scales());
        Shared::new([rows.map(|block| block.d)], |index| {
            let codes = columns(&codes, index, 4);
            TileQ3K {
                pairs: Pairs::pack(&codes, 0),
                bits: Bits::pack(&codes, 2),
                scales: scales.map(|scales| [scales[2 * index], scales[2 * index + 1]]),
            }
        })
    }

    #[inline(always)]
    fn planes(tile: &TileQ3K) -> Planes<'_> {
        Planes::Three(&tile.pairs, &tile.bits)
    }

    #[inline(always)]
    fn scales(tile: &TileQ3K) -> Scales<'_> {
        Scales::Halves { scales: &tile.scales }
    }
}
