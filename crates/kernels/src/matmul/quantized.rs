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

use super::formats::{Format, Min, group_bytes};
use super::strips::{Strips, check};
use super::tile::{COLS, ROWS, Tile};
use crate::activations::Operand;
use crate::{ActivationKind, Isa};
use lossy_quant::Block;
use std::marker::PhantomData;

/// A format with its unpacking for every instruction set of this architecture.
#[cfg(target_arch = "x86_64")]
pub(crate) use super::avx2::Unpack as Kernels;
#[cfg(not(target_arch = "x86_64"))]
pub(crate) use super::formats::Format as Kernels;

/// The kernels of format `F`.
pub(crate) struct Quantized<F>(PhantomData<fn() -> F>);

impl<F: Kernels> Quantized<F> {
    pub const NEW: Self = Quantized(PhantomData);
}

/// The tiles of a strip in order, each with the header of its group.
fn tiles<F: Format>(strip: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    strip.chunks_exact(group_bytes::<F>()).flat_map(|group| {
        let (header, tiles) = group.split_at(F::HEADER_BYTES);
        tiles.chunks_exact(F::TILE_BYTES).map(move |tile| (header, tile))
    })
}

impl<F: Kernels> Strips for Quantized<F> {
    fn name(&self) -> &'static str {
        F::Block::DTYPE.name()
    }

    fn block_len(&self) -> usize {
        F::Block::DTYPE.block_len()
    }

    fn strip_bytes(&self, n_cols: usize) -> usize {
        n_cols / self.block_len() * group_bytes::<F>()
    }

    fn pack_strip(&self, rows: &[&[u8]], strip: &mut [u8]) {
        let mut blocks = [bytemuck::Zeroable::zeroed(); ROWS];
        for (index, group) in strip.chunks_exact_mut(group_bytes::<F>()).enumerate() {
            for (block, row) in blocks.iter_mut().zip(rows) {
                let bytes = &row[index * size_of::<F::Block>()..][..size_of::<F::Block>()];
                *block = bytemuck::pod_read_unaligned(bytes);
            }
            let (header, tiles) = group.split_at_mut(F::HEADER_BYTES);
            F::pack(&blocks, header, tiles);
        }
    }

    fn values(&self, strip: &[u8], row: usize, out: &mut [f32]) {
        let mut tile = Tile::new();
        for ((header, bytes), out) in tiles::<F>(strip).zip(out.as_chunks_mut::<COLS>().0) {
            F::unpack(header, bytes, &mut tile);
            for (col, out) in out.iter_mut().enumerate() {
                *out = tile.value(row, col);
            }
        }
    }

    fn dot(&self, isa: Isa, strips: &[&[u8]], x: Operand, sums: &mut [f32]) {
        check(strips, self.strip_bytes(x.n_cols), x, sums);
        sums.fill(0.0);
        match (isa, x.kind) {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: an `Avx2` exists only if detection saw avx2, fma and f16c.
            (Isa::Avx2(avx2), ActivationKind::Q8) => unsafe {
                super::avx2::dot_q8::<F>(avx2.extension(), strips, x, sums)
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
    let mut tile = Tile::new();
    for (index, strip) in strips.iter().enumerate() {
        for (block, (header, bytes)) in tiles::<F>(strip).enumerate() {
            F::unpack(header, bytes, &mut tile);
            for (token, sums) in sums.chunks_exact_mut(strips.len() * ROWS).enumerate() {
                let at = token * x.n_blocks() + block;
                let (codes, info) = (&x.codes.as_chunks::<COLS>().0[at], x.infos[at]);
                for (row, sum) in sums[index * ROWS..][..ROWS].iter_mut().enumerate() {
                    let halves = [0, 1].map(|half| {
                        let columns = 16 * half..16 * (half + 1);
                        let products = tile.codes[row][columns.clone()].iter().zip(&codes[columns]);
                        products.map(|(w, x)| i32::from(*w) * i32::from(*x)).sum::<i32>()
                    });
                    let combine = |factors: [i16; 2], of: [i32; 2]| {
                        i32::from(factors[0]) * of[0] + i32::from(factors[1]) * of[1]
                    };
                    let integer = combine(tile.half_scales[row], halves) as f32;
                    *sum = integer.mul_add(tile.scale[row] * info.scale, *sum);
                    match F::MIN {
                        Min::None => {}
                        Min::Block => *sum = tile.min[row].mul_add(info.scaled_sum, *sum),
                        Min::Halves => {
                            let integer = combine(tile.half_mins[row], info.half_sums.map(i32::from)) as f32;
                            *sum = integer.mul_add(tile.min[row] * info.scale, *sum);
                        }
                    }
                }
            }
        }
    }
}

fn dot_f32<F: Format>(strips: &[&[u8]], x: Operand, sums: &mut [f32]) {
    let mut tile = Tile::new();
    for (index, strip) in strips.iter().enumerate() {
        for (block, (header, bytes)) in tiles::<F>(strip).enumerate() {
            F::unpack(header, bytes, &mut tile);
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
