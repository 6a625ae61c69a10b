//! Q8_0: 8-bit codes, an f16 scale for 32 columns.
//!
//! Tile: 256 bytes of codes + 128, 8 scales: `d · (code − 128)`.

use super::{Format, Min};
use crate::matmul::tile::{ROWS, Tile, byte, codes_of, read_halves, write_bytes, write_halves};
use lossy_quant::BlockQ8_0;

pub(crate) struct Q8_0;

impl Format for Q8_0 {
    type Block = BlockQ8_0;
    const TILES: usize = 1;
    const HEADER_BYTES: usize = 0;
    const TILE_BYTES: usize = 256 + 16;
    const OFFSET: i16 = 128;
    const MIN: Min = Min::None;

    fn pack(rows: &[BlockQ8_0; ROWS], _: &mut [u8], tile: &mut [u8]) {
        let codes = codes_of(rows, |block| block.qs.map(|code| code as u8 ^ 0x80));
        write_bytes(&codes, tile);
        write_halves(rows.map(|block| block.d), &mut tile[256..]);
    }

    fn unpack(_: &[u8], tile: &[u8], out: &mut Tile) {
        out.set_codes(Self::OFFSET, |row, col| byte(tile, row, col));
        out.scale = read_halves(&tile[256..]);
    }
}
