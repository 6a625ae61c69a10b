//! See `super::super::weights`, the specification.

use std::arch::x86_64::*;

use super::super::layout::TOKEN_QUADS;
use super::super::weights::{LOWEST, P, ROUND, WEIGHT_TOKENS, WEIGHT_TOP, WEIGHT_UNITS};
use super::{end_step, gains, sums_of_lanes};
use crate::math::avx2::{load, max_across, maxima_across, store, store4, sum_across, sums_across};
use crate::page::PAGE_TOKENS;

const GROUPS: usize = PAGE_TOKENS / 8;
/// Vectors of tokens that share a scale.
const EIGHTS: usize = WEIGHT_TOKENS / 8;

/// Scale and sum of the integers of some weights.
#[derive(Clone, Copy, Default)]
pub(super) struct Unit {
    pub unit: f32,
    pub total: f32,
}

/// Weights of one head as integers.
#[derive(Clone, Copy)]
pub(super) struct Integers {
    /// of four tokens each
    pub quads: [[u8; 4]; TOKEN_QUADS],
    pub units: [Unit; WEIGHT_UNITS],
}

impl Integers {
    pub(super) const EMPTY: Integers =
        Integers { quads: [[0; 4]; TOKEN_QUADS], units: [Unit { unit: 0.0, total: 0.0 }; WEIGHT_UNITS] };
}

/// Vectors whose exponentials are computed side by side.
const SIDE_BY_SIDE: usize = 4;

/// `2^x`; see `super::super::weights`.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn exp2(mut x: [__m256; SIDE_BY_SIDE]) -> [__m256; SIDE_BY_SIDE] {
    let (round, lowest) = (_mm256_set1_ps(ROUND), _mm256_set1_ps(LOWEST));
    let mut rounded = x;
    for (x, rounded) in x.iter_mut().zip(&mut rounded) {
        *x = _mm256_max_ps(*x, lowest);
        *rounded = _mm256_add_ps(*x, round);
    }
    end_step!(rounded[0], rounded[1], rounded[2], rounded[3]; "{}", "{}", "{}", "{}");
    for (x, rounded) in x.iter_mut().zip(rounded) {
        *x = _mm256_sub_ps(*x, _mm256_sub_ps(rounded, round));
    }
    end_step!(x[0], x[1], x[2], x[3]; "{}", "{}", "{}", "{}");
    let mut p = [_mm256_set1_ps(P[0]); SIDE_BY_SIDE];
    for c in [P[1], P[2], 1.0] {
        for (p, f) in p.iter_mut().zip(x) {
            *p = _mm256_fmadd_ps(*p, f, _mm256_set1_ps(c));
        }
        end_step!(p[0], p[1], p[2], p[3]; "{}", "{}", "{}", "{}");
    }
    for (p, rounded) in p.iter_mut().zip(rounded) {
        let exponent = _mm256_slli_epi32::<23>(_mm256_castps_si256(rounded));
        *p = _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(*p), exponent));
    }
    p
}

/// Gains of a page.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn decode_gains(codes: &[u8; PAGE_TOKENS]) -> [[f32; 8]; GROUPS] {
    let mut out = [[0.0; 8]; GROUPS];
    for (out, codes) in out.iter_mut().zip(codes.as_chunks().0) {
        store(out, gains(codes));
    }
    out
}

/// Most rows of [`softmax`].
pub(super) const MAX_ROWS: usize = 16;
/// Rows that are reduced across lanes together.
const FOUR: usize = 4;

/// Four vectors for each four rows.
type OfRows<T> = [[T; FOUR]; MAX_ROWS / FOUR];

/// Maxima and sums of weights of some rows.
pub(super) struct Softmax {
    pub max: [f32; MAX_ROWS],
    pub sum: [f32; MAX_ROWS],
}

