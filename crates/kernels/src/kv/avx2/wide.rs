//! Attention over codes with vectors of 512 bits: the same operations on floats in the same order where sums are formed, so
//! results have the bits of `scalar`.
//!
//! A vector of codes is 64 bytes of a quad: four tokens (or channels) of each of sixteen lanes. A row of 32 bytes is in both
//! halves of a register; each half turns it so that the bits it wants come to their place, and a ternary operation adds them to
//! the others. Codes meet all heads in registers, in two sets of sums, which hide the latency of a product.

use std::arch::x86_64::*;

use super::super::keys::{KeyCode, KeyOperand, QuadPlace, has_four, has_one, has_two};
use super::super::layout::{ROW, TOKEN_QUADS, value_rows};
use super::super::query::{PreparedQueries, PreparedRow};
use super::super::weights::{WEIGHT_TOKENS, WEIGHT_UNITS};
use super::super::{BLOCK_TOKENS, BLOCKS, FRAME_TOKENS, gain};
use super::query::{self, FrameQueries, RowQuads, reduced};
use super::scores::Pair;
use super::softmax_wide::softmax;
use super::turn::mean_product;
use super::values::Sums;
use super::weights::Integers;
use super::{Job, LINES_OF_STEP, MAX_HEADS};
use crate::math::avx512::{load, store};
use crate::page::{Frame, PAGE_TOKENS, Partial};

/// Rows in which the codes of a quad lie, as far as they have them.
#[derive(Clone, Copy)]
struct QuadRows<'a> {
    four: [&'a [u8; ROW]; 2],
    two: &'a [u8; ROW],
    one: &'a [u8; ROW],
    /// which half of `one`
    half: usize,
}

/// How far the lower and the upper half of a vector are turned left, so that bit `from` or `from + step` of each byte
/// comes to bit `to`.
#[target_feature(enable = "avx512f")]
#[inline]
fn turns(from: usize, step: usize, to: usize) -> __m512i {
    let turn = |from: usize| _mm256_set1_epi32((32 + to as i32 - from as i32) % 32);
    _mm512_inserti64x4::<1>(_mm512_castsi256_si512(turn(from)), turn(from + step))
}

/// `codes | (row turned by turns & mask)`.
#[target_feature(enable = "avx512f")]
#[inline]
fn add_bits(codes: __m512i, row: &[u8; ROW], turns: __m512i, mask: i8) -> __m512i {
    // SAFETY: `row` has 32 bytes.
    let row = _mm512_broadcast_i64x4(unsafe { _mm256_loadu_si256(row.as_ptr().cast()) });
    let turned = _mm512_rolv_epi32(row, turns);
    _mm512_ternarylogic_epi32::<0b1111_1000>(
        codes,
        turned,
        _mm512_set1_epi32(i32::from_ne_bytes([mask as u8; 4])),
    )
}

/// The codes of a quad, of `BITS` bits: vectors 0 and 1, then 2 and 3 of the layout.
#[target_feature(enable = "avx512f")]
#[inline]
fn codes_of<const BITS: u8>(rows: QuadRows<'_>) -> [__m512i; 2] {
    let mut codes = [_mm512_setzero_si512(); 2];
    for (v, codes) in codes.iter_mut().enumerate() {
        let mut up = 0;
        if has_four(BITS) {
            *codes = add_bits(*codes, rows.four[v], turns(0, 4, 0), 15);
            up = 4;
        }
        if has_two(BITS) {
            *codes = add_bits(*codes, rows.two, turns(4 * v, 2, up), 3 << up);
            up += 2;
        }
        if has_one(BITS) {
            let turns = if rows.half == 0 { turns(2 * v, 1, up) } else { turns(4 + 2 * v, 1, up) };
            *codes = add_bits(*codes, rows.one, turns, 1 << up);
        }
    }
    codes
}

/// Two sets of sums of `H` heads with twice sixteen tokens, or channels.
type TwoSets<const H: usize> = [Wide<H>; 2];

