//! `block` with vectors of 512 bits: the sums of a tile, where most of the time goes, and softmax. The operations on floats are
//! the same, so results have the same bits.

use std::arch::x86_64::*;

use super::super::layout::TOKEN_QUADS;
use super::super::weights::WEIGHT_UNITS;
use super::block::{Outputs, Weighed};
use super::query::FrameQueries;
use super::rows::PartCodes;
use super::scores::QuadCodes;
use super::values::{TokenCodes, UNIT_QUADS};
use super::weights::{Integers, MAX_ROWS, Softmax};
use super::{MAX_DIM, MAX_HEADS, softmax_wide};
use crate::math::avx512::{load, store};
use crate::page::PAGE_TOKENS;

/// Sums of `H` rows with twice sixteen tokens, or channels.
type Sums<const H: usize> = [[__m512i; 2]; H];

/// Both halves of a quad of 32 tokens, or channels.
#[target_feature(enable = "avx512f")]
#[inline]
fn load_codes(codes: &[__m256i; 4]) -> [__m512i; 2] {
    let halves: &[[__m256i; 2]] = codes.as_chunks().0;
    // SAFETY: each half has 64 bytes.
    unsafe { [_mm512_loadu_si512(halves[0].as_ptr().cast()), _mm512_loadu_si512(halves[1].as_ptr().cast())] }
}

/// Both vectors as one.
#[target_feature(enable = "avx512f,avx512dq")]
#[inline]
fn joined([low, high]: [__m256; 2]) -> __m512 {
    _mm512_insertf32x8::<1>(_mm512_castps256_ps512(low), high)
}

/// Scores of `H` rows with a block of tokens, of which the first is token `first` of the page.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,avx2,fma,f16c")]
#[inline]
#[allow(clippy::needless_range_loop, reason = "one index into several arrays")]
fn score_tile<const H: usize>(
    codes: &[QuadCodes],
    queries: &FrameQueries<MAX_HEADS>,
    gains: &[[__m256; 2]; 2],
    first: usize,
    scores: &mut [[f32; PAGE_TOKENS]],
) {
    assert!(H <= MAX_HEADS && codes.len() <= MAX_DIM / 4);
    let scores: &mut [[f32; PAGE_TOKENS]; H] = scores.try_into().expect("scores of H rows");
    let mut sums: Sums<H> = [[_mm512_setzero_si512(); 2]; H];
    for (quad, codes) in codes.iter().enumerate() {
        let codes = load_codes(codes);
        for h in 0..H {
            let query = _mm512_set1_epi32(queries.quads[h][quad]);
            for v in 0..2 {
                sums[h][v] = _mm512_dpbusd_epi32(sums[h][v], codes[v], query);
            }
        }
    }
    for v in 0..2 {
        let gains = joined(gains[v]);
        for h in 0..H {
            let centred = _mm512_sub_ps(_mm512_cvtepi32_ps(sums[h][v]), _mm512_set1_ps(queries.middle[h]));
            let factor = _mm512_mul_ps(gains, _mm512_set1_ps(queries.unit[h]));
            let to = &mut scores[h][first + 16 * v..].as_chunks_mut::<16>().0[0];
            store(to, _mm512_fmadd_ps(centred, factor, _mm512_set1_ps(queries.mean[h])));
        }
    }
}

/// See [`score_tile`]; `scores` are those of at most [`MAX_HEADS`] rows.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,avx2,fma,f16c")]
pub(super) fn score(
    codes: &[QuadCodes],
    queries: &FrameQueries<MAX_HEADS>,
    gains: &[[__m256; 2]; 2],
    first: usize,
    scores: &mut [[f32; PAGE_TOKENS]],
) {
    match scores.len() {
        1 => score_tile::<1>(codes, queries, gains, first, scores),
        2 => score_tile::<2>(codes, queries, gains, first, scores),
        3 => score_tile::<3>(codes, queries, gains, first, scores),
        _ => score_tile::<4>(codes, queries, gains, first, scores),
    }
}

