//! `block` with vectors of 512 bits: sixteen rows at once, one in each lane.
//!
//! What is summed or compared over tokens and channels then stays in a lane, and no row waits for another. Sums over eight lanes of the
//! other forms are eight vectors here. The operations on floats are the same, so results have the same bits.
//!
//! Sums of integers come from dot products of bytes or from tiles of AMX.

use std::arch::x86_64::*;

use super::super::keys::{KeyCode, QUAD};
use super::super::values::ValueCode;
use super::super::weights::{WEIGHT_TOKENS, WEIGHT_TOP, WEIGHT_UNITS};
use super::super::{BLOCK_TOKENS, BLOCKS, FRAME_TOKENS};
use super::scores::QuadCodes;
use super::softmax_wide::exp2;
use super::turn::{BlockQueries, Turn, mean_product};
use super::weights::MAX_ROWS;
use super::{MAX_DIM, MAX_HEADS};
use crate::math::avx2::{store4, sums_across};
use crate::math::avx512::{load, store};
use crate::page::{FRAMES, PAGE_TOKENS};
use crate::simd::{load_integers, store_integers};
use crate::tiles::{TILE_ROWS, TileIntegers};

/// Rows, one a lane.
const LANES: usize = MAX_ROWS;
/// Lanes of sums over tokens in the other forms.
const EIGHT: usize = 8;
/// Tokens whose sums are in registers.
const TOKENS: usize = 16;

const _: () = assert!(LANES == 16 && WEIGHT_TOKENS == 4 * LANES);

/// Sixteen rows as they meet a frame.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct FrameRows {
    /// integers of quads of stored positions, of each row; 0 behind the last one
    pub quads: [[i32; LANES]; MAX_DIM / QUAD],
    unit: [f32; LANES],
    middle: [f32; LANES],
    mean: [f32; LANES],
}

/// Sixteen values for each token of a page: scores, then weights times gains.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct OfTokens<T>(pub [[T; LANES]; PAGE_TOKENS]);

impl FrameRows {
    pub const EMPTY: FrameRows = FrameRows {
        quads: [[0; LANES]; MAX_DIM / QUAD],
        unit: [0.0; LANES],
        middle: [0.0; LANES],
        mean: [0.0; LANES],
    };
}

