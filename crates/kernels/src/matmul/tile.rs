//! The unit of a packed matrix: 8 rows × 32 columns.
//!
//! Codes are stored by *quads*, four neighbouring columns of one row in four neighbouring bytes. Quad `j` (columns
//! 4j..4j+4) of all eight rows is a 32-byte vector, byte `4i + z` = row `i`, column `4j + z`; so one 32-bit broadcast of
//! four int8 activations meets all eight rows, and an 8-lane sum is one value per row. Codes of fewer than eight bits
//! share bytes without changing that order, as *planes* of 32-byte vectors:
//!
//! | plane | bytes | quad `j` is in |
//! |---|---|---|
//! | [`Nibbles`] | 128 | vector `j % 4`: low nibble for `j < 4`, else high nibble |
//! | [`Pairs`] (2 bits) | 64 | vector `j / 4`, bits `2(j % 4)` and the next |
//! | [`Bits`] | 32 | bit `j` |
//! | [`Bytes`] | 256 | vector `j` |

use bytemuck::{Pod, Zeroable};
use half::f16;

/// Rows of a tile and of a strip.
pub(crate) const ROWS: usize = 8;
/// Columns of a tile: those of a block of int8 activations.
pub(crate) use crate::activations::COLS;
/// Quads of a tile.
const QUADS: usize = 8;

/// The codes of a tile before they are packed, `[row][column]`.
pub(crate) type Codes = [[u8; COLS]; ROWS];

/// Codes of eight rows, `[row][column]`, from each row's codes.
pub(crate) fn codes_of<T: Copy>(rows: &[T; ROWS], codes: impl Fn(&T) -> [u8; COLS]) -> Codes {
    std::array::from_fn(|row| codes(&rows[row]))
}

/// Four bits of every code.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(transparent)]
pub(crate) struct Nibbles(pub [[u8; 32]; 4]);

/// Two bits of every code.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(transparent)]
pub(crate) struct Pairs(pub [[u8; 32]; 2]);

/// One bit of every code.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(transparent)]
pub(crate) struct Bits(pub [u8; 32]);

/// Whole codes of eight bits.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(transparent)]
pub(crate) struct Bytes(pub [[u8; 32]; 8]);

/// Eight f16, one a row, as little-endian bytes, so that a tile is aligned to bytes.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(transparent)]
pub(crate) struct Halves(pub [[u8; 2]; ROWS]);

/// Calls `visit(quad, byte, row, column)` for each code.
fn each_code(mut visit: impl FnMut(usize, usize, usize, usize)) {
    for quad in 0..QUADS {
        for byte in 0..32 {
            visit(quad, byte, byte / 4, 4 * quad + byte % 4);
        }
    }
}

impl Nibbles {
    /// The low four bits of the codes.
    pub fn pack(codes: &Codes) -> Nibbles {
        let mut plane = [[0; 32]; 4];
        each_code(|quad, byte, row, col| {
            plane[quad % 4][byte] |= (codes[row][col] & 15) << (4 * (quad / 4));
        });
        Nibbles(plane)
    }

    /// The nibble at a row and column.
    pub fn at(&self, row: usize, col: usize) -> u8 {
        let quad = col / 4;
        self.0[quad % 4][4 * row + col % 4] >> (4 * (quad / 4)) & 15
    }
}

impl Pairs {
    /// Bits `shift` and `shift + 1` of the codes.
    pub fn pack(codes: &Codes, shift: u32) -> Pairs {
        let mut plane = [[0; 32]; 2];
        each_code(|quad, byte, row, col| {
            plane[quad / 4][byte] |= (codes[row][col] >> shift & 3) << (2 * (quad % 4));
        });
        Pairs(plane)
    }

    /// The two bits at a row and column.
    pub fn at(&self, row: usize, col: usize) -> u8 {
        let quad = col / 4;
        self.0[quad / 4][4 * row + col % 4] >> (2 * (quad % 4)) & 3
    }
}

impl Bits {
    /// Bit `shift` of the codes.
    pub fn pack(codes: &Codes, shift: u32) -> Bits {
        let mut plane = [0; 32];
        each_code(|quad, byte, row, col| plane[byte] |= (codes[row][col] >> shift & 1) << quad);
        Bits(plane)
    }

    /// The bit at a row and column.
    pub fn at(&self, row: usize, col: usize) -> u8 {
        self.0[4 * row + col % 4] >> (col / 4) & 1
    }
}

impl Bytes {
    /// The codes.
    pub fn pack(codes: &Codes) -> Bytes {
        let mut plane = [[0; 32]; QUADS];
        each_code(|quad, byte, row, col| plane[quad][byte] = codes[row][col]);
        Bytes(plane)
    }

    /// The code at a row and column.
    pub fn at(&self, row: usize, col: usize) -> u8 {
        self.0[col / 4][4 * row + col % 4]
    }
}

impl Halves {
    /// The bytes of eight f16.
    pub fn pack(values: [f16; ROWS]) -> Halves {
        Halves(values.map(f16::to_le_bytes))
    }

    /// Their values.
    pub fn values(&self) -> [f32; ROWS] {
        self.0.map(|bytes| f16::from_le_bytes(bytes).to_f32())
    }
}

/// The planes that hold the codes of a tile, least bits first: how many bits a code has says which.
#[derive(Clone, Copy)]
pub(crate) enum Planes<'a> {
    Two(&'a Pairs),
    Three(&'a Pairs, &'a Bits),
    Four(&'a Nibbles),
    Five(&'a Nibbles, &'a Bits),
    Six(&'a Nibbles, &'a Pairs),
    Eight(&'a Bytes),
}

impl Planes<'_> {
    /// The code at a row and column.
    pub fn at(self, row: usize, col: usize) -> u8 {
        match self {
            Planes::Two(pairs) => pairs.at(row, col),
            Planes::Three(pairs, bits) => pairs.at(row, col) | bits.at(row, col) << 2,
            Planes::Four(nibbles) => nibbles.at(row, col),
            Planes::Five(nibbles, bits) => nibbles.at(row, col) | bits.at(row, col) << 4,
            Planes::Six(nibbles, pairs) => nibbles.at(row, col) | pairs.at(row, col) << 4,
            Planes::Eight(bytes) => bytes.at(row, col),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_plane_gives_back_its_bits() {
        let codes: Codes =
            std::array::from_fn(|row| std::array::from_fn(|col| (row * 37 + col * 101 + 11) as u8));
        let (nibbles, bytes) = (Nibbles::pack(&codes), Bytes::pack(&codes));
        let (pairs, bits) = (Pairs::pack(&codes, 4), Bits::pack(&codes, 6));
        for (row, codes) in codes.iter().enumerate() {
            for (col, code) in codes.iter().enumerate() {
                assert_eq!(nibbles.at(row, col), code & 15);
                assert_eq!(pairs.at(row, col), code >> 4 & 3);
                assert_eq!(bits.at(row, col), code >> 6 & 1);
                assert_eq!(bytes.at(row, col), *code);
                assert_eq!(Planes::Six(&nibbles, &pairs).at(row, col), code & 63);
            }
        }
    }
}
