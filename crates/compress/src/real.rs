//! Numbers to compute with: float32, and float64 to check gradients with.

use std::ops::{Add, AddAssign, Div, Mul, Sub};

use lossy_kernels::dense::{Into, View, ViewMut, product, product_plain};

/// float32, whose products are fast, or float64, which is exact enough for finite differences.
pub trait Real:
    Copy
    + Default
    + PartialOrd
    + Send
    + Sync
    + Add<Output = Self>
    + AddAssign
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + 'static
{
    /// 1.
    const ONE: Self;

    /// The nearest number.
    fn of(value: f64) -> Self;

    /// As float64.
    fn wide(self) -> f64;

    /// Square root.
    fn sqrt(self) -> Self;

    /// e to this power, within two units in the last place.
    fn exp(self) -> Self;

    /// `out = a · b`, or `out += a · b`, on the thread that calls.
    ///
    /// # Panics
    /// Shapes do not fit.
    fn product(into: Into, out: ViewMut<'_, Self>, a: View<'_, Self>, b: View<'_, Self>);
}

impl Real for f32 {
    const ONE: f32 = 1.0;

    fn of(value: f64) -> f32 {
        value as f32
    }

    fn wide(self) -> f64 {
        f64::from(self)
    }

    fn sqrt(self) -> f32 {
        self.sqrt()
    }

    /// Without a branch or a call, so that a loop of it becomes vectors: `2^n · e^r`, `|r| ≤ ln 2 / 2`, the polynomial that of
    /// Cephes' `expf`. What is below the smallest normal number is 0.
    #[inline(always)]
    fn exp(self) -> f32 {
        // Added to a number, this leaves the nearest integer in the lowest bits.
        const SHIFT: f32 = 12_582_912.0;
        let x = self.clamp(-88.0, 88.0);
        let shifted = x * std::f32::consts::LOG2_E + SHIFT;
        let n = shifted - SHIFT;
        // ln 2 in two parts, the first of which makes an exact product.
        let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4;
        let mut p = 1.987_569_1e-4;
        for c in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.5] {
            p = p * r + c;
        }
        let value = p * r * r + r + 1.0;
        let scale = f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
        if self < -87.3 { 0.0 } else { value * scale }
    }

    fn product(into: Into, out: ViewMut<'_, f32>, a: View<'_, f32>, b: View<'_, f32>) {
        product(into, out, a, b);
    }
}

impl Real for f64 {
    const ONE: f64 = 1.0;

    fn of(value: f64) -> f64 {
        value
    }

    fn wide(self) -> f64 {
        self
    }

    fn sqrt(self) -> f64 {
        self.sqrt()
    }

    fn exp(self) -> f64 {
        self.exp()
    }

    fn product(into: Into, out: ViewMut<'_, f64>, a: View<'_, f64>, b: View<'_, f64>) {
        product_plain(into, out, a, b);
    }
}

/// Lanes of a sum: as many as two vectors of AVX-512 have, so that it is one order on every machine.
const LANES: usize = 32;

/// `Σ aᵢ bᵢ`, in one order.
///
/// # Panics
/// Lengths differ.
pub(crate) fn dot<F: Real>(a: &[F], b: &[F]) -> F {
    assert_eq!(a.len(), b.len());
    let mut lanes = [F::default(); LANES];
    let (a, b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest = a.remainder().iter().zip(b.remainder()).fold(F::default(), |sum, (&a, &b)| sum + a * b);
    for (a, b) in a.zip(b) {
        for ((lane, &a), &b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += a * b;
        }
    }
    lanes.iter().fold(rest, |sum, &lane| sum + lane)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_two_units_of_float64s() {
        for step in -87_200..88_000 {
            let x = step as f32 / 1000.0;
            let (found, wanted) = (f64::from(Real::exp(x)), f64::from(x).exp());
            assert!((found / wanted - 1.0).abs() < 2.4e-7, "e^{x}: {found}, not {wanted}");
        }
        assert_eq!((Real::exp(f32::NEG_INFINITY), Real::exp(-90.0f32), Real::exp(0.0f32)), (0.0, 0.0, 1.0));
    }

    #[test]
    fn a_dot_product_has_every_value_once() {
        for len in [0, 1, 31, 32, 33, 100] {
            let a: Vec<f64> = (1..=len).map(f64::from).collect();
            let wanted: f64 = (1..=len).map(|i| f64::from(i * i)).sum();
            assert_eq!(dot(&a, &a), wanted);
        }
    }
}
