//! How the values of one KV head are coded, and the transform that they come in.

#[cfg(target_arch = "x86_64")]
use super::avx2;
use super::{MAX_VALUE_BITS, STEP, middle};
use crate::{Compute, Isa};

/// The code of the values of one KV head.
#[derive(Clone, Debug)]
pub struct ValueCode {
    /// `[head_dim]`: mean of the transformed values
    pub(super) mean: Vec<f32>,
    /// size of a value with gain 1
    pub(super) scale: f32,
    pub(super) bits: u8,
}

impl ValueCode {
    /// The code of `bits` bits for values that spread around `mean` (transformed) with the root mean square `scale`.
    ///
    /// # Panics
    /// `bits` is not 2, 3 or 4; `scale` is not positive and finite; or the length is not a multiple of 32.
    pub fn new(mean: Vec<f32>, scale: f32, bits: u8) -> ValueCode {
        assert!((2..=MAX_VALUE_BITS).contains(&bits), "{bits} bits of a value");
        assert!(scale > 0.0 && scale.is_finite(), "scale {scale} of values");
        assert!(mean.len().is_multiple_of(32), "channels of a packed head: {}", mean.len());
        ValueCode { mean, scale, bits }
    }

    /// Bits of a channel.
    pub fn bits(&self) -> u8 {
        self.bits
    }

    /// The distance of two codes with gain 1.
    pub(super) fn step(&self) -> f32 {
        self.scale * STEP[usize::from(self.bits)]
    }

    /// Half of the largest code.
    pub(super) fn middle(&self) -> f32 {
        middle(self.bits)
    }
}

/// Multiplies a row in place by the Hadamard matrix over √n, where n is the largest power of two that divides the row's
/// length; each n values are a vector of their own. Doing it twice gives back the row.
pub fn hadamard(row: &mut [f32]) {
    if row.is_empty() {
        return;
    }
    let n = 1usize << row.len().trailing_zeros();
    let norm = 1.0 / (n as f32).sqrt();
    for vector in row.chunks_exact_mut(n) {
        let mut half = 1;
        while half < n {
            for pair in vector.chunks_exact_mut(2 * half) {
                let (left, right) = pair.split_at_mut(half);
                for (a, b) in left.iter_mut().zip(right) {
                    (*a, *b) = (*a + *b, *a - *b);
                }
            }
            half *= 2;
        }
        vector.iter_mut().for_each(|x| *x *= norm);
    }
}

/// Rows that a thread takes at once.
const ROWS_AT_ONCE: usize = 64;

/// [`hadamard`] of each of some rows of `len` values, on all threads if there are many.
///
/// # Panics
/// The number of values is no multiple of `len`.
pub fn hadamard_rows(cx: &Compute, rows: &mut [f32], len: usize) {
    assert!(rows.len().is_multiple_of(len), "{} values in rows of {len}", rows.len());
    let turn = |rows: &mut [f32]| match cx.isa {
        Isa::Scalar => rows.chunks_exact_mut(len).for_each(hadamard),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: an `Avx2` exists only if detection saw avx2, fma and f16c.
        Isa::Avx2(_) => rows.chunks_exact_mut(len).for_each(|row| unsafe { avx2::hadamard(row) }),
    };
    // The rows of one token are few, and most of what comes here.
    if rows.len() <= ROWS_AT_ONCE * len {
        return turn(rows);
    }
    let mut parts: Vec<&mut [f32]> = rows.chunks_mut(ROWS_AT_ONCE * len).collect();
    cx.pool.run_mut(&mut parts, |_, part| turn(part));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_isa_has_the_same_bits() {
        for (len, n_rows) in
            [(1, 3), (4, 2), (24, 5), (32, 200), (64, 1), (64, 65), (96, 3), (128, 3), (256, 70)]
        {
            let rows: Vec<f32> = (0..len * n_rows).map(|i| (i as f32 * 0.37).sin()).collect();
            let mut wanted = rows.clone();
            wanted.chunks_exact_mut(len).for_each(hadamard);
            for isa in Isa::tested() {
                let mut got = rows.clone();
                hadamard_rows(&Compute::with_isa(2, isa), &mut got, len);
                let same = got.iter().zip(&wanted).position(|(a, b)| a.to_bits() != b.to_bits());
                assert_eq!(same, None, "{isa}, {n_rows} rows of {len}");
            }
        }
        hadamard_rows(&Compute::with_isa(2, Isa::Scalar), &mut [], 64);
    }

    #[test]
    fn twice_the_hadamard_transform_is_nothing() {
        for n in [1, 2, 32, 64, 96, 128] {
            let row: Vec<f32> = (0..n).map(|i| (i as f32 * 0.7).sin()).collect();
            let mut twice = row.clone();
            hadamard(&mut twice);
            if n > 1 {
                assert_ne!(twice, row);
            }
            hadamard(&mut twice);
            assert!(row.iter().zip(&twice).all(|(a, b)| (a - b).abs() < 1e-5));
        }
    }

    #[test]
    fn an_outlier_is_spread_evenly() {
        let mut row = [0.0; 64];
        row[5] = 8.0;
        hadamard(&mut row);
        assert!(row.iter().all(|x| (x.abs() - 1.0).abs() < 1e-6));
    }
}