/// Sums of `H` heads with twice sixteen tokens, or channels.
type Wide<const H: usize> = [[__m512i; 2]; H];

/// The sum of both sets.
#[target_feature(enable = "avx512f")]
#[inline]
fn join<const H: usize>([mut sums, others]: TwoSets<H>) -> Wide<H> {
    for (sums, others) in sums.iter_mut().zip(others) {
        for (sum, other) in sums.iter_mut().zip(others) {
            *sum = _mm512_add_epi32(*sum, other);
        }
    }
    sums
}

/// In halves, as [`sum_halves`](super::scores::sum_halves) gives them.
#[target_feature(enable = "avx512f")]
#[inline]
fn halves<const H: usize>(sums: &Wide<H>) -> [Pair<H>; 2] {
    let mut out = [[[_mm256_setzero_si256(); 2]; H]; 2];
    for h in 0..H {
        for v in 0..2 {
            out[v][h] = [_mm512_castsi512_si256(sums[h][v]), _mm512_extracti64x4_epi64::<1>(sums[h][v])];
        }
    }
    out
}

/// The sum of each lane of both halves.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,avx2,fma,f16c")]
#[inline]
pub(super) fn add_halves(x: __m512i) -> __m256i {
    _mm256_add_epi32(_mm512_castsi512_si256(x), _mm512_extracti64x4_epi64::<1>(x))
}

/// See [`block_sums`](super::block_sums).
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,avx2,fma,f16c")]
pub(super) fn sum_keys<const H: usize>(
    code: &KeyCode,
    rows: &[[u8; ROW]],
    queries: &[&[i32]; H],
) -> [Pair<H>; 2] {
    halves(&key_sums(code, rows, queries))
}

/// Sums of codes times query integers of `H` heads with a block.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,avx2,fma,f16c")]
#[inline]
fn key_sums<const H: usize>(code: &KeyCode, rows: &[[u8; ROW]], queries: &[&[i32]; H]) -> Wide<H> {
    let mut sums = [[[_mm512_setzero_si512(); 2]; H]; 2];
    for run in &code.runs {
        let mut of_run: [&[i32]; H] = [&[]; H];
        for (of_run, queries) in of_run.iter_mut().zip(queries) {
            *of_run = &queries[run.first..run.end];
        }
        let place = code.planes.of_quad[run.first];
        match run.bits {
            1 => add_run::<H, 1>(place, rows, &of_run, &mut sums),
            2 => add_run::<H, 2>(place, rows, &of_run, &mut sums),
            3 => add_run::<H, 3>(place, rows, &of_run, &mut sums),
            4 => add_run::<H, 4>(place, rows, &of_run, &mut sums),
            5 => add_run::<H, 5>(place, rows, &of_run, &mut sums),
            _ => add_run::<H, 6>(place, rows, &of_run, &mut sums),
        }
    }
    join(sums)
}

/// Adds what quads of `BITS` bits contribute, of which the first one lies at `place`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,avx2,fma,f16c")]
#[inline]
fn add_run<const H: usize, const BITS: u8>(
    place: QuadPlace,
    rows: &[[u8; ROW]],
    queries: &[&[i32]; H],
    sums: &mut TwoSets<H>,
) {
    let n = queries[0].len();
    assert!(queries.iter().all(|queries| queries.len() == n));
    let four = if has_four(BITS) { &rows[place.four..][..2 * n] } else { &[] };
    let two = if has_two(BITS) { &rows[place.two..][..n] } else { &[] };
    let one = if has_one(BITS) { &rows[..(place.one + n).div_ceil(2)] } else { &[] };
    let add = |index: usize, sums: &mut Wide<H>| {
        let half = place.one + index;
        let none = &[0; ROW];
        let codes = codes_of::<BITS>(QuadRows {
            four: if has_four(BITS) { [&four[2 * index], &four[2 * index + 1]] } else { [none; 2] },
            two: if has_two(BITS) { &two[index] } else { none },
            one: if has_one(BITS) { &one[half / 2] } else { none },
            half: half % 2,
        });
        for h in 0..H {
            let query = _mm512_set1_epi32(queries[h][index]);
            for v in 0..2 {
                sums[h][v] = _mm512_dpbusd_epi32(sums[h][v], codes[v], query);
            }
        }
    };
    let [mut even, mut odd] = *sums;
    if H > MAX_HEADS {
        // The sums of so many heads hide the latency by themselves.
        for index in 0..n {
            add(index, &mut even);
        }
    } else {
        for index in (0..n / 2 * 2).step_by(2) {
            add(index, &mut even);
            add(index + 1, &mut odd);
        }
        if n % 2 == 1 {
            add(n - 1, &mut even);
        }
    }
    *sums = [even, odd];
}