/// See [`weights::softmax`](super::weights::softmax).
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,avx2,fma,f16c")]
pub(super) fn softmax(
    scores: &[[f32; PAGE_TOKENS]],
    gains: &[[f32; 8]; PAGE_TOKENS / 8],
    integers: &mut [Integers],
) -> Softmax {
    let mut wide_gains = [_mm512_setzero_ps(); PAGE_TOKENS / 16];
    for (to, gains) in wide_gains.iter_mut().zip(gains.as_flattened().as_chunks().0) {
        *to = load(gains);
    }
    let mut out = Softmax { max: [0.0; MAX_ROWS], sum: [0.0; MAX_ROWS] };
    softmax_wide::softmax(scores, &wide_gains, integers, |row, max, sum| {
        (out.max[row], out.sum[row]) = (max, sum);
    });
    out
}

/// Weighted sums of `H` rows with 32 channels, merged with their outputs among those of all.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,avx2,fma,f16c")]
#[inline]
#[allow(clippy::needless_range_loop, reason = "one index into several arrays")]
fn weigh_tile<const H: usize, const V: usize>(
    part: &PartCodes<'_>,
    weighed: &[Weighed],
    rows: &[u16],
    out: &mut [Outputs<V>],
) {
    let weighed: &[Weighed; H] = weighed.try_into().expect("H rows");
    let codes: &[TokenCodes; TOKEN_QUADS] = part.codes;
    let mut of_page = [[_mm512_setzero_ps(); 2]; H];
    for unit in 0..WEIGHT_UNITS {
        let mut sums: Sums<H> = [[_mm512_setzero_si512(); 2]; H];
        for j in unit * UNIT_QUADS..(unit + 1) * UNIT_QUADS {
            let codes = load_codes(&codes[j]);
            for h in 0..H {
                let weight = _mm512_set1_epi32(i32::from_le_bytes(weighed[h].integers.quads[j]));
                for v in 0..2 {
                    sums[h][v] = _mm512_dpbusd_epi32(sums[h][v], weight, codes[v]);
                }
            }
        }
        for h in 0..H {
            let of_unit = &weighed[h].integers.units[unit];
            let factor = _mm512_set1_ps(of_unit.unit * part.step);
            let centre = _mm512_set1_ps(of_unit.total * part.middle);
            for v in 0..2 {
                let centred = _mm512_sub_ps(_mm512_cvtepi32_ps(sums[h][v]), centre);
                of_page[h][v] = _mm512_fmadd_ps(centred, factor, of_page[h][v]);
            }
        }
    }
    for (h, row) in rows.iter().enumerate() {
        let Weighed { sum, keep, take, .. } = weighed[h];
        let to = &mut out[usize::from(*row)][2 * part.part..][..2];
        for v in 0..2 {
            let with_mean = _mm512_fmadd_ps(_mm512_set1_ps(sum), load(&part.means[v]), of_page[h][v]);
            let taken = _mm512_mul_ps(with_mean, _mm512_set1_ps(take));
            let merged = _mm512_fmadd_ps(load(&to[v]), _mm512_set1_ps(keep), taken);
            store(&mut to[v], merged);
        }
    }
}

/// See [`weigh_tile`]; `weighed` are at most [`MAX_HEADS`] rows.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,avx2,fma,f16c")]
pub(super) fn weigh<const V: usize>(
    part: &PartCodes<'_>,
    weighed: &[Weighed],
    rows: &[u16],
    out: &mut [Outputs<V>],
) {
    match weighed.len() {
        1 => weigh_tile::<1, V>(part, weighed, rows, out),
        2 => weigh_tile::<2, V>(part, weighed, rows, out),
        3 => weigh_tile::<3, V>(part, weighed, rows, out),
        _ => weigh_tile::<4, V>(part, weighed, rows, out),
    }
}
