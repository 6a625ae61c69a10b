//! Q8_0: 8-bit codes, an f16 scale for 32 columns: `d · (code − 128)`.

use super::{Format, Scales};
use crate::matmul::tile::{Bytes, Halves, Planes, ROWS, codes_of};
use bytemuck::{Pod, Zeroable};
use lossy_quant::BlockQ8_0;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct TileQ8_0 {
    /// the file's codes + 128
    bytes: Bytes,
    d: Halves,
}

const _: () = assert!(size_of::<TileQ8_0>() == 272);

pub(crate) struct Q8_0;

impl Format for Q8_0 {
    type Block = BlockQ8_0;
    type Group = [TileQ8_0; 1];
    const BITS: u32 = 8;
    const OFFSET: i16 = 128;

    fn pack(rows: &[BlockQ8_0; ROWS]) -> [TileQ8_0; 1] {
        let codes = codes_of(rows, |block| block.qs.map(|code| code as u8 ^ 0x80));
        [TileQ8_0 { bytes: Bytes::pack(&codes), d: Halves::pack(rows.map(|block| block.d)) }]
    }

    #[inline(always)]
    fn planes(tile: &TileQ8_0) -> Planes<'_> {
        Planes::Eight(&tile.bytes)
    }

    #[inline(always)]
    fn scales(tile: &TileQ8_0) -> Scales<'_> {
        Scales::Own { d: &tile.d }
    }
}
