//! Attention over eight-bit codes; see `super::super::q8`, the specification.
//!
//! Codes are widened to 16 bits once for all heads, and multiplied and added in pairs (`pmaddwd`).

use std::arch::x86_64::*;

use super::super::RotatedCode;
use super::super::q8::{BLOCK, Q8Code, TOP};
use super::super::stored::Stored;
use super::super::weights::{WEIGHT_TOKENS, WEIGHT_UNITS};
use super::{Ahead, MAX_DIM, MAX_HEADS, weights};
use crate::math::avx2::{load, max_across, store};
use crate::page::{PAGE_TOKENS, Partial, TokenQueries};

const GROUPS: usize = PAGE_TOKENS / 8;
/// Lines of the next head that are fetched at each step.
const LINES_OF_STEP: usize = 8;

/// See [`RotatedCode::attend_codes`].
#[target_feature(enable = "avx2,fma,f16c")]
pub(in super::super) fn attend_q8(
    code: &Q8Code,
    stored: Stored<'_>,
    token: &mut TokenQueries,
    partial: &mut Partial<'_>,
) {
    let d = code.head_dim();
    assert!(d.is_multiple_of(BLOCK) && d <= MAX_DIM, "channels of a packed head");
    let mut ahead = Ahead::new(stored.next);
    let n_heads = token.n_heads();
    let part_len = n_heads.div_ceil(n_heads.div_ceil(MAX_HEADS));
    let (queries, weights) = token.parts();
    for row in (0..n_heads).step_by(part_len) {
        let end = (row + part_len).min(n_heads);
        let (queries, weights) = (&queries[row * d..end * d], &mut weights[row..end]);
        let job = Job { code, packed: stored.bytes, first_token: stored.first_token(), row };
        match weights.len() {
            1 => job.attend::<1>(queries, weights, &mut ahead, partial),
            2 => job.attend::<2>(queries, weights, &mut ahead, partial),
            3 => job.attend::<3>(queries, weights, &mut ahead, partial),
            _ => job.attend::<4>(queries, weights, &mut ahead, partial),
        }
    }
    ahead.fetch(usize::MAX);
}

struct Job<'a> {
    code: &'a Q8Code,
    packed: &'a [u8],
    first_token: usize,
    /// first of the heads
    row: usize,
}

/// Sixteen codes in 16 bits each.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn widened(codes: &[[u8; 2]; 8]) -> __m256i {
    // SAFETY: `codes` has 16 bytes.
    _mm256_cvtepi8_epi16(unsafe { _mm_loadu_si128(codes.as_ptr().cast()) })
}

/// Eight scales.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn scales(halves: &[[u8; 2]; 8]) -> __m256 {
    // SAFETY: `halves` has 16 bytes.
    _mm256_cvtph_ps(unsafe { _mm_loadu_si128(halves.as_ptr().cast()) })
}

/// Sixteen values as 16-bit integers, in pairs.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn round(values: &[[f32; 8]; 2], per_unit: __m256, pairs: &mut [i32; 8]) {
    let a = _mm256_cvtps_epi32(_mm256_mul_ps(load(&values[0]), per_unit));
    let b = _mm256_cvtps_epi32(_mm256_mul_ps(load(&values[1]), per_unit));
    let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(a, b));
    // SAFETY: `pairs` has 32 bytes.
    unsafe { _mm256_storeu_si256(pairs.as_mut_ptr().cast(), words) }
}

fn per_unit(largest: f32) -> f32 {
    if largest > 0.0 { TOP / largest } else { 0.0 }
}