/// Softmax of a page's scores of some rows, at most [`MAX_ROWS`], whose weights times `gains` become `integers`. Scores
/// become weights times gains.
///
/// All rows take each step together: what is reduced across lanes is reduced for four at once, while others go on.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn softmax(
    scores: &mut [[f32; PAGE_TOKENS]],
    gains: &[[f32; 8]; GROUPS],
    integers: &mut [Integers],
) -> Softmax {
    let (n_rows, n_fours) = (scores.len(), scores.len().div_ceil(FOUR));
    assert!(n_rows <= MAX_ROWS && integers.len() == n_rows);
    let mut out = Softmax { max: [0.0; MAX_ROWS], sum: [0.0; MAX_ROWS] };
    let zero: OfRows<__m256> = [[_mm256_setzero_ps(); FOUR]; MAX_ROWS / FOUR];
    let mut largest = zero;
    for (largest, scores) in largest.as_flattened_mut().iter_mut().zip(scores.iter()) {
        *largest = max_of(scores);
    }
    for (max, largest) in out.max.as_chunks_mut().0.iter_mut().zip(largest).take(n_fours) {
        store4(max, maxima_across(largest));
    }
    let (mut sums, mut tops) = (zero, [zero; WEIGHT_UNITS]);
    for (h, scores) in scores.iter_mut().enumerate() {
        let groups = scores.as_chunks_mut::<8>().0.as_chunks_mut::<EIGHTS>().0;
        for (unit, (groups, gains)) in groups.iter_mut().zip(gains.as_chunks::<EIGHTS>().0).enumerate() {
            tops[unit][h / FOUR][h % FOUR] = weigh(groups, gains, out.max[h], &mut sums[h / FOUR][h % FOUR]);
        }
    }
    let mut per_unit = [[0.0; MAX_ROWS]; WEIGHT_UNITS];
    let mut of_one = per_unit;
    for four in 0..n_fours {
        store4(&mut out.sum.as_chunks_mut().0[four], sums_across(sums[four]));
        for unit in 0..WEIGHT_UNITS {
            let (top, most) = (maxima_across(tops[unit][four]), _mm_set1_ps(WEIGHT_TOP));
            let inverse = _mm_and_ps(_mm_cmpgt_ps(top, _mm_setzero_ps()), _mm_div_ps(most, top));
            store4(&mut per_unit[unit].as_chunks_mut().0[four], inverse);
            store4(&mut of_one[unit].as_chunks_mut().0[four], _mm_div_ps(top, most));
        }
    }
    let mut totals: [OfRows<__m256i>; WEIGHT_UNITS] =
        [[[_mm256_setzero_si256(); FOUR]; MAX_ROWS / FOUR]; WEIGHT_UNITS];
    for (h, (scores, integers)) in scores.iter().zip(integers.iter_mut()).enumerate() {
        let groups = scores.as_chunks::<8>().0.as_chunks::<EIGHTS>().0;
        let quads = integers.quads.as_chunks_mut::<{ WEIGHT_TOKENS / 4 }>().0;
        for (unit, (groups, quads)) in groups.iter().zip(quads).enumerate() {
            totals[unit][h / FOUR][h % FOUR] = round(groups, per_unit[unit][h], quads);
        }
    }
    for (unit, totals) in totals.iter().enumerate() {
        for (four, integers) in integers.chunks_mut(FOUR).enumerate() {
            let mut total = [0.0; FOUR];
            store4(&mut total, _mm_cvtepi32_ps(sums_of_lanes(totals[four])));
            let of_one: &[f32; FOUR] = &of_one[unit].as_chunks().0[four];
            for (integers, (&unit_of_one, total)) in integers.iter_mut().zip(of_one.iter().zip(total)) {
                integers.units[unit] = Unit { unit: unit_of_one, total };
            }
        }
    }
    out
}

/// Eight lanes of the largest score.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn max_of(scores: &[f32; PAGE_TOKENS]) -> __m256 {
    let mut largest = [_mm256_set1_ps(f32::NEG_INFINITY); 2];
    for pair in scores.as_chunks::<8>().0.as_chunks::<2>().0 {
        largest = [_mm256_max_ps(largest[0], load(&pair[0])), _mm256_max_ps(largest[1], load(&pair[1]))];
    }
    _mm256_max_ps(largest[0], largest[1])
}

/// Turns scores into weights times gains. Returns the maximum score, the sum of the weights, and the largest products.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn exponentials(
    scores: &mut [f32; PAGE_TOKENS],
    gains: &[[f32; 8]; GROUPS],
) -> (f32, f32, [f32; WEIGHT_UNITS]) {
    let max = max_across(max_of(scores));
    let groups = scores.as_chunks_mut::<8>().0;
    let mut sum = _mm256_setzero_ps();
    let mut tops = [0.0; WEIGHT_UNITS];
    for (unit, top) in tops.iter_mut().enumerate() {
        let of_unit = unit * EIGHTS..(unit + 1) * EIGHTS;
        *top = max_across(weigh(&mut groups[of_unit.clone()], &gains[of_unit], max, &mut sum));
    }
    (max, sum_across(sum), tops)
}

