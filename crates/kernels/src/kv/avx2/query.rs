//! Query heads as they meet one frame; see `scalar::FrameQuery`.
//!
//! All heads go through each step together: one head's chain from the largest channel over a division to integers in
//! stored order is long, and the others fill its gaps.

use std::arch::x86_64::*;

use super::super::keys::KeyOperand;
use super::super::scalar::QUERY_TOP;
use super::{end_step, end_step_of_heads, sum_of_four};
use crate::attention::Frame;
use crate::math::avx2::{load, max_across, sum_across};

/// `H` heads of `16 · V` channels.
#[derive(Clone, Copy)]
pub(super) struct FrameQueries<const V: usize, const H: usize> {
    /// by stored position, four channels to an integer
    pub quads: [[[i32; 4]; V]; H],
    pub unit: [f32; H],
    pub middle: [f32; H],
    pub mean: [f32; H],
}

impl<const V: usize, const H: usize> FrameQueries<V, H> {
    pub(super) const EMPTY: Self =
        FrameQueries { quads: [[[0; 4]; V]; H], unit: [0.0; H], middle: [0.0; H], mean: [0.0; H] };

    /// Takes `queries`, `[H, 16 · V]`.
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    #[allow(clippy::needless_range_loop, reason = "one index into several arrays")]
    pub(super) fn set(&mut self, code: KeyOperand<'_>, queries: &[f32], frame: Frame<'_>) {
        assert!(queries.len() == H * 16 * V && V.is_multiple_of(2));
        let mut of_head: [&[[f32; 8]]; H] = [&[]; H];
        for (of_head, query) in of_head.iter_mut().zip(queries.chunks_exact(16 * V)) {
            *of_head = &query.as_chunks().0[..2 * V];
        }
        let (cos, sin) = (&frame.cos.as_chunks::<8>().0[..V], &frame.sin.as_chunks::<8>().0[..V]);
        let (step_low, step_high) = code.step.as_chunks::<8>().0[..2 * V].split_at(V);
        let (mean_low, mean_high) = code.mean.as_chunks::<8>().0[..2 * V].split_at(V);
        let sign = _mm256_set1_ps(-0.0);
        let zero = [_mm256_setzero_ps(); H];
        let (mut largest, mut low, mut high) = (zero, zero, zero);
        // Of the first and of the second half of the channels.
        let mut scaled = [[[_mm256_setzero_ps(); V]; 2]; H];
        for i in 0..V {
            let (cos, sin) = (load(&cos[i]), load(&sin[i]));
            let (mut a, mut b) = (zero, zero);
            for h in 0..H {
                (a[h], b[h]) = (load(&of_head[h][i]), load(&of_head[h][i + V]));
            }
            let (mut first, mut second) = (zero, zero);
            for h in 0..H {
                (first[h], second[h]) = (_mm256_mul_ps(a[h], cos), _mm256_mul_ps(b[h], cos));
            }
            end_step_of_heads(&mut first, &mut second);
            for h in 0..H {
                first[h] = _mm256_fmadd_ps(b[h], sin, first[h]);
                second[h] = _mm256_fnmadd_ps(a[h], sin, second[h]);
            }
            end_step_of_heads(&mut first, &mut second);
            let (step, mean) =
                ((load(&step_low[i]), load(&step_high[i])), (load(&mean_low[i]), load(&mean_high[i])));
            for h in 0..H {
                low[h] = _mm256_fmadd_ps(first[h], mean.0, low[h]);
                high[h] = _mm256_fmadd_ps(second[h], mean.1, high[h]);
                (first[h], second[h]) = (_mm256_mul_ps(first[h], step.0), _mm256_mul_ps(second[h], step.1));
            }
            end_step_of_heads(&mut first, &mut second);
            for h in 0..H {
                (scaled[h][0][i], scaled[h][1][i]) = (first[h], second[h]);
                let sizes =
                    _mm256_max_ps(_mm256_andnot_ps(sign, first[h]), _mm256_andnot_ps(sign, second[h]));
                largest[h] = _mm256_max_ps(largest[h], sizes);
            }
        }
        let mut per_unit = [0.0; H];
        for h in 0..H {
            let largest = max_across(largest[h]);
            per_unit[h] = if largest > 0.0 { QUERY_TOP / largest } else { 0.0 };
            self.unit[h] = largest / QUERY_TOP;
            self.mean[h] = sum_across(_mm256_add_ps(low[h], high[h]));
        }
        let mut bytes = [[_mm_setzero_si128(); H]; V];
        for h in 0..H {
            let per_unit = _mm256_set1_ps(per_unit[h]);
            for (bytes, four) in
                bytes.as_chunks_mut::<2>().0.iter_mut().zip(scaled[h].as_flattened().as_chunks::<4>().0)
            {
                let [mut a, mut b, mut c, mut d] = *four;
                for x in [&mut a, &mut b, &mut c, &mut d] {
                    *x = _mm256_mul_ps(*x, per_unit);
                }
                end_step!(a, b, c, d; "{}", "{}", "{}", "{}");
                let (mut a, mut b) = (_mm256_cvtps_epi32(a), _mm256_cvtps_epi32(b));
                let (mut c, mut d) = (_mm256_cvtps_epi32(c), _mm256_cvtps_epi32(d));
                end_step!(a, b, c, d; "{}", "{}", "{}", "{}");
                // Each half of the result has halves of all four.
                let packed = _mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
                let packed = _mm256_permutevar8x32_epi32(packed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
                bytes[0][h] = _mm256_castsi256_si128(packed);
                bytes[1][h] = _mm256_extracti128_si256::<1>(packed);
            }
        }
        let mut twice = [_mm_setzero_si128(); H];
        let tops = code.top_at.as_chunks::<16>().0;
        for (j, (masks, top)) in code.shuffle.masks.chunks_exact(V).zip(tops).enumerate() {
            let mut out = [_mm_setzero_si128(); H];
            for (mask, from) in masks.iter().zip(&bytes) {
                // SAFETY: `mask` has 16 bytes.
                let mask = unsafe { _mm_loadu_si128(mask.as_ptr().cast()) };
                for h in 0..H {
                    out[h] = _mm_or_si128(out[h], _mm_shuffle_epi8(from[h], mask));
                }
            }
            // SAFETY: `top` has 16 bytes.
            let top = unsafe { _mm_loadu_si128(top.as_ptr().cast()) };
            for h in 0..H {
                let quads = &mut self.quads[h][j];
                // SAFETY: `quads` has 16 bytes.
                unsafe { _mm_storeu_si128(quads.as_mut_ptr().cast(), out[h]) };
                let words = _mm_maddubs_epi16(top, out[h]);
                twice[h] = _mm_add_epi32(twice[h], _mm_madd_epi16(words, _mm_set1_epi16(1)));
            }
        }
        for h in 0..H {
            self.middle[h] = sum_of_four(twice[h]) as f32 * 0.5;
        }
    }
}
