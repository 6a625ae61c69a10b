//! Query rows as they meet one frame; see `super::super::query`.
//!
//! Rows are turned and rounded one after the other: each step has as many independent operations as there are vectors of
//! channels. What is summed across lanes waits, and is summed for all rows at once.

use std::arch::x86_64::*;
use std::ops::Range;

use super::super::keys::{KeyOperand, QUAD};
use super::super::query::{PreparedQueries, PreparedRow, QUERY_TOP};
use super::{MAX_DIM, MAX_HEADS, load_row, sums_of_lanes};
use crate::math::avx2::{load, max_across, store4, sums_across};
use crate::page::Frame;

/// Integers of a row by stored position, four channels in each.
pub(super) type RowQuads = [i32; MAX_DIM / QUAD];

/// `H` rows.
#[derive(Clone, Copy)]
pub(super) struct FrameQueries<const H: usize> {
    pub quads: [RowQuads; H],
    pub unit: [f32; H],
    pub middle: [f32; H],
    pub mean: [f32; H],
}

impl<const H: usize> FrameQueries<H> {
    pub(super) const EMPTY: Self =
        FrameQueries { quads: [[0; MAX_DIM / QUAD]; H], unit: [0.0; H], middle: [0.0; H], mean: [0.0; H] };

    /// Takes queries of `16 · V` channels that meet a frame, as the first rows.
    ///
    /// # Panics
    /// There are more than `H`.
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    pub(super) fn set_turned<const V: usize>(
        &mut self,
        code: KeyOperand<'_>,
        queries: PreparedQueries<'_>,
        rows: Range<usize>,
        frame: Frame<'_>,
    ) {
        let (prepared, units) = queries.rows::<V>();
        let prepared = &prepared[rows.clone()];
        for (unit, from) in self.unit.iter_mut().zip(&units[rows]) {
            *unit = *from;
        }
        let sums = turned(&mut self.quads[..prepared.len()], code, prepared, frame);
        self.set_sums(sums);
    }

    /// Takes what [`reduced`] gives.
    pub(super) fn set_sums(&mut self, (mean, middle): ([f32; MAX_HEADS], [f32; MAX_HEADS])) {
        self.mean.copy_from_slice(&mean[..H]);
        self.middle.copy_from_slice(&middle[..H]);
    }

    /// Takes `queries`, `[H, 16 · V]`, that meet keys as they come.
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    #[allow(clippy::needless_range_loop, reason = "one index into several arrays")]
    pub(super) fn set_still<const V: usize>(&mut self, code: KeyOperand<'_>, queries: &[f32]) {
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
        let mut means = [_mm256_setzero_ps(); MAX_HEADS];
        let mut twice = [_mm256_setzero_si256(); MAX_HEADS];
        for h in 0..H {
            let largest = max_across(largest[h]);
            let per_unit = _mm256_set1_ps(if largest > 0.0 { QUERY_TOP / largest } else { 0.0 });
            self.unit[h] = largest / QUERY_TOP;
            means[h] = _mm256_add_ps(sums[h][0], sums[h][1]);
            for x in scaled[h].as_flattened_mut() {
                *x = _mm256_mul_ps(*x, per_unit);
            }
            twice[h] = round(code, &scaled[h], &mut self.quads[h]);
        }
        self.set_sums(reduced(means, twice));
    }
}