/// `out = weights · factors`; returns the largest products, of each unit.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn scale(
    weights: &[f32; PAGE_TOKENS],
    factors: &[[f32; 8]; GROUPS],
    out: &mut [f32; PAGE_TOKENS],
) -> [f32; WEIGHT_UNITS] {
    let (weights, out) = (weights.as_chunks::<8>().0, out.as_chunks_mut::<8>().0);
    let mut tops = [0.0; WEIGHT_UNITS];
    for (unit, top) in tops.iter_mut().enumerate() {
        let mut largest = _mm256_setzero_ps();
        for at in unit * EIGHTS..(unit + 1) * EIGHTS {
            let product = _mm256_mul_ps(load(&weights[at]), load(&factors[at]));
            largest = _mm256_max_ps(largest, product);
            store(&mut out[at], product);
        }
        *top = max_across(largest);
    }
    tops
}

impl Integers {
    /// Rounds weights whose largest are `tops`.
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    pub(super) fn round(&mut self, weights: &[f32; PAGE_TOKENS], tops: [f32; WEIGHT_UNITS]) {
        let groups = weights.as_chunks::<8>().0.as_chunks::<EIGHTS>().0;
        let quads = self.quads.as_chunks_mut::<{ WEIGHT_TOKENS / 4 }>().0;
        for (((groups, quads), top), unit) in groups.iter().zip(quads).zip(tops).zip(&mut self.units) {
            let per_unit = if top > 0.0 { WEIGHT_TOP / top } else { 0.0 };
            let zero = _mm256_setzero_si256();
            let totals = sums_of_lanes([round(groups, per_unit, quads), zero, zero, zero]);
            *unit = Unit { unit: top / WEIGHT_TOP, total: _mm_cvtsi128_si32(totals) as f32 };
        }
    }
}

/// Turns scores into weights times gains, and adds the weights; returns the lanes of the largest product.
///
/// A function of its own, which does not know how many there are: unrolled, the loop would spill.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline(never)]
fn weigh(groups: &mut [[f32; 8]], gains: &[[f32; 8]], max: f32, sum: &mut __m256) -> __m256 {
    let shift = _mm256_set1_ps(max);
    let (mut total, mut largest) = (*sum, _mm256_setzero_ps());
    let several = groups.as_chunks_mut::<SIDE_BY_SIDE>().0.iter_mut();
    for (groups, gains) in several.zip(gains.as_chunks::<SIDE_BY_SIDE>().0) {
        let mut x = [shift; SIDE_BY_SIDE];
        for (x, group) in x.iter_mut().zip(groups.iter()) {
            *x = _mm256_sub_ps(load(group), shift);
        }
        let weights = exp2(x);
        for ((group, gains), weights) in groups.iter_mut().zip(gains).zip(weights) {
            total = _mm256_add_ps(total, weights);
            let products = _mm256_mul_ps(weights, load(gains));
            largest = _mm256_max_ps(largest, products);
            store(group, products);
        }
    }
    *sum = total;
    largest
}

/// Integers of weights; returns the lanes of their sum.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn round(weights: &[[f32; 8]; EIGHTS], per_unit: f32, quads: &mut [[u8; 4]; WEIGHT_TOKENS / 4]) -> __m256i {
    let per_unit = _mm256_set1_ps(per_unit);
    let mut totals = _mm256_setzero_si256();
    for (weights, quads) in weights.as_chunks::<4>().0.iter().zip(quads.as_chunks_mut::<8>().0) {
        let mut rounded = [_mm256_setzero_si256(); 4];
        for (rounded, weights) in rounded.iter_mut().zip(weights) {
            *rounded = _mm256_cvtps_epi32(_mm256_mul_ps(load(weights), per_unit));
        }
        let [a, b, c, d] = rounded;
        let bytes = _mm256_packus_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
        let bytes = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
        totals = _mm256_add_epi64(totals, _mm256_sad_epu8(bytes, _mm256_setzero_si256()));
        // SAFETY: `quads` has 32 bytes.
        unsafe { _mm256_storeu_si256(quads.as_mut_ptr().cast(), bytes) };
    }
    totals
}
