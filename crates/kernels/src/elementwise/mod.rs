//! Operations on rows of activations: norms, biases, rotary positions, the gate of an MLP.
//!
//! Each computes a row by itself, so results do not depend on what else is in the batch.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod gate;
mod scalar;

pub use gate::{GateFunction, gate};

use crate::{Compute, Isa};

/// Fewer values than this are computed by the caller alone: a fork costs about as much.
const FORK_VALUES: usize = 16_384;

/// Where the heads of a token lie in its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadRows {
    /// values of a row
    pub stride: usize,
    /// the first head's first value
    pub offset: usize,
    /// heads, one after the other
    pub n_heads: usize,
    /// values of a head
    pub head_dim: usize,
}

/// RMS norm of each row: `out = x / sqrt(mean(x²) + eps) · weight`; `rows` and `out` are `[n_tokens, n_cols]`, `weight` `[n_cols]`.
///
/// # Panics
/// Lengths do not fit.
pub fn rms_norm(cx: &Compute, rows: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let n_cols = weight.len();
    assert!(n_cols > 0 && rows.len().is_multiple_of(n_cols) && rows.len() == out.len());
    let mut pairs: Vec<_> = rows.chunks_exact(n_cols).zip(out.chunks_exact_mut(n_cols)).collect();
    each(cx, n_cols, &mut pairs, |(row, out)| rms_norm_row(cx.isa, row, weight, eps, out));
}

/// RMS norm of each head by itself, in place (the QK-norm of Qwen3): `rows` is `[n_tokens, stride]`, `weight` `[head_dim]`.
///
/// # Panics
/// Lengths do not fit.
pub fn rms_norm_heads(cx: &Compute, rows: &mut [f32], heads: HeadRows, weight: &[f32], eps: f32) {
    assert_eq!(weight.len(), heads.head_dim);
    let mut rows = split(rows, heads);
    each(cx, heads.n_heads * heads.head_dim, &mut rows, |row| {
        for head in row.chunks_exact_mut(heads.head_dim) {
            let factor = rms_factor(cx.isa, head, eps);
            head.iter_mut().zip(weight).for_each(|(x, w)| *x = *x * factor * w);
        }
    });
}

/// `rows += bias` for each row: `rows` is `[n_tokens, n_cols]`, `bias` `[n_cols]`.
///
/// # Panics
/// `rows` is not a whole number of rows.
pub fn add_bias(rows: &mut [f32], bias: &[f32]) {
    assert!(!bias.is_empty() && rows.len().is_multiple_of(bias.len()));
    for row in rows.chunks_exact_mut(bias.len()) {
        row.iter_mut().zip(bias).for_each(|(x, b)| *x += b);
    }
}

/// Rotates the pairs `(x[i], x[i + n/2])` of each head by its token's angles (half-split, as NEOX has it), in place.
///
/// `rows` is `[n_tokens, stride]`, `cos` and `sin` `[n_tokens, n/2]`; the first `n` values of a head are rotated, `n <= head_dim`.
///
/// # Panics
/// Lengths do not fit.
pub fn rope(cx: &Compute, rows: &mut [f32], heads: HeadRows, cos: &[f32], sin: &[f32]) {
    let mut rows = split(rows, heads);
    if rows.is_empty() {
        return;
    }
    assert!(cos.len() == sin.len() && cos.len().is_multiple_of(rows.len()));
    let half = cos.len() / rows.len();
    assert!(2 * half <= heads.head_dim);
    if half == 0 {
        return;
    }
    let mut tokens: Vec<_> = rows.drain(..).zip(cos.chunks_exact(half).zip(sin.chunks_exact(half))).collect();
    each(cx, heads.n_heads * heads.head_dim, &mut tokens, |(row, (cos, sin))| {
        for head in row.chunks_exact_mut(heads.head_dim) {
            let (first, second) = head[..2 * half].split_at_mut(half);
            match cx.isa {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: an `Avx2` exists only if detection saw avx2, fma and f16c.
                Isa::Avx2(_) => unsafe { avx2::rotate(first, second, cos, sin) },
                Isa::Scalar => scalar::rotate(first, second, cos, sin),
            }
        }
    });
}

/// The heads of each token.
fn split(rows: &mut [f32], heads: HeadRows) -> Vec<&mut [f32]> {
    let width = heads.n_heads * heads.head_dim;
    assert!(heads.head_dim > 0 && heads.offset + width <= heads.stride);
    assert!(heads.stride > 0 && rows.len().is_multiple_of(heads.stride));
    rows.chunks_exact_mut(heads.stride).map(|row| &mut row[heads.offset..][..width]).collect()
}

/// Calls `work` for each item, in parallel if there are many values.
fn each<T: Send>(cx: &Compute, values_per_item: usize, items: &mut [T], work: impl Fn(&mut T) + Sync) {
    if items.len() * values_per_item < FORK_VALUES {
        items.iter_mut().for_each(work);
        return;
    }
    let per_task = (FORK_VALUES / 4).div_ceil(values_per_item);
    let mut tasks: Vec<&mut [T]> = items.chunks_mut(per_task).collect();
    cx.pool.run_mut(&mut tasks, |_, items| items.iter_mut().for_each(&work));
}

/// RMS norm of one row.
pub(crate) fn rms_norm_row(isa: Isa, row: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    assert!(row.len() == weight.len() && row.len() == out.len());
    let factor = rms_factor(isa, row, eps);
    for ((out, x), w) in out.iter_mut().zip(row).zip(weight) {
        *out = x * factor * w;
    }
}

/// `1 / sqrt(mean(x²) + eps)`
fn rms_factor(isa: Isa, row: &[f32], eps: f32) -> f32 {
    let sum = match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: an `Avx2` exists only if detection saw avx2, fma and f16c.
        Isa::Avx2(_) => unsafe { avx2::sum_of_squares(row) },
        Isa::Scalar => scalar::sum_of_squares(row),
    };
    1.0 / (sum / row.len() as f32 + eps).sqrt()
}

/// `out = silu(gate) · up`, all of one length.
pub(crate) fn silu_mul(isa: Isa, gate: &[f32], up: &[f32], out: &mut [f32]) {
    assert!(gate.len() == up.len() && gate.len() == out.len());
    match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: an `Avx2` exists only if detection saw avx2, fma and f16c.
        Isa::Avx2(_) => unsafe { avx2::silu_mul(gate, up, out) },
        Isa::Scalar => scalar::silu_mul(gate, up, out),
    }
}

#[cfg(test)]
mod tests;