/// Turns and rounds some rows, [`LANES`] at most, for the frames of a page.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,avx2,fma,f16c")]
pub(super) fn turn<const V: usize>(
    code: &KeyCode,
    queries: BlockQueries<'_, V>,
    rows: &[u16],
    turns: &[Turn<'_, V>; FRAMES],
    in_frames: &mut [FrameRows; FRAMES],
) {
    for (four, rows) in rows.chunks(MAX_HEADS).enumerate() {
        let mut means = [[_mm256_setzero_ps(); MAX_HEADS]; FRAMES];
        for (at, row) in rows.iter().enumerate() {
            let ([_, _, [mean_cos, mean_sin]], unit) = queries.row(*row);
            for (frame, turn) in turns.iter().enumerate() {
                in_frames[frame].unit[MAX_HEADS * four + at] = *unit;
                means[frame][at] = mean_product(mean_cos, mean_sin, turn.cos, turn.sin);
            }
        }
        for (in_frame, means) in in_frames.iter_mut().zip(means) {
            store4(&mut in_frame.mean.as_chunks_mut().0[four], sums_across(means));
        }
    }
    let mut twice = [_mm512_setzero_si512(); FRAMES];
    for part in 0..V.div_ceil(4) {
        let mut integers = [[_mm512_setzero_si512(); LANES]; FRAMES];
        for (at, row) in rows.iter().enumerate() {
            let ([x, y, _], _) = queries.row(*row);
            for (integers, turn) in integers.iter_mut().zip(turns) {
                integers[at] = turned::<V>(x, y, turn, part);
            }
        }
        for ((in_frame, integers), twice) in in_frames.iter_mut().zip(integers).zip(&mut twice) {
            let quads = &mut in_frame.quads.as_chunks_mut::<LANES>().0[part];
            for (at, (quad, rows)) in quads.iter_mut().zip(transposed(integers)).enumerate() {
                store_integers(quad, rows);
                let tops = code.top_at.as_chunks::<QUAD>().0.get(LANES * part + at);
                let tops = _mm512_set1_epi32(tops.map_or(0, |tops| i32::from_le_bytes(*tops)));
                *twice = _mm512_dpbusd_epi32(*twice, tops, rows);
            }
        }
    }
    for (in_frame, twice) in in_frames.iter_mut().zip(twice) {
        store(&mut in_frame.middle, _mm512_mul_ps(_mm512_cvtepi32_ps(twice), _mm512_set1_ps(0.5)));
    }
}

/// 64 integers of one row, zeros behind the last: those of part `part`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,avx2,fma,f16c")]
#[inline]
fn turned<const V: usize>(
    x: &[[[f32; 8]; V]; 2],
    y: &[[[f32; 8]; V]; 2],
    turn: &Turn<'_, V>,
    part: usize,
) -> __m512i {
    let (x, y) = (sixteens::<V>(x.as_flattened()), sixteens::<V>(y.as_flattened()));
    let (cos, sin) = (sixteens::<V>(turn.cos_at.as_flattened()), sixteens::<V>(turn.sin_at.as_flattened()));
    // Quads after packing, which happens in each quarter of a vector apart, of two times 32 positions.
    let order = _mm512_setr_epi32(0, 8, 1, 9, 4, 12, 5, 13, 2, 10, 3, 11, 6, 14, 7, 15);
    let mut packed = [_mm512_setzero_si512(); 2];
    for (group, packed) in packed.iter_mut().enumerate() {
        let at = 4 * part + 2 * group;
        if at < V {
            let mut two = [_mm512_setzero_si512(); 2];
            for (v, integers) in two.iter_mut().enumerate() {
                let product = _mm512_mul_ps(load(&x[at + v]), load(&cos[at + v]));
                let sum = _mm512_fmadd_ps(load(&y[at + v]), load(&sin[at + v]), product);
                *integers = _mm512_cvtps_epi32(sum);
            }
            *packed = _mm512_packs_epi32(two[0], two[1]);
        }
    }
    _mm512_permutexvar_epi32(order, _mm512_packs_epi16(packed[0], packed[1]))
}

/// Eights of `16 · V` channels by sixteens.
#[inline(always)]
fn sixteens<const V: usize>(eights: &[[f32; 8]]) -> &[[f32; 16]; V] {
    eights.as_flattened().as_chunks().0.try_into().expect("16 · V channels")
}

/// Scores of a token of a frame.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,avx2,fma,f16c")]
#[inline]
fn score(rows: &FrameRows, sums: __m512i, gain: f32) -> __m512 {
    let centred = _mm512_sub_ps(_mm512_cvtepi32_ps(sums), load(&rows.middle));
    let factor = _mm512_mul_ps(_mm512_set1_ps(gain), load(&rows.unit));
    _mm512_fmadd_ps(centred, factor, load(&rows.mean))
}

/// Scores of sixteen rows with a page, whose sums of integers are formed here.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,avx2,fma,f16c")]
#[allow(clippy::needless_range_loop, reason = "one index into several arrays")]
pub(super) fn score_by_vectors(
    keys: &[&[QuadCodes]; BLOCKS],
    gains: &[f32; PAGE_TOKENS],
    in_frames: &[FrameRows; FRAMES],
    scores: &mut OfTokens<f32>,
) {
    for block in 0..BLOCKS {
        let rows = &in_frames[block * BLOCK_TOKENS / FRAME_TOKENS];
        let keys = keys[block];
        let quads = &rows.quads[..keys.len()];
        let gains: &[[f32; TOKENS]] = gains[block * BLOCK_TOKENS..][..BLOCK_TOKENS].as_chunks().0;
        for first in 0..BLOCK_TOKENS / TOKENS {
            let mut sums = [_mm512_setzero_si512(); TOKENS];
            for (quads, keys) in quads.iter().zip(keys) {
                let query = load_integers(quads);
                let keys = tokens(&keys.as_chunks().0[first]);
                for t in 0..TOKENS {
                    sums[t] = _mm512_dpbusd_epi32(sums[t], _mm512_set1_epi32(keys[t]), query);
                }
            }
            let to = &mut scores.0[block * BLOCK_TOKENS + first * TOKENS..][..TOKENS];
            for t in 0..TOKENS {
                store(&mut to[t], score(rows, sums[t], gains[first][t]));
            }
        }
    }
}

/// Scores of sixteen rows with a page, from their sums of integers.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,avx2,fma,f16c")]
#[inline]
pub(super) fn score_of_sums(
    gains: &[f32; PAGE_TOKENS],
    in_frames: &[FrameRows; FRAMES],
    sums: &OfTokens<i32>,
    scores: &mut OfTokens<f32>,
) {
    let frames = scores.0.as_chunks_mut::<FRAME_TOKENS>().0.iter_mut().zip(in_frames);
    let gains = gains.as_chunks::<FRAME_TOKENS>().0;
    let sums = sums.0.as_chunks::<FRAME_TOKENS>().0.iter().zip(gains);
    for ((scores, rows), (sums, gains)) in frames.zip(sums) {
        for (to, (sums, gain)) in scores.iter_mut().zip(sums.iter().zip(gains)) {
            store(to, score(rows, load_integers(sums), *gain));
        }
    }
}

/// What is known of sixteen rows after softmax.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct LaneWeights {
    /// weights times gains as integers, of the tokens that share a scale: of each row, four tokens in each
    pub integers: [TileIntegers; WEIGHT_UNITS],
    /// values of an integer of 1
    pub unit: [[f32; LANES]; WEIGHT_UNITS],
    /// sums of the integers
    pub total: [[f32; LANES]; WEIGHT_UNITS],
    /// of all weights
    pub sum: [f32; LANES],
    /// factors of the state and of the page in their merge
    pub keep: [f32; LANES],
    pub take: [f32; LANES],
}