/// See [`sum_halves`](super::values::sum_halves).
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,avx2,fma,f16c")]
pub(super) fn sum_values<const H: usize, const BITS: u8>(
    rows: &[[u8; ROW]],
    weights: &[Integers; H],
) -> [Sums<H>; 2] {
    let mut out = [[[[_mm256_setzero_si256(); 2]; H]; WEIGHT_UNITS]; 2];
    let [left, right] = &mut out;
    for (unit, (left, right)) in left.iter_mut().zip(right).enumerate() {
        [*left, *right] = halves(&value_sums::<H, BITS>(rows, weights, unit));
    }
    out
}

/// Sums of codes times weights of `H` heads with 32 channels, of the tokens that share the scale of weights `unit`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,avx2,fma,f16c")]
#[inline]
fn value_sums<const H: usize, const BITS: u8>(
    rows: &[[u8; ROW]],
    weights: &[Integers; H],
    unit: usize,
) -> Wide<H> {
    assert!(rows.len() == value_rows(BITS));
    let add = |j: usize, sums: &mut Wide<H>| {
        let none = &[0; ROW];
        let codes = codes_of::<BITS>(QuadRows {
            four: if has_four(BITS) { [&rows[2 * j], &rows[2 * j + 1]] } else { [none; 2] },
            two: if has_two(BITS) { &rows[j] } else { none },
            one: if has_one(BITS) { &rows[TOKEN_QUADS + j / 2] } else { none },
            half: j % 2,
        });
        for h in 0..H {
            let weight = _mm512_set1_epi32(i32::from_le_bytes(weights[h].quads[j]));
            for v in 0..2 {
                sums[h][v] = _mm512_dpbusd_epi32(sums[h][v], weight, codes[v]);
            }
        }
    };
    let [mut even, mut odd] = [[[_mm512_setzero_si512(); 2]; H]; 2];
    let of_unit = unit * WEIGHT_TOKENS / 4..(unit + 1) * WEIGHT_TOKENS / 4;
    if H > MAX_HEADS {
        for j in of_unit {
            add(j, &mut even);
        }
    } else {
        for j in of_unit.step_by(2) {
            add(j, &mut even);
            add(j + 1, &mut odd);
        }
    }
    join([even, odd])
}

/// Heads that meet the codes of a page at once: with twice as many sums as heads, 32 registers hold no more.
pub(super) const HEADS: usize = 8;

