//! Q4_K and Q5_K: 4- and 5-bit codes; 256 columns share f16 factors of the scales and minima of 32 columns, which have 6 bits in
//! the file: `(d · scale) · code − dmin · min`.

use super::{Format, Min, Scales, Shared, columns};
use crate::matmul::tile::{Bits, Nibbles, Planes, ROWS};
use bytemuck::{Pod, Zeroable};
use lossy_quant::{BlockQ4K, BlockQ5K};

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct TileQ4K {
    nibbles: Nibbles,
    scales: [u8; ROWS],
    mins: [u8; ROWS],
}

const _: () = assert!(size_of::<TileQ4K>() == 144);

pub(crate) struct Q4K;

impl Format for Q4K {
    type Block = BlockQ4K;
    type Group = Shared<TileQ4K, 2>;
    const BITS: u32 = 4;
    const MIN: Min = Min::Block;

    fn pack(rows: &[BlockQ4K; ROWS]) -> Self::Group {
        let codes = rows.map(|block| block.codes());
        let scales = rows.map(|block| block.scales_mins());
        Shared::new([rows.map(|block| block.d), rows.map(|block| block.dmin)], |index| TileQ4K {
            nibbles: Nibbles::pack(&columns(&codes, index, 0)),
            scales: scales.map(|(scales, _)| scales[index]),
            mins: scales.map(|(_, mins)| mins[index]),
        })
    }

    #[inline(always)]
    fn planes(tile: &TileQ4K) -> Planes<'_> {
        Planes::Four(&tile.nibbles)
    }

    #[inline(always)]
    fn scales(tile: &TileQ4K) -> Scales<'_> {
        Scales::UnsignedMin { scales: &tile.scales, mins: &tile.mins }
    }
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct TileQ5K {
    nibbles: Nibbles,
    /// bit 4
    bits: Bits,
    scales: [u8; ROWS],
    mins: [u8; ROWS],
}

const _: () = assert!(size_of::<TileQ5K>() == 176);

pub(crate) struct Q5K;

impl Format for Q5K {
    type Block = BlockQ5K;
    type Group = Shared<TileQ5K, 2>;
    const BITS: u32 = 5;
    const MIN: Min = Min::Block;

    fn pack(rows: &[BlockQ5K; ROWS]) -> Self::Group {
        let codes = rows.map(|block| block.codes());
        let scales = rows.map(|block| block.scales_mins());
        Shared::new([rows.map(|block| block.d), rows.map(|block| block.dmin)], |index| {
            let codes = columns(&codes, index, 0);
            TileQ5K {
                nibbles: Nibbles::pack(&codes),
                bits: Bits::pack(&codes, 4),
                scales: scales.map(|(scales, _)| scales[index]),
                mins: scales.map(|(_, mins)| mins[index]),
            }
        })
    }

    #[inline(always)]
    fn planes(tile: &TileQ5K) -> Planes<'_> {
        Planes::Five(&tile.nibbles, &tile.bits)
    }

    #[inline(always)]
    fn scales(tile: &TileQ5K) -> Scales<'_> {
        Scales::UnsignedMin { scales: &tile.scales, mins: &tile.mins }
    }
}
