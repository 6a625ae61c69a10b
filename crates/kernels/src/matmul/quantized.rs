//! Products with quantized matrices: the scalar form, which is the specification, and the way to the others.
//!
//! For each row and token, over blocks of 32 columns in order:
//!
//! ```text
//! integer = Σ half_scale · (code − offset) · x_code          exact, in i32
//! sum     = fma(integer, scale · x_scale, sum)
//! sum     = fma(min, x_scale · Σ x_code, sum)                formats with a minimum for 32 columns
//! sum     = fma(Σ half_min · Σ x_code, min · x_scale, sum)   formats with minima for 16 columns
//! ```
//!
//! Every instruction set and every number of tokens does these float operations in this order, so results have the
//! same bits everywhere. With f32 activations: `sum = fma(value, x, sum)`, over columns in order.

use super::formats::{Format, Group, Min, Scales, Tile, groups};
use super::strips::{Strips, check};
use super::tile::{COLS, Halves, ROWS};
use crate::activations::Operand;
use crate::{ActivationKind, Isa};
use lossy_quant::Block;
use std::marker::PhantomData;

/// The kernels of format `F`.
pub(crate) struct Quantized<F>(PhantomData<fn() -> F>);

impl<F: Format> Quantized<F> {
    pub const NEW: Self = Quantized(PhantomData);
}

/// An unpacked tile: the value at a row and column is `scale · half_scale · code + min · half_min`, all of that row and
/// of the column's half (16 columns).
struct Unpacked {
    /// with the format's offset already subtracted
    codes: [[i16; COLS]; ROWS],
    half_scales: [[i16; 2]; ROWS],
    scale: [f32; ROWS],
    half_mins: [[i16; 2]; ROWS],
    min: [f32; ROWS],
}

impl Unpacked {
    /// What the bytes of a tile and the factors of its group mean.
    fn new<F: Format>(factors: &[Halves], tile: &Tile<F>) -> Unpacked {
        let planes = F::planes(tile);
        let code = |row, col| match (F::LEVELS, planes.at(row, col)) {
            (Some(levels), index) => levels[usize::from(index)],
            (None, code) => code,
        };
        let codes =
            std::array::from_fn(|row| std::array::from_fn(|col| i16::from(code(row, col)) - F::OFFSET));
        let rows = |value: &dyn Fn(usize) -> f32| std::array::from_fn(value);
        let (mut half_scales, mut half_mins, mut min) = ([[1; 2]; ROWS], [[1; 2]; ROWS], [0.0; ROWS]);
        let factor = |index: usize| factors[index].values();
        let scale = match F::scales(tile) {
            Scales::Own { d } => d.values(),
            Scales::OwnMin { d, m } => {
                min = m.values();
                d.values()
            }
            Scales::Signed { scales } => rows(&|row| factor(0)[row] * f32::from(scales[row])),
            Scales::UnsignedMin { scales, mins } => {
                min = rows(&|row| -(factor(1)[row] * f32::from(mins[row])));
                rows(&|row| factor(0)[row] * f32::from(scales[row]))
            }
            Scales::Halves { scales } => {
                half_scales = scales.map(|halves| halves.map(i16::from));
                factor(0)
            }
            Scales::HalvesMin { nibbles } => {
                half_scales = nibbles.map(|halves| halves.map(|byte| i16::from(byte & 15)));
                half_mins = nibbles.map(|halves| halves.map(|byte| i16::from(byte >> 4)));
                min = factor(1).map(|dmin| -dmin);
                factor(0)
            }
        };
        Unpacked { codes, half_scales, scale, half_mins, min }
    }

    /// The value at a row and column, computed as the formats' own `dequantize` does.
    fn value(&self, row: usize, col: usize) -> f32 {
        let half = col / 16;
        let scale = self.scale[row] * f32::from(self.half_scales[row][half]);
        scale * f32::from(self.codes[row][col]) + self.min[row] * f32::from(self.half_mins[row][half])
    }
}

/// The tiles of a strip in order.
fn tiles<F: Format>(strip: &[u8]) -> impl Iterator<Item = Unpacked> {
    groups::<F>(strip)
        .iter()
        .flat_map(|group| group.tiles().iter().map(|tile| Unpacked::new::<F>(group.factors(), tile)))
}