/// `H` heads against one page, see [`attend_token`](super::attend_token).
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,avx2,fma,f16c")]
pub(super) fn attend<const H: usize>(
    job: &mut Job<'_>,
    queries: PreparedQueries<'_>,
    scores: &mut [[f32; PAGE_TOKENS]],
    partial: &mut Partial<'_>,
) {
    let scores: &mut [[f32; PAGE_TOKENS]; H] = scores.try_into().expect("scores of H heads");
    score::<H>(job, queries, scores);
    let mut value_gains = [_mm512_setzero_ps(); PAGE_TOKENS / 16];
    for (to, codes) in value_gains.iter_mut().zip(job.parts.value_gains.as_chunks().0) {
        *to = gains(codes);
    }
    let mut integers = [Integers::EMPTY; H];
    let mut sums = [0.0; H];
    for scores in scores.iter_mut() {
        scores[..job.first_token].fill(f32::NEG_INFINITY);
        job.ahead.fetch(LINES_OF_STEP);
    }
    softmax(scores, &value_gains, &mut integers, |h, max, sum| {
        partial.set(job.row + h, max, sum);
        sums[h] = sum;
    });
    match job.code.values.bits {
        2 => weigh::<H, 2>(job, &integers, &sums, partial),
        3 => weigh::<H, 3>(job, &integers, &sums, partial),
        _ => weigh::<H, 4>(job, &integers, &sums, partial),
    }
    job.ahead.fetch(usize::MAX);
}

/// Gains of sixteen codes.
#[target_feature(enable = "avx512f")]
#[inline]
fn gains(codes: &[u8; 16]) -> __m512 {
    // SAFETY: `codes` has sixteen bytes.
    let bytes = unsafe { _mm_loadu_si128(codes.as_ptr().cast()) };
    let shifted = _mm512_slli_epi32::<19>(_mm512_cvtepu8_epi32(bytes));
    _mm512_castsi512_ps(_mm512_add_epi32(shifted, _mm512_set1_epi32(gain::BIAS as i32)))
}

/// Scores of `H` heads with a page of tokens.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,avx2,fma,f16c")]
#[inline]
fn score<const H: usize>(
    job: &mut Job<'_>,
    queries: PreparedQueries<'_>,
    scores: &mut [[f32; PAGE_TOKENS]; H],
) {
    let (code, parts) = (&job.code.keys, job.parts);
    let n_rows = code.planes.rows();
    let mut in_frame = FrameQueries::<H>::EMPTY;
    for block in 0..BLOCKS {
        if (block * BLOCK_TOKENS).is_multiple_of(FRAME_TOKENS) {
            let frame = job.frames.frame(block * BLOCK_TOKENS / FRAME_TOKENS);
            turn(&mut in_frame, code.operand(), queries, job.row, frame);
        }
        job.ahead.fetch(LINES_OF_STEP);
        let rows = &parts.keys[block * n_rows..][..n_rows];
        let mut quads: [&[i32]; H] = [&[]; H];
        for (quads, of_head) in quads.iter_mut().zip(&in_frame.quads) {
            *quads = &of_head[..code.planes.n_stored];
        }
        let sums = key_sums(code, rows, &quads);
        let gain_codes = parts.key_gains[block * BLOCK_TOKENS..][..BLOCK_TOKENS].as_chunks::<16>().0;
        for v in 0..2 {
            let gains = gains(&gain_codes[v]);
            for h in 0..H {
                let centred =
                    _mm512_sub_ps(_mm512_cvtepi32_ps(sums[h][v]), _mm512_set1_ps(in_frame.middle[h]));
                let factor = _mm512_mul_ps(gains, _mm512_set1_ps(in_frame.unit[h]));
                let to = &mut scores[h][block * BLOCK_TOKENS..].as_chunks_mut::<16>().0[v];
                store(to, _mm512_fmadd_ps(centred, factor, _mm512_set1_ps(in_frame.mean[h])));
            }
        }
    }
}

