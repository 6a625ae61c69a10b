//! Products with F32, F16 and BF16 matrices, always with f32 activations.
//!
//! A strip is `[n_cols, 8]`: eight rows side by side in the file's own type, so that a vector is one column of the strip. For
//! each row and token: `sum = fma(weight, x, sum)`, over columns in order, on every instruction set.

use super::strips::{Strips, check};
use super::tile::ROWS;
use crate::Isa;
use crate::activations::Operand;
use bytemuck::Pod;
use half::{bf16, f16};
use std::marker::PhantomData;

/// A float that weights are stored as.
pub(crate) trait Element: Send + Sync + 'static {
    const NAME: &'static str;
    /// the little-endian bytes of one
    type Bytes: Pod;
    /// What a column of a strip is.
    fn column(bytes: &Column<Self>) -> Floats<'_>;
}

/// The bytes of a column of a strip.
pub(crate) type Column<E> = [<E as Element>::Bytes; ROWS];

/// Eight floats as a strip has them.
#[derive(Clone, Copy)]
pub(crate) enum Floats<'a> {
    F32(&'a [[u8; 4]; ROWS]),
    F16(&'a [[u8; 2]; ROWS]),
    BF16(&'a [[u8; 2]; ROWS]),
}

impl Floats<'_> {
    /// Their values.
    fn values(self) -> [f32; ROWS] {
        match self {
            Floats::F32(bytes) => bytes.map(f32::from_le_bytes),
            Floats::F16(bytes) => bytes.map(|bytes| f16::from_le_bytes(bytes).to_f32()),
            Floats::BF16(bytes) => bytes.map(|bytes| bf16::from_le_bytes(bytes).to_f32()),
        }
    }
}

impl Element for f32 {
    const NAME: &'static str = "F32";
    type Bytes = [u8; 4];
    #[inline(always)]
    fn column(bytes: &[[u8; 4]; ROWS]) -> Floats<'_> {
        Floats::F32(bytes)
    }
}

impl Element for f16 {
    const NAME: &'static str = "F16";
    type Bytes = [u8; 2];
    #[inline(always)]
    fn column(bytes: &[[u8; 2]; ROWS]) -> Floats<'_> {
        Floats::F16(bytes)
    }
}

impl Element for bf16 {
    const NAME: &'static str = "BF16";
    type Bytes = [u8; 2];
    #[inline(always)]
    fn column(bytes: &[[u8; 2]; ROWS]) -> Floats<'_> {
        Floats::BF16(bytes)
    }
}

/// The kernels of weights stored as `E`.
pub(crate) struct FloatStrips<E>(PhantomData<fn() -> E>);

impl<E: Element> FloatStrips<E> {
    pub const NEW: Self = FloatStrips(PhantomData);
}

impl<E: Element> Strips for FloatStrips<E> {
    fn name(&self) -> &'static str {
        E::NAME
    }

    fn block_len(&self) -> usize {
        1
    }

    fn strip_bytes(&self, n_cols: usize) -> usize {
        n_cols * size_of::<Column<E>>()
    }

    fn pack_strip(&self, rows: &[&[u8]], strip: &mut [u8]) {
        let columns: &mut [Column<E>] = bytemuck::cast_slice_mut(strip);
        columns.fill(bytemuck::Zeroable::zeroed());
        for (index, row) in rows.iter().enumerate() {
            for (column, value) in columns.iter_mut().zip(bytemuck::cast_slice(row)) {
                column[index] = *value;
            }
        }
    }

    fn values(&self, strip: &[u8], row: usize, out: &mut [f32]) {
        for (out, column) in out.iter_mut().zip(columns::<E>(strip)) {
            *out = E::column(column).values()[row];
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

/// The columns of a strip.
pub(crate) fn columns<E: Element>(strip: &[u8]) -> &[Column<E>] {
    bytemuck::cast_slice(strip)
}

fn dot_scalar<E: Element>(strips: &[&[u8]], x: Operand, sums: &mut [f32]) {
    for (index, strip) in strips.iter().enumerate() {
        for (token, sums) in sums.chunks_exact_mut(strips.len() * ROWS).enumerate() {
            let sums = &mut sums[index * ROWS..][..ROWS];
            let row = &x.rows[token * x.n_cols..][..x.n_cols];
            for (column, x) in columns::<E>(strip).iter().zip(row) {
                for (weight, sum) in E::column(column).values().into_iter().zip(sums.iter_mut()) {
                    *sum = weight.mul_add(*x, *sum);
                }
            }
        }
    }
}
