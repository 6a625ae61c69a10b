//! Products with F32, F16 and BF16 matrices, always with f32 activations.
//!
//! A strip is `[n_cols, 8]`: eight rows side by side in the file's own type, so that a vector is one column of the strip. For
//! each row and token: `sum = fma(weight, x, sum)`, over columns in order, on every instruction set.

use super::strips::{Strips, check};
use super::tile::ROWS;
use crate::Isa;
use crate::activations::Operand;
use half::{bf16, f16};
use std::marker::PhantomData;

#[cfg(target_arch = "x86_64")]
use super::avx2::float::Element as Vectors;

/// A float that weights are stored as.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) trait Vectors {}
#[cfg(not(target_arch = "x86_64"))]
impl<E> Vectors for E {}

/// A float that weights are stored as.
pub(crate) trait Element: Vectors + Send + Sync + 'static {
    const NAME: &'static str;
    /// The value of its little-endian bytes.
    fn value(bytes: &[u8]) -> f32;
}

impl Element for f32 {
    const NAME: &'static str = "F32";
    fn value(bytes: &[u8]) -> f32 {
        f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    }
}

impl Element for f16 {
    const NAME: &'static str = "F16";
    fn value(bytes: &[u8]) -> f32 {
        f16::from_le_bytes([bytes[0], bytes[1]]).to_f32()
    }
}

impl Element for bf16 {
    const NAME: &'static str = "BF16";
    fn value(bytes: &[u8]) -> f32 {
        bf16::from_le_bytes([bytes[0], bytes[1]]).to_f32()
    }
}

/// The kernels of weights stored as `E`.
pub(crate) struct Floats<E>(PhantomData<fn() -> E>);

impl<E: Element> Floats<E> {
    pub const NEW: Self = Floats(PhantomData);
}

impl<E: Element> Strips for Floats<E> {
    fn name(&self) -> &'static str {
        E::NAME
    }

    fn block_len(&self) -> usize {
        1
    }

    fn strip_bytes(&self, n_cols: usize) -> usize {
        n_cols * ROWS * size_of::<E>()
    }

    fn pack_strip(&self, rows: &[&[u8]], strip: &mut [u8]) {
        for (col, out) in strip.chunks_exact_mut(ROWS * size_of::<E>()).enumerate() {
            out.fill(0);
            for (out, row) in out.chunks_exact_mut(size_of::<E>()).zip(rows) {
                out.copy_from_slice(&row[col * size_of::<E>()..][..size_of::<E>()]);
            }
        }
    }

    fn values(&self, strip: &[u8], row: usize, out: &mut [f32]) {
        for (out, column) in out.iter_mut().zip(strip.chunks_exact(ROWS * size_of::<E>())) {
            *out = E::value(&column[row * size_of::<E>()..]);
        }
    }

    fn dot(&self, isa: Isa, strips: &[&[u8]], x: Operand, sums: &mut [f32]) {
        check(strips, self.strip_bytes(x.n_cols), x, sums);
        sums.fill(0.0);
        match isa {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: an `Avx2` exists only if detection saw avx2, fma and f16c.
            Isa::Avx2(_) => unsafe { super::avx2::float::dot::<E>(strips, x, sums) },
            Isa::Scalar => dot_scalar::<E>(strips, x, sums),
        }
    }
}

fn dot_scalar<E: Element>(strips: &[&[u8]], x: Operand, sums: &mut [f32]) {
    for (index, strip) in strips.iter().enumerate() {
        for (token, sums) in sums.chunks_exact_mut(strips.len() * ROWS).enumerate() {
            let sums = &mut sums[index * ROWS..][..ROWS];
            let row = &x.rows[token * x.n_cols..][..x.n_cols];
            for (column, x) in strip.chunks_exact(ROWS * size_of::<E>()).zip(row) {
                for (weight, sum) in column.chunks_exact(size_of::<E>()).zip(sums.iter_mut()) {
                    *sum = E::value(weight).mul_add(*x, *sum);
                }
            }
        }
    }
}
