//! `exp` and `silu`.
//!
//! `exp(x) = 2^n · exp(r)` with `n = round(x / ln 2)` and `r = x − n·ln 2` in two parts, so `|r| ≤ ln 2 / 2`, and
//! `exp(r) ≈ 1 + r + r²·q(r)`, `q` of degree 4 fitted to the smallest relative error (3.6e-9, a sixteenth of an ulp;
//! the roundings of evaluating it leave at most 1 ulp, see the test). `2^n` is applied as two factors, so that results
//! near overflow and denormal results come out right: −∞ gives 0, +∞ gives +∞, NaN gives NaN.

/// Below this the result rounds to 0; keeps `n` in a range where both factors of `2^n` are normal numbers.
const LOWEST: f32 = -104.0;
/// Above this the result is infinite.
const HIGHEST: f32 = 89.0;
/// The part of ln 2 that has few enough bits for `n · LN2_HIGH` to be exact.
const LN2_HIGH: f32 = 0.693_359_4;
/// ln 2 − [`LN2_HIGH`]
const LN2_LOW: f32 = -2.121_944_4e-4;
/// Coefficients of `q`, highest power first.
const Q: [f32; 5] = [0.001_381_454, 0.008_368_745, 0.041_668_39, 0.166_665_21, 0.499_999_94];

/// e to the power of `x`, within 1 ulp.
#[inline]
fn exp(x: f32) -> f32 {
    // Not `clamp`: comparisons in this order let NaN pass, as the vector form does.
    let x = if x > HIGHEST { HIGHEST } else { x };
    let x = if x < LOWEST { LOWEST } else { x };
    let n = (x * std::f32::consts::LOG2_E).round_ties_even();
    let r = n.mul_add(-LN2_LOW, n.mul_add(-LN2_HIGH, x));
    let mut q = Q[0];
    for c in &Q[1..] {
        q = q.mul_add(r, *c);
    }
    let p = (r * r).mul_add(q, r) + 1.0;
    let n = n as i32;
    let half = n >> 1;
    p * power_of_two(half) * power_of_two(n - half)
}

/// 2^n for −127 < n < 128.
#[inline]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits(((n + 127) << 23) as u32)
}

/// `x · sigmoid(x) = x / (1 + exp(−x))`
#[inline]
pub(crate) fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::{HIGHEST, LN2_HIGH, LN2_LOW, LOWEST, Q};
    use std::arch::x86_64::*;

    /// [`exp`](super::exp) of eight values, with the same bits.
    #[target_feature(enable = "avx2,fma")]
    #[inline]
    pub(super) fn exp_avx2(x: __m256) -> __m256 {
        // min/max return their second operand if one is NaN.
        let x = _mm256_min_ps(_mm256_set1_ps(HIGHEST), x);
        let x = _mm256_max_ps(_mm256_set1_ps(LOWEST), x);
        let n = _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(_mm256_mul_ps(
            x,
            _mm256_set1_ps(std::f32::consts::LOG2_E),
        ));
        let r = _mm256_fmadd_ps(n, _mm256_set1_ps(-LN2_HIGH), x);
        let r = _mm256_fmadd_ps(n, _mm256_set1_ps(-LN2_LOW), r);
        let mut q = _mm256_set1_ps(Q[0]);
        for c in &Q[1..] {
            q = _mm256_fmadd_ps(q, r, _mm256_set1_ps(*c));
        }
        let p = _mm256_fmadd_ps(_mm256_mul_ps(r, r), q, r);
        let p = _mm256_add_ps(p, _mm256_set1_ps(1.0));
        let n = _mm256_cvtps_epi32(n);
        let half = _mm256_srai_epi32::<1>(n);
        let scaled = _mm256_mul_ps(p, power_of_two(half));
        _mm256_mul_ps(scaled, power_of_two(_mm256_sub_epi32(n, half)))
    }

    #[target_feature(enable = "avx2,fma")]
    #[inline]
    fn power_of_two(n: __m256i) -> __m256 {
        _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_add_epi32(n, _mm256_set1_epi32(127))))
    }

    /// [`silu`](super::silu) of eight values, with the same bits.
    #[target_feature(enable = "avx2,fma")]
    #[inline]
    pub(crate) fn silu_avx2(x: __m256) -> __m256 {
        let negative = _mm256_xor_ps(x, _mm256_set1_ps(-0.0));
        _mm256_div_ps(x, _mm256_add_ps(_mm256_set1_ps(1.0), exp_avx2(negative)))
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::silu_avx2;

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "x86_64")]
    use crate::Isa;

    fn samples() -> Vec<f32> {
        let mut xs: Vec<f32> = (-110_000..95_000).map(|i| i as f32 * 1e-3 + 3.3e-5).collect();
        xs.extend([0.0, -0.0, 1e-30, -1e-30, 88.72, 88.73, -87.34, -103.9, -104.1, f32::MAX, f32::MIN]);
        xs.extend([f32::INFINITY, f32::NEG_INFINITY, f32::NAN]);
        xs.resize(xs.len().next_multiple_of(8), 1.0);
        xs
    }

    #[test]
    fn exp_is_within_one_ulp_of_the_f64_value() {
        for x in samples().into_iter().filter(|x| x.is_finite()) {
            let wanted = (x as f64).exp();
            let got = exp(x);
            if wanted >= f32::MAX as f64 {
                assert!(got == f32::INFINITY || got >= f32::MAX * 0.999_999, "exp({x}) = {got}");
                continue;
            }
            let nearest = wanted as f32;
            let ulp = (nearest.next_up() - nearest) as f64;
            assert!((got as f64 - wanted).abs() <= ulp, "exp({x}) = {got}, wanted {wanted}");
        }
    }

    #[test]
    fn exp_keeps_the_limits_and_nan() {
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(f32::NAN).is_nan());
        assert_eq!(silu(0.0), 0.0);
        assert_eq!(silu(-200.0), 0.0);
        assert_eq!(silu(200.0), 200.0);
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn eight_lanes_have_the_bits_of_the_scalar_form() {
        use super::avx2::exp_avx2;
        use std::arch::x86_64::*;
        #[target_feature(enable = "avx2,fma")]
        fn both(x: &[f32; 8]) -> ([f32; 8], [f32; 8]) {
            let (mut e, mut s) = ([0.0; 8], [0.0; 8]);
            // SAFETY: x, e and s have eight values.
            unsafe {
                let v = _mm256_loadu_ps(x.as_ptr());
                _mm256_storeu_ps(e.as_mut_ptr(), exp_avx2(v));
                _mm256_storeu_ps(s.as_mut_ptr(), silu_avx2(v));
            }
            (e, s)
        }
        if !Isa::tested().iter().any(|isa| matches!(isa, Isa::Avx2(_))) {
            return;
        }
        for x in samples().as_chunks::<8>().0 {
            // SAFETY: detection saw AVX2 and FMA.
            let (e, s) = unsafe { both(x) };
            for i in 0..8 {
                let same = |a: f32, b: f32| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
                assert!(same(e[i], exp(x[i])), "exp({}) = {} and {}", x[i], e[i], exp(x[i]));
                assert!(same(s[i], silu(x[i])), "silu({}) = {} and {}", x[i], s[i], silu(x[i]));
            }
        }
    }
}
