//! The unit of a packed matrix: 8 rows × 32 columns.
//!
//! Codes are stored by *quads*, four neighbouring columns of one row in four neighbouring bytes. Quad `j` (columns
//! 4j..4j+4) of all eight rows is a 32-byte vector, byte `4i + z` = row `i`, column `4j + z`; so one 32-bit broadcast of
//! four int8 activations meets all eight rows, and an 8-lane sum is one value per row. Codes of fewer than eight bits
//! share bytes without changing that order, as *planes* of 32-byte vectors:
//!
//! | plane | bytes | quad `j` is in |
//! |---|---|---|
//! | nibbles | 128 | vector `j % 4`: low nibble for `j < 4`, else high nibble |
//! | pairs (2 bits) | 64 | vector `j / 4`, bits `2(j % 4)` and the next |
//! | bits | 32 | bit `j` |
//! | bytes | 256 | vector `j` |

/// Rows of a tile and of a strip.
pub(crate) const ROWS: usize = 8;
/// Columns of a tile: those of a block of int8 activations.
pub(crate) use crate::activations::COLS;
/// Quads of a tile.
const QUADS: usize = 8;

/// The codes of a tile before they are packed, `[row][column]`.
pub(crate) type Codes = [[u8; COLS]; ROWS];

/// An unpacked tile: the value at a row and column is `scale · half_scale · code + min · half_min`, all of that row and
/// of the column's half (16 columns).
#[derive(Clone)]
pub(crate) struct Tile {
    /// with the format's offset already subtracted
    pub codes: [[i16; COLS]; ROWS],
    pub half_scales: [[i16; 2]; ROWS],
    pub scale: [f32; ROWS],
    pub half_mins: [[i16; 2]; ROWS],
    pub min: [f32; ROWS],
}

impl Tile {
    /// All codes and scales 0, all factors of halves 1.
    pub fn new() -> Tile {
        Tile {
            codes: [[0; COLS]; ROWS],
            half_scales: [[1; 2]; ROWS],
            scale: [0.0; ROWS],
            half_mins: [[1; 2]; ROWS],
            min: [0.0; ROWS],
        }
    }

    /// Fills in the codes, less `offset`.
    pub fn set_codes(&mut self, offset: i16, code: impl Fn(usize, usize) -> u8) {
        for row in 0..ROWS {
            for col in 0..COLS {
                self.codes[row][col] = i16::from(code(row, col)) - offset;
            }
        }
    }

    /// The value at a row and column, computed as the formats' own `dequantize` does.
    pub fn value(&self, row: usize, col: usize) -> f32 {
        let half = col / 16;
        let scale = self.scale[row] * f32::from(self.half_scales[row][half]);
        scale * f32::from(self.codes[row][col]) + self.min[row] * f32::from(self.half_mins[row][half])
    }
}

/// Codes of eight rows, `[row][column]`, from each row's codes.
pub(crate) fn codes_of<T: Copy>(rows: &[T; ROWS], codes: impl Fn(&T) -> [u8; COLS]) -> Codes {
    std::array::from_fn(|row| codes(&rows[row]))
}

/// Calls `visit(quad, byte, row, column)` for each code.
fn each_code(mut visit: impl FnMut(usize, usize, usize, usize)) {
    for quad in 0..QUADS {
        for byte in 0..32 {
            visit(quad, byte, byte / 4, 4 * quad + byte % 4);
        }
    }
}

/// Writes the low four bits of the codes, 128 bytes.
pub(crate) fn write_nibbles(codes: &Codes, out: &mut [u8]) {
    out[..128].fill(0);
    each_code(|quad, byte, row, col| {
        out[32 * (quad % 4) + byte] |= (codes[row][col] & 15) << (4 * (quad / 4));
    });
}

/// The nibble at a row and column.
pub(crate) fn nibble(plane: &[u8], row: usize, col: usize) -> u8 {
    let quad = col / 4;
    plane[32 * (quad % 4) + 4 * row + col % 4] >> (4 * (quad / 4)) & 15
}

/// Writes bits `shift` and `shift + 1` of the codes, 64 bytes.
pub(crate) fn write_pairs(codes: &Codes, shift: u32, out: &mut [u8]) {
    out[..64].fill(0);
    each_code(|quad, byte, row, col| {
        out[32 * (quad / 4) + byte] |= (codes[row][col] >> shift & 3) << (2 * (quad % 4));
    });
}

/// The two bits at a row and column.
pub(crate) fn pair(plane: &[u8], row: usize, col: usize) -> u8 {
    let quad = col / 4;
    plane[32 * (quad / 4) + 4 * row + col % 4] >> (2 * (quad % 4)) & 3
}

/// Writes bit `shift` of the codes, 32 bytes.
pub(crate) fn write_bits(codes: &Codes, shift: u32, out: &mut [u8]) {
    out[..32].fill(0);
    each_code(|quad, byte, row, col| out[byte] |= (codes[row][col] >> shift & 1) << quad);
}

/// The bit at a row and column.
pub(crate) fn bit(plane: &[u8], row: usize, col: usize) -> u8 {
    plane[4 * row + col % 4] >> (col / 4) & 1
}

/// Writes whole codes, 256 bytes.
pub(crate) fn write_bytes(codes: &Codes, out: &mut [u8]) {
    each_code(|quad, byte, row, col| out[32 * quad + byte] = codes[row][col]);
}

/// The byte at a row and column.
pub(crate) fn byte(plane: &[u8], row: usize, col: usize) -> u8 {
    plane[32 * (col / 4) + 4 * row + col % 4]
}

/// Writes eight f16, 16 bytes.
pub(crate) fn write_halves(values: [half::f16; ROWS], out: &mut [u8]) {
    for (out, value) in out.as_chunks_mut::<2>().0.iter_mut().zip(values) {
        *out = value.to_le_bytes();
    }
}

/// Eight f16 as f32.
pub(crate) fn read_halves(bytes: &[u8]) -> [f32; ROWS] {
    std::array::from_fn(|row| half::f16::from_le_bytes([bytes[2 * row], bytes[2 * row + 1]]).to_f32())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_plane_gives_back_its_bits() {
        let codes: Codes =
            std::array::from_fn(|row| std::array::from_fn(|col| (row * 37 + col * 101 + 11) as u8));
        let mut bytes = [0xAA; 256];
        let each = |check: &dyn Fn(usize, usize)| {
            (0..ROWS).for_each(|row| (0..COLS).for_each(|col| check(row, col)));
        };
        write_nibbles(&codes, &mut bytes);
        each(&|row, col| assert_eq!(nibble(&bytes, row, col), codes[row][col] & 15));
        write_pairs(&codes, 4, &mut bytes);
        each(&|row, col| assert_eq!(pair(&bytes, row, col), codes[row][col] >> 4 & 3));
        write_bits(&codes, 6, &mut bytes);
        each(&|row, col| assert_eq!(bit(&bytes, row, col), codes[row][col] >> 6 & 1));
        write_bytes(&codes, &mut bytes);
        each(&|row, col| assert_eq!(byte(&bytes, row, col), codes[row][col]));
    }
}
