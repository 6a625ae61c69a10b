//! IQ4_NL and IQ4_XS: 4-bit indices of 16 uneven levels, a scale for 32 columns.
//!
//! IQ4_NL has f16 scales: `d · level`. IQ4_XS has signed bytes, whose f16 factor 256 columns share: `(d · scale) · level`. Packed
//! levels are the file's + 128, so that they are unsigned bytes.

use super::{Format, Scales, Shared};
use crate::matmul::tile::{COLS, Halves, Nibbles, Planes, ROWS};
use bytemuck::{Pod, Zeroable};
use lossy_quant::{BlockIQ4NL, BlockIQ4XS, IQ4_CODEBOOK};

/// The levels + 128.
const LEVELS: [u8; 16] = {
    let mut levels = [0; 16];
    let mut i = 0;
    while i < 16 {
        levels[i] = IQ4_CODEBOOK[i] as u8 ^ 0x80;
        i += 1;
    }
    levels
};

/// Codes of 32 columns that the file holds as 16 bytes: low nibbles first, then high nibbles.
fn file_nibbles(qs: &[u8; 16]) -> [u8; COLS] {
    std::array::from_fn(|col| qs[col % 16] >> (4 * (col / 16)) & 15)
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct TileIQ4NL {
    indices: Nibbles,
    d: Halves,
}

const _: () = assert!(size_of::<TileIQ4NL>() == 144);

pub(crate) struct IQ4NL;

impl Format for IQ4NL {
    type Block = BlockIQ4NL;
    type Group = [TileIQ4NL; 1];
    const BITS: u32 = 8;
    const LEVELS: Option<[u8; 16]> = Some(LEVELS);
    const OFFSET: i16 = 128;

    fn pack(rows: &[BlockIQ4NL; ROWS]) -> [TileIQ4NL; 1] {
        let indices = rows.map(|block| file_nibbles(&block.qs));
        [TileIQ4NL { indices: Nibbles::pack(&indices), d: Halves::pack(rows.map(|block| block.d)) }]
    }

    #[inline(always)]
    fn planes(tile: &TileIQ4NL) -> Planes<'_> {
        Planes::Four(&tile.indices)
    }

    #[inline(always)]
    fn scales(tile: &TileIQ4NL) -> Scales<'_> {
        Scales::Own { d: &tile.d }
    }
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct TileIQ4XS {
    indices: Nibbles,
    scales: [i8; ROWS],
}

const _: () = assert!(size_of::<TileIQ4XS>() == 136);

pub(crate) struct IQ4XS;

impl Format for IQ4XS {
    type Block = BlockIQ4XS;
    type Group = Shared<TileIQ4XS, 1>;
    const BITS: u32 = 8;
    const LEVELS: Option<[u8; 16]> = Some(LEVELS);
    const OFFSET: i16 = 128;

    fn pack(rows: &[BlockIQ4XS; ROWS]) -> Self::Group {
        let scales = rows.map(|block| block.scales());
        Shared::new([rows.map(|block| block.d)], |index| TileIQ4XS {
            indices: Nibbles::pack(&rows.map(|block| file_nibbles(&block.qs[index]))),
            scales: scales.map(|scales| scales[index]),
        })
    }

    #[inline(always)]
    fn planes(tile: &TileIQ4XS) -> Planes<'_> {
        Planes::Four(&tile.indices)
    }

    #[inline(always)]
    fn scales(tile: &TileIQ4XS) -> Scales<'_> {
        Scales::Signed { scales: &tile.scales }
    }
}