impl LaneWeights {
    pub const EMPTY: LaneWeights = LaneWeights {
        integers: [[[0; 16]; TILE_ROWS]; WEIGHT_UNITS],
        unit: [[0.0; LANES]; WEIGHT_UNITS],
        total: [[0.0; LANES]; WEIGHT_UNITS],
        sum: [0.0; LANES],
        keep: [0.0; LANES],
        take: [0.0; LANES],
    };
}

/// Softmax of sixteen rows: all of `weights` but the factors of the merge. Returns their maxima. What `scores` has is lost.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,avx2,fma,f16c")]
#[allow(clippy::needless_range_loop, reason = "one index into several arrays")]
pub(super) fn softmax(
    scores: &mut OfTokens<f32>,
    gains: &[f32; PAGE_TOKENS],
    weights: &mut LaneWeights,
) -> [f32; LANES] {
    let mut largest = [_mm512_set1_ps(f32::NEG_INFINITY); 4];
    for four in scores.0.as_chunks::<4>().0 {
        for i in 0..4 {
            largest[i] = _mm512_max_ps(largest[i], load(&four[i]));
        }
    }
    let max = _mm512_max_ps(_mm512_max_ps(largest[0], largest[1]), _mm512_max_ps(largest[2], largest[3]));
    let mut sums = [_mm512_setzero_ps(); EIGHT];
    let mut tops = [_mm512_setzero_ps(); WEIGHT_UNITS];
    let gains = gains.as_chunks::<EIGHT>().0;
    for (index, (eight, gains)) in scores.0.as_chunks_mut::<EIGHT>().0.iter_mut().zip(gains).enumerate() {
        let top = &mut tops[index / (WEIGHT_TOKENS / EIGHT)];
        for t in 0..EIGHT {
            let weights = exp2(_mm512_sub_ps(load(&eight[t]), max));
            sums[t] = _mm512_add_ps(sums[t], weights);
            let product = _mm512_mul_ps(weights, _mm512_set1_ps(gains[t]));
            *top = _mm512_max_ps(*top, product);
            store(&mut eight[t], product);
        }
    }
    let most = _mm512_set1_ps(WEIGHT_TOP);
    for (unit, top) in tops.into_iter().enumerate() {
        let is_some = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(top, _mm512_setzero_ps());
        let per_unit = _mm512_maskz_div_ps(is_some, most, top);
        store(&mut weights.unit[unit], _mm512_div_ps(top, most));
        let products = scores.0[unit * WEIGHT_TOKENS..][..WEIGHT_TOKENS].as_chunks::<4>().0;
        let mut total = _mm512_setzero_si512();
        let mut quads = [_mm512_setzero_si512(); WEIGHT_TOKENS / 4];
        for (quad, four) in quads.iter_mut().zip(products) {
            let round = |product| _mm512_cvtps_epi32(_mm512_mul_ps(load(product), per_unit));
            let [a, b, c, d] = [round(&four[0]), round(&four[1]), round(&four[2]), round(&four[3])];
            // Four tokens of a row become neighbours.
            let bytes = _mm512_packus_epi16(_mm512_packs_epi32(a, b), _mm512_packs_epi32(c, d));
            *quad = _mm512_shuffle_epi8(bytes, neighbours());
            total = _mm512_dpbusd_epi32(total, *quad, _mm512_set1_epi8(1));
        }
        store(&mut weights.total[unit], _mm512_cvtepi32_ps(total));
        for (to, quads) in weights.integers[unit].iter_mut().zip(transposed(quads)) {
            store_integers(to, quads);
        }
    }
    // In the order of `math::across`.
    let four: [__m512; 4] = [
        _mm512_add_ps(sums[0], sums[4]),
        _mm512_add_ps(sums[1], sums[5]),
        _mm512_add_ps(sums[2], sums[6]),
        _mm512_add_ps(sums[3], sums[7]),
    ];
    store(&mut weights.sum, _mm512_add_ps(_mm512_add_ps(four[0], four[2]), _mm512_add_ps(four[1], four[3])));
    let mut maxima = [0.0; LANES];
    store(&mut maxima, max);
    maxima
}

