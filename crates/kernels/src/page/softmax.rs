//! Scores of a page and their softmax: the part of the definition of attention's result that every storage format shares.
//! The vector forms do the operations of the scalar one in the same order; sums across lanes have eight lanes in all of them.

use super::{LANES, PAGE_TOKENS};
use crate::math::{across, exp2};

#[cfg(target_arch = "x86_64")]
pub(crate) use vectors::{softmax_avx2, softmax_avx512, softmax_rows_avx512};

/// The larger, the second if one is NaN.
fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// Scores of one query with eight tokens: `keys` is `[head_dim][8]`.
#[inline(always)]
pub(crate) fn score_lanes(query: &[f32], keys: impl Iterator<Item = [f32; LANES]>) -> [f32; LANES] {
    let mut scores = [0.0f32; LANES];
    for (q, keys) in query.iter().zip(keys) {
        for (s, k) in scores.iter_mut().zip(keys) {
            *s = q.mul_add(k, *s);
        }
    }
    scores
}

/// Turns the first `n_tokens` scores into weights, the others into 0; returns the maximum and the sum of the weights.
#[inline(always)]
pub(crate) fn softmax(scores: &mut [f32; PAGE_TOKENS], n_tokens: usize) -> (f32, f32) {
    scores[n_tokens..].fill(f32::NEG_INFINITY);
    let eights = scores.as_chunks_mut::<LANES>().0;
    let mut max = [f32::NEG_INFINITY; LANES];
    for eight in eights.iter() {
        for (m, s) in max.iter_mut().zip(eight) {
            *m = larger(*m, *s);
        }
    }
    let max = across(max, larger);
    let mut sum = [0.0; LANES];
    for eight in eights {
        for (l, s) in sum.iter_mut().zip(eight) {
            *s = exp2(*s - max);
            *l += *s;
        }
    }
    (max, across(sum, |a, b| a + b))
}

#[cfg(target_arch = "x86_64")]
mod vectors {
    use std::arch::x86_64::*;

    use super::{LANES, PAGE_TOKENS};
    use crate::math::avx2::{load, max_across, splat, store, sum_across};
    use crate::math::{avx512, exp2_avx2, exp2_avx512};

    /// Turns the first `n_tokens` (at least 1) scores into weights, and those up to a whole eight into 0; returns the
    /// maximum and the sum of the weights.
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    pub(crate) fn softmax_avx2(scores: &mut [f32; PAGE_TOKENS], n_tokens: usize) -> (f32, f32) {
        let end = n_tokens.next_multiple_of(LANES);
        scores[n_tokens..end].fill(f32::NEG_INFINITY);
        let eights = scores[..end].as_chunks_mut::<LANES>().0;
        let mut max = splat(f32::NEG_INFINITY);
        for eight in eights.iter() {
            max = _mm256_max_ps(max, load(eight));
        }
        let max = max_across(max);
        let shift = splat(max);
        let mut sum = _mm256_setzero_ps();
        for eight in eights {
            let weights = exp2_avx2(_mm256_sub_ps(load(eight), shift));
            store(eight, weights);
            sum = _mm256_add_ps(sum, weights);
        }
        (max, sum_across(sum))
    }

    /// The same with vectors of 512 bits.
    #[target_feature(enable = "avx512f,avx512dq,avx2,fma,f16c")]
    #[inline]
    pub(crate) fn softmax_avx512(scores: &mut [f32; PAGE_TOKENS], n_tokens: usize) -> (f32, f32) {
        let end = n_tokens.next_multiple_of(LANES);
        scores[n_tokens..end].fill(f32::NEG_INFINITY);
        let (pairs, rest) = scores[..end].as_chunks_mut::<{ 2 * LANES }>();
        let rest = rest.as_chunks_mut().0;
        let mut largest = _mm512_set1_ps(f32::NEG_INFINITY);
        for pair in pairs.iter() {
            largest = _mm512_max_ps(largest, avx512::load(pair));
        }
        let mut largest =
            _mm256_max_ps(_mm512_castps512_ps256(largest), _mm512_extractf32x8_ps::<1>(largest));
        for eight in rest.iter() {
            largest = _mm256_max_ps(largest, load(eight));
        }
        let max = max_across(largest);
        let shift = _mm512_set1_ps(max);
        let mut sum = _mm256_setzero_ps();
        for pair in pairs {
            let weights = exp2_avx512(_mm512_sub_ps(avx512::load(pair), shift));
            avx512::store(pair, weights);
            sum = _mm256_add_ps(sum, _mm512_castps512_ps256(weights));
            sum = _mm256_add_ps(sum, _mm512_extractf32x8_ps::<1>(weights));
        }
        for eight in rest {
            let weights = exp2_avx2(_mm256_sub_ps(load(eight), _mm512_castps512_ps256(shift)));
            store(eight, weights);
            sum = _mm256_add_ps(sum, weights);
        }
        (max, sum_across(sum))
    }

    /// The same for all tokens of `R` rows, side by side.
    #[target_feature(enable = "avx512f,avx512dq,avx2,fma,f16c")]
    #[inline]
    #[allow(clippy::needless_range_loop, reason = "one index into several arrays")]
    pub(crate) fn softmax_rows_avx512<const R: usize>(
        scores: &mut [[f32; PAGE_TOKENS]; R],
    ) -> ([f32; R], [f32; R]) {
        const PAIRS: usize = PAGE_TOKENS / (2 * LANES);
        let mut largest = [_mm512_set1_ps(f32::NEG_INFINITY); R];
        for at in 0..PAIRS {
            for r in 0..R {
                let pair = &scores[r].as_chunks::<{ 2 * LANES }>().0[at];
                largest[r] = _mm512_max_ps(largest[r], avx512::load(pair));
            }
        }
        let (mut max, mut sum) = ([0.0; R], [0.0; R]);
        let mut shift = [_mm512_setzero_ps(); R];
        for r in 0..R {
            let high = _mm512_extractf32x8_ps::<1>(largest[r]);
            max[r] = max_across(_mm256_max_ps(_mm512_castps512_ps256(largest[r]), high));
            shift[r] = _mm512_set1_ps(max[r]);
        }
        let mut sums = [_mm256_setzero_ps(); R];
        for at in 0..PAIRS {
            for r in 0..R {
                let pair = &mut scores[r].as_chunks_mut::<{ 2 * LANES }>().0[at];
                let weights = exp2_avx512(_mm512_sub_ps(avx512::load(pair), shift[r]));
                avx512::store(pair, weights);
                sums[r] = _mm256_add_ps(sums[r], _mm512_castps512_ps256(weights));
                sums[r] = _mm256_add_ps(sums[r], _mm512_extractf32x8_ps::<1>(weights));
            }
        }
        for r in 0..R {
            sum[r] = sum_across(sums[r]);
        }
        (max, sum)
    }
}