/// Writes the integers of some rows that meet a frame, at most [`MAX_HEADS`]. Returns their products with the mean key, and those
/// with codes in the middle.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn turned<const V: usize>(
    quads: &mut [RowQuads],
    code: KeyOperand<'_>,
    rows: &[PreparedRow<V>],
    frame: Frame<'_>,
) -> ([f32; MAX_HEADS], [f32; MAX_HEADS]) {
    assert!(rows.len() <= MAX_HEADS);
    let angles = |values| -> &[[f32; 8]; V] { <[f32]>::as_chunks(values).0.first_chunk().expect("angles") };
    let (cos, sin) = (angles(frame.cos), angles(frame.sin));
    let mut means = [_mm256_setzero_ps(); MAX_HEADS];
    let mut twice = [_mm256_setzero_si256(); MAX_HEADS];
    let out = quads.iter_mut().zip(means.iter_mut().zip(&mut twice));
    for (row, (quads, (mean, twice))) in rows.iter().zip(out) {
        let [low_cos, low_sin, high_cos, high_sin, mean_cos, mean_sin] = row;
        let (mut low, mut high) = (_mm256_setzero_ps(), _mm256_setzero_ps());
        let mut scaled = [[_mm256_setzero_ps(); V]; 2];
        for i in 0..V {
            let (cos, sin) = (load(&cos[i]), load(&sin[i]));
            low = _mm256_fmadd_ps(load(&mean_cos[i]), cos, low);
            high = _mm256_fmadd_ps(load(&mean_sin[i]), sin, high);
            let first = _mm256_mul_ps(load(&low_cos[i]), cos);
            let second = _mm256_mul_ps(load(&high_cos[i]), cos);
            scaled[0][i] = _mm256_fmadd_ps(load(&low_sin[i]), sin, first);
            scaled[1][i] = _mm256_fnmadd_ps(load(&high_sin[i]), sin, second);
        }
        *mean = _mm256_add_ps(low, high);
        *twice = round(code, &scaled, quads);
    }
    reduced(means, twice)
}

/// From sums over eight lanes each: products with the mean key, and from twice those of integers with the largest codes those with codes
/// in the middle.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn reduced(
    means: [__m256; MAX_HEADS],
    twice: [__m256i; MAX_HEADS],
) -> ([f32; MAX_HEADS], [f32; MAX_HEADS]) {
    let (mut mean, mut middle) = ([0.0; MAX_HEADS], [0.0; MAX_HEADS]);
    store4(&mut mean, sums_across(means));
    store4(&mut middle, _mm_mul_ps(_mm_cvtepi32_ps(sums_of_lanes(twice)), _mm_set1_ps(0.5)));
    (mean, middle)
}

/// Rounds channels in units to integers and brings them into stored order. Returns the lanes of the sum of integers times
/// the largest codes.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn round<const V: usize>(code: KeyOperand<'_>, scaled: &[[__m256; V]; 2], quads: &mut RowQuads) -> __m256i {
    // Each sixteen bytes in both halves of a vector.
    let mut bytes = [_mm256_setzero_si256(); V];
    for (bytes, four) in bytes.as_chunks_mut::<2>().0.iter_mut().zip(scaled.as_flattened().as_chunks::<4>().0)
    {
        let [a, b, c, d] = *four;
        let left = _mm256_packs_epi32(_mm256_cvtps_epi32(a), _mm256_cvtps_epi32(b));
        let right = _mm256_packs_epi32(_mm256_cvtps_epi32(c), _mm256_cvtps_epi32(d));
        let packed = _mm256_packs_epi16(left, right);
        bytes[0] = _mm256_permute4x64_epi64::<0b01_00_01_00>(packed);
        bytes[1] = _mm256_permute4x64_epi64::<0b11_10_11_10>(packed);
    }
    let tops = code.top_at.as_chunks::<32>().0;
    let stored = code.shuffle.masks.chunks_exact(V).zip(tops).zip(quads.as_chunks_mut::<8>().0);
    let mut twice = _mm256_setzero_si256();
    for ((masks, top), quads) in stored.take(code.n_stored.div_ceil(8)) {
        let mut out = _mm256_setzero_si256();
        for (mask, from) in masks.iter().zip(&bytes) {
            out = _mm256_or_si256(out, _mm256_shuffle_epi8(*from, load_row(mask)));
        }
        // SAFETY: `quads` has 32 bytes.
        unsafe { _mm256_storeu_si256(quads.as_mut_ptr().cast(), out) };
        let words = _mm256_maddubs_epi16(load_row(top), out);
        twice = _mm256_add_epi32(twice, _mm256_madd_epi16(words, _mm256_set1_epi16(1)));
    }
    twice
}
