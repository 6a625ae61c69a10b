//! IQ4_NL and IQ4_XS: 4-bit indices of 16 uneven levels, a scale for 32 columns.
//!
//! IQ4_NL tile: 128 bytes of nibbles, 8 f16 scales. IQ4_XS: a header of 8 f16 scales for 256 columns; tile: 128 bytes of
//! nibbles, 8 signed bytes that multiply the header's scale. `scale · (level + 128 − 128)`: with the offset a level is an
//! unsigned byte.

use super::{Format, Min};
use crate::matmul::tile::{COLS, ROWS, Tile, nibble, read_halves, write_halves, write_nibbles};
use lossy_quant::{BlockIQ4NL, BlockIQ4XS, IQ4_CODEBOOK};

/// The levels + 128.
pub(crate) const LEVELS: [u8; 16] = {
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

fn set_levels(nibbles: &[u8], out: &mut Tile) {
    out.set_codes(128, |row, col| LEVELS[usize::from(nibble(nibbles, row, col))]);
}

pub(crate) struct IQ4NL;

impl Format for IQ4NL {
    type Block = BlockIQ4NL;
    const TILES: usize = 1;
    const HEADER_BYTES: usize = 0;
    const TILE_BYTES: usize = 128 + 16;
    const OFFSET: i16 = 128;
    const MIN: Min = Min::None;

    fn pack(rows: &[BlockIQ4NL; ROWS], _: &mut [u8], tile: &mut [u8]) {
        write_nibbles(&rows.map(|block| file_nibbles(&block.qs)), tile);
        write_halves(rows.map(|block| block.d), &mut tile[128..]);
    }

    fn unpack(_: &[u8], tile: &[u8], out: &mut Tile) {
        set_levels(tile, out);
        out.scale = read_halves(&tile[128..]);
    }
}

pub(crate) struct IQ4XS;

impl Format for IQ4XS {
    type Block = BlockIQ4XS;
    const TILES: usize = 8;
    const HEADER_BYTES: usize = 16;
    const TILE_BYTES: usize = 128 + 8;
    const OFFSET: i16 = 128;
    const MIN: Min = Min::None;

    fn pack(rows: &[BlockIQ4XS; ROWS], header: &mut [u8], tiles: &mut [u8]) {
        write_halves(rows.map(|block| block.d), header);
        let scales = rows.map(|block| block.scales());
        for (index, tile) in tiles.chunks_exact_mut(Self::TILE_BYTES).enumerate() {
            write_nibbles(&rows.map(|block| file_nibbles(&block.qs[index])), tile);
            for (row, scales) in scales.iter().enumerate() {
                tile[128 + row] = scales[index] as u8;
            }
        }
    }

    fn unpack(header: &[u8], tile: &[u8], out: &mut Tile) {
        set_levels(tile, out);
        let d = read_halves(header);
        out.scale = std::array::from_fn(|row| d[row] * f32::from(tile[128 + row] as i8));
    }
}
