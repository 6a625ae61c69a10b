//! Query heads as they meet one frame; see `super::super::query`.
//!
//! All heads go through each step together: one head's chain from channels to integers in stored order is long, and
//! the others fill its gaps.

use std::arch::x86_64::*;

use super::super::keys::KeyOperand;
use super::super::query::{PreparedHead, QUERY_TOP};
use super::{end_step, end_step_of_heads, sum_of_four};
use crate::math::avx2::{load, max_across, sum_across};
use crate::page::Frame;

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

    /// Takes queries that meet a frame.
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    #[allow(clippy::needless_range_loop, reason = "one index into several arrays")]
    pub(super) fn set_turned(
        &mut self,
        code: KeyOperand<'_>,
        queries: &[PreparedHead<'_>; H],
        frame: Frame<'_>,
    ) {
        let eights = |values| -> &[[f32; 8]] { &<[f32]>::as_chunks(values).0[..V] };
        let (cos, sin) = (eights(frame.cos), eights(frame.sin));
        let zero = [_mm256_setzero_ps(); H];
        let (mut low, mut high) = (zero, zero);
        let mut scaled = [[[_mm256_setzero_ps(); V]; 2]; H];
        for i in 0..V {
            let (cos, sin) = (load(&cos[i]), load(&sin[i]));
            let (mut first, mut second) = (zero, zero);
            for h in 0..H {
                first[h] = _mm256_mul_ps(load(&eights(queries[h].low_cos)[i]), cos);
                second[h] = _mm256_mul_ps(load(&eights(queries[h].high_cos)[i]), cos);
            }
            end_step_of_heads(&mut first, &mut second);
            for h in 0..H {
                low[h] = _mm256_fmadd_ps(load(&eights(queries[h].mean_cos)[i]), cos, low[h]);
                high[h] = _mm256_fmadd_ps(load(&eights(queries[h].mean_sin)[i]), sin, high[h]);
            }
            for h in 0..H {
                scaled[h][0][i] = _mm256_fmadd_ps(load(&eights(queries[h].low_sin)[i]), sin, first[h]);
                scaled[h][1][i] = _mm256_fnmadd_ps(load(&eights(queries[h].high_sin)[i]), sin, second[h]);
            }
        }
        for h in 0..H {
            self.unit[h] = queries[h].unit;
            self.mean[h] = sum_across(_mm256_add_ps(low[h], high[h]));
        }
        self.round(code, &scaled);
    }

    /// Takes `queries`, `[H, 16 · V]`, that meet keys as they come.
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    #[allow(clippy::needless_range_loop, reason = "one index into several arrays")]
    pub(super) fn set_still(&mut self, code: KeyOperand<'_>, queries: &[f32]) {
        assert!(queries.len() == H * 16 * V);
        let mut of_head: [&[[f32; 8]]; H] = [&[]; H];
        for (of_head, query) in of_head.iter_mut().zip(queries.chunks_exact(16 * V)) {
            *of_head = &query.as_chunks().0[..2 * V];
        }
        let (step, mean) = (&code.step.as_chunks::<8>().0[..2 * V], &code.mean.as_chunks::<8>().0[..2 * V]);
        let sign = _mm256_set1_ps(-0.0);
        let mut largest = [_mm256_setzero_ps(); H];
        let mut sums = [[_mm256_setzero_ps(); 2]; H];
        let mut scaled = [[[_mm256_setzero_ps(); V]; 2]; H];
        for half in 0..2 {
            for i in 0..V {
                let (step, mean) = (load(&step[half * V + i]), load(&mean[half * V + i]));
                for h in 0..H {
                    let query = load(&of_head[h][half * V + i]);
                    let product = _mm256_mul_ps(query, step);
                    scaled[h][half][i] = product;
                    sums[h][half] = _mm256_fmadd_ps(query, mean, sums[h][half]);
                    largest[h] = _mm256_max_ps(largest[h], _mm256_andnot_ps(sign, product));
                }
            }
        }
        for h in 0..H {
            let largest = max_across(largest[h]);
            let per_unit = _mm256_set1_ps(if largest > 0.0 { QUERY_TOP / largest } else { 0.0 });
            self.unit[h] = largest / QUERY_TOP;
            self.mean[h] = sum_across(_mm256_add_ps(sums[h][0], sums[h][1]));
            for x in scaled[h].as_flattened_mut() {
                *x = _mm256_mul_ps(*x, per_unit);
            }
        }
        self.round(code, &scaled);
    }

    /// Rounds channels in units to integers and brings them into stored order.
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    #[allow(clippy::needless_range_loop, reason = "one index into several arrays")]
    fn round(&mut self, code: KeyOperand<'_>, scaled: &[[[__m256; V]; 2]; H]) {
        let mut bytes = [[_mm_setzero_si128(); H]; V];
        for h in 0..H {
            for (bytes, four) in
                bytes.as_chunks_mut::<2>().0.iter_mut().zip(scaled[h].as_flattened().as_chunks::<4>().0)
            {
                let [a, b, c, d] = *four;
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
        let stored = code.shuffle.masks.chunks_exact(V).zip(tops).take(code.n_stored.div_ceil(4));
        for (j, (masks, top)) in stored.enumerate() {
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