impl<F: Format> Strips for Quantized<F> {
    fn name(&self) -> &'static str {
        F::Block::DTYPE.name()
    }

    fn block_len(&self) -> usize {
        F::Block::DTYPE.block_len()
    }

    fn strip_bytes(&self, n_cols: usize) -> usize {
        n_cols / self.block_len() * size_of::<F::Group>()
    }

    fn pack_strip(&self, rows: &[&[u8]], strip: &mut [u8]) {
        let mut blocks = [bytemuck::Zeroable::zeroed(); ROWS];
        for (index, group) in bytemuck::cast_slice_mut::<u8, F::Group>(strip).iter_mut().enumerate() {
            for (block, row) in blocks.iter_mut().zip(rows) {
                let bytes = &row[index * size_of::<F::Block>()..][..size_of::<F::Block>()];
                *block = bytemuck::pod_read_unaligned(bytes);
            }
            *group = F::pack(&blocks);
        }
    }

    fn values(&self, strip: &[u8], row: usize, out: &mut [f32]) {
        for (tile, out) in tiles::<F>(strip).zip(out.as_chunks_mut::<COLS>().0) {
            for (col, out) in out.iter_mut().enumerate() {
                *out = tile.value(row, col);
            }
        }
    }

    fn dot(&self, isa: Isa, strips: &[&[u8]], x: Operand, sums: &mut [f32]) {
        check(strips, self.strip_bytes(x.n_cols), x, sums);
        match (isa, x.kind) {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: an `Avx2` exists only if detection saw avx2, fma and f16c.
            (Isa::Avx2(avx2), ActivationKind::Q8) => unsafe {
                super::avx2::dot_q8::<F>(avx2, strips, x, sums)
            },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            (Isa::Avx2(_), ActivationKind::F32) => unsafe {
                super::avx2::float::dot_dequantized::<F>(strips, x, sums)
            },
            (_, ActivationKind::Q8) => dot_q8::<F>(strips, x, sums),
            (_, ActivationKind::F32) => dot_f32::<F>(strips, x, sums),
        }
    }
}

fn dot_q8<F: Format>(strips: &[&[u8]], x: Operand, sums: &mut [f32]) {
    sums.fill(0.0);
    for (index, strip) in strips.iter().enumerate() {
        for (block, tile) in tiles::<F>(strip).enumerate() {
            for (token, sums) in sums.chunks_exact_mut(strips.len() * ROWS).enumerate() {
                let at = token * x.n_blocks() + block;
                let x = &x.blocks[at];
                for (row, sum) in sums[index * ROWS..][..ROWS].iter_mut().enumerate() {
                    let halves = [0, 1].map(|half| {
                        let columns = 16 * half..16 * (half + 1);
                        let products = tile.codes[row][columns.clone()].iter().zip(&x.codes[columns]);
                        products.map(|(w, x)| i32::from(*w) * i32::from(*x)).sum::<i32>()
                    });
                    let combine = |factors: [i16; 2], of: [i32; 2]| {
                        i32::from(factors[0]) * of[0] + i32::from(factors[1]) * of[1]
                    };
                    let integer = combine(tile.half_scales[row], halves) as f32;
                    *sum = integer.mul_add(tile.scale[row] * x.scale, *sum);
                    match F::MIN {
                        Min::None => {}
                        Min::Block => *sum = tile.min[row].mul_add(x.scaled_sum, *sum),
                        Min::Halves => {
                            let integer = combine(tile.half_mins[row], x.half_sums.map(i32::from)) as f32;
                            *sum = integer.mul_add(tile.min[row] * x.scale, *sum);
                        }
                    }
                }
            }
        }
    }
}

fn dot_f32<F: Format>(strips: &[&[u8]], x: Operand, sums: &mut [f32]) {
    sums.fill(0.0);
    for (index, strip) in strips.iter().enumerate() {
        for (block, tile) in tiles::<F>(strip).enumerate() {
            for row in 0..ROWS {
                let values: [f32; COLS] = std::array::from_fn(|col| tile.value(row, col));
                for (token, sums) in sums.chunks_exact_mut(strips.len() * ROWS).enumerate() {
                    let sum = &mut sums[index * ROWS + row];
                    for (w, x) in values.iter().zip(&x.rows[token * x.n_cols + block * COLS..]) {
                        *sum = w.mul_add(*x, *sum);
                    }
                }
            }
        }
    }
}