/// Takes `H` queries, from `row` on, that meet a frame.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,avx2,fma,f16c")]
#[inline]
fn turn<const H: usize>(
    to: &mut FrameQueries<H>,
    code: KeyOperand<'_>,
    queries: PreparedQueries<'_>,
    row: usize,
    frame: Frame<'_>,
) {
    for first in (0..H).step_by(MAX_HEADS) {
        let n = MAX_HEADS.min(H - first);
        let rows = row + first..row + first + n;
        let quads = &mut to.quads[first..][..n];
        let (mean, middle) = match code.order.len() / 16 {
            2 => turned::<2>(quads, code, &queries.rows().0[rows.clone()], frame),
            4 => turned::<4>(quads, code, &queries.rows().0[rows.clone()], frame),
            6 => turned::<6>(quads, code, &queries.rows().0[rows.clone()], frame),
            8 => turned::<8>(quads, code, &queries.rows().0[rows.clone()], frame),
            10 => query::turned(quads, code, &queries.rows::<10>().0[rows.clone()], frame),
            12 => query::turned(quads, code, &queries.rows::<12>().0[rows.clone()], frame),
            14 => query::turned(quads, code, &queries.rows::<14>().0[rows.clone()], frame),
            _ => query::turned(quads, code, &queries.rows::<16>().0[rows.clone()], frame),
        };
        to.mean[first..][..n].copy_from_slice(&mean[..n]);
        to.middle[first..][..n].copy_from_slice(&middle[..n]);
        to.unit[first..][..n].copy_from_slice(&queries.units[rows]);
    }
}

/// Most vectors of sixteen channels that [`turned`] takes: a permutation of bytes has two operands of 64.
const MOST_VECTORS: usize = 8;

/// [`turned_rows`] of at most four rows.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,avx2,fma,f16c")]
#[inline]
fn turned<const V: usize>(
    quads: &mut [RowQuads],
    code: KeyOperand<'_>,
    rows: &[PreparedRow<V>],
    frame: Frame<'_>,
) -> ([f32; MAX_HEADS], [f32; MAX_HEADS]) {
    match rows.len() {
        1 => turned_rows::<V, 1>(quads, code, rows, frame),
        2 => turned_rows::<V, 2>(quads, code, rows, frame),
        3 => turned_rows::<V, 3>(quads, code, rows, frame),
        _ => turned_rows::<V, 4>(quads, code, rows, frame),
    }
}

