//! Q6_K: 6-bit codes; 256 columns share an f16 factor of the 8-bit scales of 16 columns: `d · (scale · (code − 32))`.

use super::{Format, Scales, Shared, columns};
use crate::matmul::tile::{Nibbles, Pairs, Planes, ROWS};
use bytemuck::{Pod, Zeroable};
use lossy_quant::BlockQ6K;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct TileQ6K {
    nibbles: Nibbles,
    /// bits 4 and 5
    pairs: Pairs,
    /// of both halves
    scales: [[i8; 2]; ROWS],
}

const _: () = assert!(size_of::<TileQ6K>() == 208);

pub(crate) struct Q6K;

impl Format for Q6K {
    type Block = BlockQ6K;
    type Group = Shared<TileQ6K, 1>;
    const BITS: u32 = 6;
    const OFFSET: i16 = 32;
    const HALVES: bool = true;

    fn pack(rows: &[BlockQ6K; ROWS]) -> Self::Group {
        let codes = rows.map(|block| block.codes());
        Shared::new([rows.map(|block| block.d)], |index| {
            let codes = columns(&codes, index, 32);
            TileQ6K {
                nibbles: Nibbles::pack(&codes),
                pairs: Pairs::pack(&codes, 4),
                scales: rows.map(|block| [block.scales[2 * index], block.scales[2 * index + 1]]),
            }
        })
    }

    #[inline(always)]
    fn planes(tile: &TileQ6K) -> Planes<'_> {
        Planes::Six(&tile.nibbles, &tile.pairs)
    }

    #[inline(always)]
    fn scales(tile: &TileQ6K) -> Scales<'_> {
        Scales::Halves { scales: &tile.scales }
    }
}