/// What sums with codes of values are multiplied with, and what is subtracted before, of each row.
#[derive(Clone, Copy)]
pub(super) struct UnitFactors {
    factor: [f32; LANES],
    centre: [f32; LANES],
}

impl LaneWeights {
    /// Those of each unit.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,avx2,fma,f16c")]
    #[inline]
    pub fn factors(&self, code: &ValueCode) -> [UnitFactors; WEIGHT_UNITS] {
        let (step, middle) = (_mm512_set1_ps(code.step()), _mm512_set1_ps(code.middle()));
        let mut factors = [UnitFactors { factor: [0.0; LANES], centre: [0.0; LANES] }; WEIGHT_UNITS];
        for (unit, factors) in factors.iter_mut().enumerate() {
            store(&mut factors.factor, _mm512_mul_ps(load(&self.unit[unit]), step));
            store(&mut factors.centre, _mm512_mul_ps(load(&self.total[unit]), middle));
        }
        factors
    }
}

/// Adds sums of integers of row `h` with sixteen channels, over the tokens of a unit.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,avx2,fma,f16c")]
#[inline]
pub(super) fn add_unit(of_page: __m512, sums: __m512i, factors: &UnitFactors, h: usize) -> __m512 {
    let centred = _mm512_sub_ps(_mm512_cvtepi32_ps(sums), _mm512_set1_ps(factors.centre[h]));
    _mm512_fmadd_ps(centred, _mm512_set1_ps(factors.factor[h]), of_page)
}

/// Merges what a page gives row `h` in sixteen channels with its outputs.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,avx2,fma,f16c")]
#[inline]
pub(super) fn merge(out: &mut [f32; 16], of_page: __m512, means: __m512, weights: &LaneWeights, h: usize) {
    let with_mean = _mm512_fmadd_ps(_mm512_set1_ps(weights.sum[h]), means, of_page);
    let taken = _mm512_mul_ps(with_mean, _mm512_set1_ps(weights.take[h]));
    store(out, _mm512_fmadd_ps(load(out), _mm512_set1_ps(weights.keep[h]), taken));
}

/// Bytes `[a0 a1 a2 a3 b0 … d3]` of a quarter of a vector as `[a0 b0 c0 d0 a1 …]`.
#[target_feature(enable = "avx512f")]
#[inline]
fn neighbours() -> __m512i {
    _mm512_set4_epi32(0x0f0b_0703, 0x0e0a_0602, 0x0d09_0501, 0x0c08_0400)
}

/// Sixteen times sixteen integers of 32 bits, rows as columns.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn transposed(rows: [__m512i; 16]) -> [__m512i; 16] {
    let mut pairs = [_mm512_setzero_si512(); 16];
    for i in 0..8 {
        pairs[2 * i] = _mm512_unpacklo_epi32(rows[2 * i], rows[2 * i + 1]);
        pairs[2 * i + 1] = _mm512_unpackhi_epi32(rows[2 * i], rows[2 * i + 1]);
    }
    // Of each four rows, columns 0, 1, 2 and 3 of each quarter.
    let mut fours = [_mm512_setzero_si512(); 16];
    for i in 0..4 {
        for high in 0..2 {
            let (a, b) = (pairs[4 * i + high], pairs[4 * i + 2 + high]);
            fours[4 * i + 2 * high] = _mm512_unpacklo_epi64(a, b);
            fours[4 * i + 2 * high + 1] = _mm512_unpackhi_epi64(a, b);
        }
    }
    let mut out = [_mm512_setzero_si512(); 16];
    for column in 0..4 {
        let of = |i: usize| fours[4 * i + column];
        // Quarters 0 and 2 of eight rows, then quarters 1 and 3.
        let even = [0, 2].map(|i| _mm512_shuffle_i32x4::<0b10_00_10_00>(of(i), of(i + 1)));
        let odd = [0, 2].map(|i| _mm512_shuffle_i32x4::<0b11_01_11_01>(of(i), of(i + 1)));
        out[column] = _mm512_shuffle_i32x4::<0b10_00_10_00>(even[0], even[1]);
        out[4 + column] = _mm512_shuffle_i32x4::<0b10_00_10_00>(odd[0], odd[1]);
        out[8 + column] = _mm512_shuffle_i32x4::<0b11_01_11_01>(even[0], even[1]);
        out[12 + column] = _mm512_shuffle_i32x4::<0b11_01_11_01>(odd[0], odd[1]);
    }
    out
}

/// Sixteen tokens of two vectors of a quad's codes.
#[inline(always)]
fn tokens(codes: &[__m256i; 2]) -> &[i32; TOKENS] {
    // SAFETY: a vector has eight integers.
    unsafe { &*std::ptr::from_ref(codes).cast() }
}
