//! [`weights::softmax`](super::weights::softmax) with vectors of 512 bits: the same operations on floats in the same order where sums
//! are formed, so results have the same bits.
//!
//! Up to four rows take each step together. One row alone is a chain: its maximum, then exponentials, then their largest product, then
//! integers, and a core waits at each for what lies across lanes.

use std::arch::x86_64::*;

use super::super::weights::{LOWEST, P, ROUND, WEIGHT_TOKENS, WEIGHT_TOP};
use super::sums_of_lanes;
use super::weights::{Integers, Unit};
use super::wide::add_halves;
use crate::math::avx2::{maxima_across, store4, sums_across};
use crate::math::avx512::load;
use crate::page::PAGE_TOKENS;

/// Rows that are reduced across lanes together.
const ROWS: usize = 4;
/// Vectors of tokens that share a scale.
const OF_UNIT: usize = WEIGHT_TOKENS / 16;

/// Softmax of a page's scores of some rows, whose weights times `gains` become `integers`. Calls `done(row, maximum, sum of the
/// weights)` for each.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,avx2,fma,f16c")]
#[inline]
pub(super) fn softmax(
    scores: &[[f32; PAGE_TOKENS]],
    gains: &[__m512; PAGE_TOKENS / 16],
    integers: &mut [Integers],
    mut done: impl FnMut(usize, f32, f32),
) {
    assert_eq!(scores.len(), integers.len());
    for (index, (scores, integers)) in scores.chunks(ROWS).zip(integers.chunks_mut(ROWS)).enumerate() {
        let (maxima, sums) = match scores.len() {
            1 => rows::<1>(scores, gains, integers),
            2 => rows::<2>(scores, gains, integers),
            3 => rows::<3>(scores, gains, integers),
            _ => rows::<4>(scores, gains, integers),
        };
        for (row, (max, sum)) in maxima.into_iter().zip(sums).enumerate().take(scores.len()) {
            done(ROWS * index + row, max, sum);
        }
    }
}

/// [`softmax`] of `N` rows: their maxima and sums, and zeros.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,avx2,fma,f16c")]
#[allow(clippy::needless_range_loop, reason = "one index into several arrays")]
fn rows<const N: usize>(
    scores: &[[f32; PAGE_TOKENS]],
    gains: &[__m512; PAGE_TOKENS / 16],
    integers: &mut [Integers],
) -> ([f32; ROWS], [f32; ROWS]) {
    let scores: &[[f32; PAGE_TOKENS]; N] = scores.try_into().expect("scores of N rows");
    let integers: &mut [Integers; N] = integers.try_into().expect("integers of N rows");
    let mut largest = [_mm256_setzero_ps(); ROWS];
    for h in 0..N {
        let groups = scores[h].as_chunks::<16>().0;
        let mut two = [_mm512_set1_ps(f32::NEG_INFINITY); 2];
        for [a, b] in groups.as_chunks::<2>().0 {
            two = [_mm512_max_ps(two[0], load(a)), _mm512_max_ps(two[1], load(b))];
        }
        largest[h] = larger_half(_mm512_max_ps(two[0], two[1]));
    }
    let mut maxima = [0.0; ROWS];
    store4(&mut maxima, maxima_across(largest));
    let mut sums = [_mm256_setzero_ps(); ROWS];
    for unit in 0..PAGE_TOKENS / WEIGHT_TOKENS {
        let at = OF_UNIT * unit;
        let mut products = [[_mm512_setzero_ps(); OF_UNIT]; N];
        let mut tops = [_mm256_setzero_ps(); ROWS];
        for h in 0..N {
            let shift = _mm512_set1_ps(maxima[h]);
            for (v, group) in scores[h].as_chunks::<16>().0[at..][..OF_UNIT].iter().enumerate() {
                let weights = exp2(_mm512_sub_ps(load(group), shift));
                // One half after the other: the sum has eight lanes.
                sums[h] = _mm256_add_ps(sums[h], _mm512_castps512_ps256(weights));
                sums[h] = _mm256_add_ps(sums[h], _mm512_extractf32x8_ps::<1>(weights));
                products[h][v] = _mm512_mul_ps(weights, gains[at + v]);
            }
            let [a, b, c, d] = products[h];
            tops[h] = larger_half(_mm512_max_ps(_mm512_max_ps(a, b), _mm512_max_ps(c, d)));
        }
        let (top, most) = (maxima_across(tops), _mm_set1_ps(WEIGHT_TOP));
        let (mut per_unit, mut of_one) = ([0.0; ROWS], [0.0; ROWS]);
        store4(&mut per_unit, _mm_and_ps(_mm_cmpgt_ps(top, _mm_setzero_ps()), _mm_div_ps(most, top)));
        store4(&mut of_one, _mm_div_ps(top, most));
        let mut totals = [_mm256_setzero_si256(); ROWS];
        for h in 0..N {
            let per_unit = _mm512_set1_ps(per_unit[h]);
            let quads = &mut integers[h].quads.as_chunks_mut::<4>().0[at..][..OF_UNIT];
            let mut total = _mm512_setzero_si512();
            for (product, quads) in products[h].iter().zip(quads) {
                let rounded = _mm512_cvtps_epi32(_mm512_mul_ps(*product, per_unit));
                total = _mm512_add_epi32(total, rounded);
                let bytes = _mm512_cvtusepi32_epi8(rounded);
                // SAFETY: `quads` has sixteen bytes.
                unsafe { _mm_storeu_si128(quads.as_mut_ptr().cast(), bytes) };
            }
            totals[h] = add_halves(total);
        }
        let mut total = [0.0; ROWS];
        store4(&mut total, _mm_cvtepi32_ps(sums_of_lanes(totals)));
        for h in 0..N {
            integers[h].units[unit] = Unit { unit: of_one[h], total: total[h] };
        }
    }
    let mut out = [0.0; ROWS];
    store4(&mut out, sums_across(sums));
    (maxima, out)
}

/// `2^x`; see `super::super::weights`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,avx2,fma,f16c")]
#[inline]
pub(super) fn exp2(x: __m512) -> __m512 {
    let (round, lowest) = (_mm512_set1_ps(ROUND), _mm512_set1_ps(LOWEST));
    let x = _mm512_max_ps(x, lowest);
    let rounded = _mm512_add_ps(x, round);
    let f = _mm512_sub_ps(x, _mm512_sub_ps(rounded, round));
    let mut p = _mm512_set1_ps(P[0]);
    for c in [P[1], P[2], 1.0] {
        p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(c));
    }
    let exponent = _mm512_slli_epi32::<23>(_mm512_castps_si512(rounded));
    _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(p), exponent))
}

/// The larger of each lane of both halves.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,avx2,fma,f16c")]
#[inline]
fn larger_half(x: __m512) -> __m256 {
    _mm256_max_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps::<1>(x))
}