/// Writes the integers of `N` rows that meet a frame. Returns their products with the mean key, and those with codes in the middle.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,avx2,fma,f16c")]
#[allow(clippy::needless_range_loop, reason = "one index into several arrays")]
fn turned_rows<const V: usize, const N: usize>(
    quads: &mut [RowQuads],
    code: KeyOperand<'_>,
    rows: &[PreparedRow<V>],
    frame: Frame<'_>,
) -> ([f32; MAX_HEADS], [f32; MAX_HEADS]) {
    assert!(V <= MOST_VECTORS && V.is_multiple_of(2) && code.order.len() == 16 * V);
    let quads: &mut [RowQuads; N] = quads.try_into().expect("integers of N rows");
    let rows: &[PreparedRow<V>; N] = rows.try_into().expect("N rows");
    let angles = |values| -> &[[f32; 8]; V] { <[f32]>::as_chunks(values).0.first_chunk().expect("angles") };
    let pairs = |eights: &[[f32; 8]; V], i: usize| load(&eights.as_flattened().as_chunks().0[i]);
    let (cos, sin) = (angles(frame.cos), angles(frame.sin));
    // Rotated by halves of a vector, whose sums have eight lanes.
    let mut means = [_mm256_setzero_ps(); MAX_HEADS];
    for h in 0..N {
        let [.., mean_cos, mean_sin] = &rows[h];
        means[h] = mean_product(mean_cos, mean_sin, cos, sin);
    }
    let bytes = (1u128.unbounded_shl(16 * V as u32)).wrapping_sub(1);
    let (all, rest) = (bytes as __mmask64, (bytes >> 64) as __mmask64);
    let masked = |bytes: &[u8], mask: __mmask64, at: usize| {
        // SAFETY: the mask has as many bits as there are bytes from `at` on, 64 at most.
        unsafe { _mm512_maskz_loadu_epi8(mask, bytes.as_ptr().wrapping_add(at).cast()) }
    };
    let (order, tops) = (&code.shuffle.wide[..16 * V], &code.top_at[..16 * V]);
    let order = [masked(order, all, 0), masked(order, rest, 64)];
    let tops = [masked(tops, all, 0), masked(tops, rest, 64)];
    let mut twice = [_mm256_setzero_si256(); MAX_HEADS];
    for h in 0..N {
        let [low_cos, low_sin, high_cos, high_sin, ..] = &rows[h];
        let mut scaled = [_mm512_setzero_si512(); MOST_VECTORS];
        for i in 0..V / 2 {
            let (cos, sin) = (pairs(cos, i), pairs(sin, i));
            let first = _mm512_mul_ps(pairs(low_cos, i), cos);
            let second = _mm512_mul_ps(pairs(high_cos, i), cos);
            scaled[i] = _mm512_cvtps_epi32(_mm512_fmadd_ps(pairs(low_sin, i), sin, first));
            scaled[V / 2 + i] = _mm512_cvtps_epi32(_mm512_fnmadd_ps(pairs(high_sin, i), sin, second));
        }
        let pack = |a: &[__m512i]| {
            _mm512_packs_epi16(_mm512_packs_epi32(a[0], a[1]), _mm512_packs_epi32(a[2], a[3]))
        };
        let first = pack(&scaled[..4]);
        let to = quads[h].as_mut_ptr().cast::<i8>();
        let stored = if V <= 4 {
            let stored = [_mm512_permutexvar_epi8(order[0], first), _mm512_setzero_si512()];
            // SAFETY: there are `16 * V` bytes, as many as the mask has bits.
            unsafe { _mm512_mask_storeu_epi8(to, all, stored[0]) };
            stored
        } else {
            let second = pack(&scaled[4..]);
            let stored = [
                _mm512_permutex2var_epi8(first, order[0], second),
                _mm512_permutex2var_epi8(first, order[1], second),
            ];
            // SAFETY: as above.
            unsafe {
                _mm512_mask_storeu_epi8(to, all, stored[0]);
                _mm512_mask_storeu_epi8(to.wrapping_add(64), rest, stored[1]);
            }
            stored
        };
        let mut sums = _mm512_dpbusd_epi32(_mm512_setzero_si512(), tops[0], stored[0]);
        if V > 4 {
            sums = _mm512_dpbusd_epi32(sums, tops[1], stored[1]);
        }
        twice[h] = add_halves(sums);
    }
    reduced(means, twice)
}

/// Weighted sums of the values of a page.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,avx2,fma,f16c")]
#[inline]
fn weigh<const H: usize, const BITS: u8>(
    job: &mut Job<'_>,
    integers: &[Integers; H],
    sums_of_weights: &[f32; H],
    partial: &mut Partial<'_>,
) {
    let code = &job.code.values;
    let (step, middle) = (code.step(), code.middle());
    for (part, rows) in job.parts.values.chunks_exact(value_rows(BITS)).enumerate() {
        let mut out = [[_mm512_setzero_ps(); 2]; H];
        for unit in 0..WEIGHT_UNITS {
            let sums = value_sums::<H, BITS>(rows, integers, unit);
            job.ahead.fetch(LINES_OF_STEP);
            for h in 0..H {
                let of_unit = &integers[h].units[unit];
                let factor = _mm512_set1_ps(of_unit.unit * step);
                let centre = _mm512_set1_ps(of_unit.total * middle);
                for v in 0..2 {
                    let centred = _mm512_sub_ps(_mm512_cvtepi32_ps(sums[h][v]), centre);
                    out[h][v] = _mm512_fmadd_ps(centred, factor, out[h][v]);
                }
            }
        }
        let means = code.mean[32 * part..].as_chunks::<16>().0;
        for h in 0..H {
            let to = partial.out_mut(job.row + h)[32 * part..].as_chunks_mut::<16>().0;
            for v in 0..2 {
                let sum = _mm512_set1_ps(sums_of_weights[h]);
                store(&mut to[v], _mm512_fmadd_ps(sum, load(&means[v]), out[h][v]));
            }
        }
    }
}