impl Job<'_> {
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    fn attend<const H: usize>(
        &self,
        queries: &[f32],
        weights: &mut [[f32; PAGE_TOKENS]],
        ahead: &mut Ahead,
        partial: &mut Partial<'_>,
    ) {
        let weights: &mut [[f32; PAGE_TOKENS]; H] = weights.try_into().expect("weights of H heads");
        self.score(queries, weights, ahead);
        let ones = [[1.0; 8]; GROUPS];
        for (h, weights) in weights.iter_mut().enumerate() {
            weights[..self.first_token].fill(f32::NEG_INFINITY);
            let (max, sum, _) = weights::exponentials(weights, &ones);
            partial.set(self.row + h, max, sum);
        }
        for block in 0..self.code.head_dim() / BLOCK {
            self.weigh(block, weights, partial);
            ahead.fetch(4 * LINES_OF_STEP);
        }
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    #[allow(clippy::needless_range_loop, reason = "one index into several arrays")]
    fn score<const H: usize>(
        &self,
        queries: &[f32],
        scores: &mut [[f32; PAGE_TOKENS]; H],
        ahead: &mut Ahead,
    ) {
        let d = self.code.head_dim();
        let parts = self.code.parts(self.packed);
        let mut pairs = [[0i32; MAX_DIM / 2]; H];
        let mut units = [0.0; H];
        for h in 0..H {
            let query = queries[h * d..][..d].as_chunks::<8>().0;
            let mut largest = _mm256_setzero_ps();
            for q in query {
                largest = _mm256_max_ps(largest, _mm256_andnot_ps(_mm256_set1_ps(-0.0), load(q)));
            }
            let largest = max_across(largest);
            units[h] = largest / TOP;
            let per_unit = _mm256_set1_ps(per_unit(largest));
            for (q, pairs) in query.as_chunks::<2>().0.iter().zip(pairs[h].as_chunks_mut::<8>().0) {
                round(q, per_unit, pairs);
            }
        }
        for (tokens, rows) in parts.keys.chunks_exact(d / 2).enumerate() {
            let mut sums = [[_mm256_setzero_ps(); 4]; H];
            for (block, rows) in rows.chunks_exact(BLOCK / 2).enumerate() {
                ahead.fetch(LINES_OF_STEP);
                // Two groups of eight tokens at a time, so that the sums of four heads fit the registers.
                for half in 0..2 {
                    let mut integers = [[_mm256_setzero_si256(); 2]; H];
                    for (j, row) in rows.iter().enumerate() {
                        let codes = [widened(&row[2 * half]), widened(&row[2 * half + 1])];
                        for h in 0..H {
                            let query = _mm256_set1_epi32(pairs[h][block * BLOCK / 2 + j]);
                            for v in 0..2 {
                                let products = _mm256_madd_epi16(codes[v], query);
                                integers[h][v] = _mm256_add_epi32(integers[h][v], products);
                            }
                        }
                    }
                    for v in 0..2 {
                        let group = 2 * half + v;
                        let scale = scales(&parts.key_scales[block].as_chunks().0[4 * tokens + group]);
                        for h in 0..H {
                            let factor = _mm256_mul_ps(scale, _mm256_set1_ps(units[h]));
                            let sum = _mm256_cvtepi32_ps(integers[h][v]);
                            sums[h][group] = _mm256_fmadd_ps(sum, factor, sums[h][group]);
                        }
                    }
                }
            }
            for h in 0..H {
                let to = scores[h].as_chunks_mut::<8>().0[4 * tokens..][..4].iter_mut();
                for (to, sum) in to.zip(sums[h]) {
                    store(to, sum);
                }
            }
        }
    }

    /// Weighted sums of the channels of one block.
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    #[allow(clippy::needless_range_loop, reason = "one index into several arrays")]
    fn weigh<const H: usize>(
        &self,
        block: usize,
        weights: &[[f32; PAGE_TOKENS]; H],
        partial: &mut Partial<'_>,
    ) {
        let parts = self.code.parts(self.packed);
        let mut factors = [[0.0; 8]; GROUPS];
        for (factors, halves) in factors.iter_mut().zip(parts.value_scales[block].as_chunks::<8>().0) {
            store(factors, scales(halves));
        }
        let mut pairs = [[[0i32; WEIGHT_TOKENS / 2]; WEIGHT_UNITS]; H];
        let mut units = [[0.0; WEIGHT_UNITS]; H];
        let mut products = [0.0; PAGE_TOKENS];
        for h in 0..H {
            let tops = weights::scale(&weights[h], &factors, &mut products);
            let products = products.as_chunks::<8>().0.as_chunks::<2>().0;
            for unit in 0..WEIGHT_UNITS {
                units[h][unit] = tops[unit] / TOP;
                let per_unit = _mm256_set1_ps(per_unit(tops[unit]));
                let of_unit = &products[unit * WEIGHT_TOKENS / 16..][..WEIGHT_TOKENS / 16];
                for (values, pairs) in of_unit.iter().zip(pairs[h][unit].as_chunks_mut::<8>().0) {
                    round(values, per_unit, pairs);
                }
            }
        }
        let columns = self.code.head_dim() / 8;
        // Two vectors of channels at a time.
        for half in 0..2 {
            let column = block * BLOCK / 8 + 2 * half;
            let mut out = [[_mm256_setzero_ps(); 2]; H];
            for unit in 0..WEIGHT_UNITS {
                let rows = &parts.values[unit * WEIGHT_TOKENS / 2 * columns..][..WEIGHT_TOKENS / 2 * columns];
                let mut integers = [[_mm256_setzero_si256(); 2]; H];
                for (i, row) in rows.chunks_exact(columns).enumerate() {
                    let codes = [widened(&row[column]), widened(&row[column + 1])];
                    for h in 0..H {
                        let weight = _mm256_set1_epi32(pairs[h][unit][i]);
                        for v in 0..2 {
                            let products = _mm256_madd_epi16(codes[v], weight);
                            integers[h][v] = _mm256_add_epi32(integers[h][v], products);
                        }
                    }
                }
                for h in 0..H {
                    let factor = _mm256_set1_ps(units[h][unit]);
                    for v in 0..2 {
                        out[h][v] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(integers[h][v]), factor, out[h][v]);
                    }
                }
            }
            for h in 0..H {
                let to = partial.out_mut(self.row + h).as_chunks_mut::<8>().0;
                store(&mut to[column], out[h][0]);
                store(&mut to[column + 1], out[h][1]);
            }
        }
    }
}
