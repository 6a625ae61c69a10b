//! `2^x` for `x ≤ 0`, the only exponential that softmax needs here: scores come in units of log₂, since log₂e is part of
//! the factor that queries are scaled with.
//!
//! `2^x = 2^n · p(x − n)`, `n` the nearest integer, `p(f) = 1 + f·q(f)` of degree 5 with the smallest relative error on
//! |f| ≤ ½ (1.1e-7). Adding `1.5·2²³` rounds to an integer and leaves it in the low bits of the sum. Below [`LOWEST`]
//! the result is exactly 0, so a masked score of −∞ weighs nothing, and no product with a weight underflows.
//! The vector form does the same operations per lane and has the same bits.

/// Scores this far below the maximum weigh nothing: a million of them would not move the 24th bit of the sum.
const LOWEST: f32 = -64.0;
/// Adding it rounds to an integer.
const ROUND: f32 = 12_582_912.0;
/// Coefficients of `p`, highest power first, without the constant 1.
#[allow(clippy::approx_constant, reason = "the fit's value, which is close to ln 2 but not equal")]
const P: [f32; 5] = [0.001_326_472_7, 0.009_671_513, 0.055_507_336, 0.240_222_42, 0.693_147];

/// `2^x`, within 2e-7 relative, for `x ≤ 0`; 0 below −64; NaN stays NaN.
#[inline(always)]
pub(crate) fn exp2(x: f32) -> f32 {
    if x < LOWEST {
        return 0.0;
    }
    let rounded = x + ROUND;
    let f = x - (rounded - ROUND);
    let mut p = P[0];
    for c in &P[1..] {
        p = p.mul_add(f, *c);
    }
    p = p.mul_add(f, 1.0);
    f32::from_bits(p.to_bits().wrapping_add(rounded.to_bits() << 23))
}

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::{exp2_avx2, exp2_avx512};

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::{LOWEST, P, ROUND};
    use std::arch::x86_64::*;

    /// [`exp2`](super::exp2) of eight values, with the same bits.
    #[target_feature(enable = "avx2,fma")]
    #[inline]
    pub fn exp2_avx2(x: __m256) -> __m256 {
        let round = _mm256_set1_ps(ROUND);
        let rounded = _mm256_add_ps(x, round);
        let f = _mm256_sub_ps(x, _mm256_sub_ps(rounded, round));
        let mut p = _mm256_set1_ps(P[0]);
        for c in &P[1..] {
            p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(*c));
        }
        p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(1.0));
        let exponent = _mm256_slli_epi32::<23>(_mm256_castps_si256(rounded));
        let scaled = _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), exponent));
        let kept = _mm256_cmp_ps::<_CMP_NLT_UQ>(x, _mm256_set1_ps(LOWEST));
        _mm256_and_ps(scaled, kept)
    }

    /// [`exp2`](super::exp2) of sixteen values, with the same bits.
    #[target_feature(enable = "avx512f")]
    #[inline]
    pub fn exp2_avx512(x: __m512) -> __m512 {
        let round = _mm512_set1_ps(ROUND);
        let rounded = _mm512_add_ps(x, round);
        let f = _mm512_sub_ps(x, _mm512_sub_ps(rounded, round));
        let mut p = _mm512_set1_ps(P[0]);
        for c in &P[1..] {
            p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(*c));
        }
        p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.0));
        let exponent = _mm512_slli_epi32::<23>(_mm512_castps_si512(rounded));
        let kept = _mm512_cmp_ps_mask::<_CMP_NLT_UQ>(x, _mm512_set1_ps(LOWEST));
        _mm512_castsi512_ps(_mm512_maskz_add_epi32(kept, _mm512_castps_si512(p), exponent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "x86_64")]
    use crate::isa::{Extension, Isa};

    fn samples() -> impl Iterator<Item = f32> {
        (0..70_000).map(|i| -(i as f32) * 1e-3 - 1.7e-4).chain([0.0, -0.0, -64.0, -63.999, -0.5, -1.5])
    }

    #[test]
    fn exp2_is_within_2e_7_of_the_f64_value() {
        for x in samples().filter(|x| *x >= LOWEST) {
            let wanted = (x as f64).exp2();
            let error = (exp2(x) as f64 / wanted - 1.0).abs();
            assert!(error < 2e-7, "exp2({x}) = {}, off by {error:e}", exp2(x));
        }
    }

    #[test]
    fn a_masked_score_weighs_exactly_nothing_and_the_maximum_exactly_one() {
        assert_eq!(exp2(f32::NEG_INFINITY).to_bits(), 0);
        assert_eq!(exp2(-64.001).to_bits(), 0);
        assert_eq!(exp2(0.0), 1.0);
        assert_eq!(exp2(-3.0), 0.125);
        assert!(exp2(f32::NAN).is_nan());
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    fn eight(x: &[f32; 8]) -> [f32; 8] {
        use crate::math::avx2::{load, store};
        let mut y = [0.0; 8];
        store(&mut y, exp2_avx2(load(x)));
        y
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f")]
    fn sixteen(x: &[f32; 16]) -> [f32; 16] {
        use crate::math::avx512::{load, store};
        let mut y = [0.0; 16];
        store(&mut y, exp2_avx512(load(x)));
        y
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn lanes_have_the_bits_of_the_scalar_form() {
        let mut xs: Vec<f32> = samples().chain([f32::NEG_INFINITY, -1e30]).collect();
        xs.resize(xs.len().next_multiple_of(16), -1.0);
        for isa in Isa::tested() {
            let Isa::Avx2(avx2) = isa else { continue };
            for x in xs.as_chunks::<16>().0 {
                let y: Vec<f32> = match avx2.extension() {
                    // SAFETY: an `Avx512` exists only if detection saw avx512f.
                    Extension::Avx512(_) => unsafe { sixteen(x) }.to_vec(),
                    // SAFETY: an `Avx2` exists only if detection saw avx2 and fma.
                    _ => x.as_chunks().0.iter().flat_map(|x| unsafe { eight(x) }).collect(),
                };
                for (x, y) in x.iter().zip(y) {
                    assert_eq!(y.to_bits(), exp2(*x).to_bits(), "{isa}: exp2({x})");
                }
            }
        }
    }
}
