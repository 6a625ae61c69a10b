//! Attention over codes with 256-bit vectors. The operations on integers are exact, those on floats the same as in
//! `scalar`, in the same order.
//!
//! What makes it fast:
//! 1. A load of 32 bytes is 128 codes. Shift and mask give four vectors, each of which meets all query heads: the bytes
//!    are read and taken apart once.
//! 2. Two of the four vectors at a time, so that the sums of four heads, the codes and the operands fit the registers.
//! 3. `maddubs` multiplies 32 codes with four int8 query channels (keys) or four token weights (values) at once, and adds
//!    pairs; sums stay in 16 bits as long as they cannot overflow, which is known from the bits alone.
//! 4. Per frame and head one vector of int8 is made; per token there is one multiplication by its gain.
//! 5. While a row is read, the one at the same place of the head that comes next is fetched.

use std::arch::x86_64::*;

use super::head::{HeadCode, PackedHead, RangeF32};
use super::keys::{KeyCode, Run, has_four, has_one, has_two};
use super::layout::{self, ROW, TOKEN_QUADS, value_rows};
use super::scalar::{QUERY_TOP, WEIGHT_TOKENS, WEIGHT_TOP};
use super::{BLOCK_TOKENS, BLOCKS, FRAME_TOKENS, gain};
use crate::attention::{Frame, Partial, RANGE_TOKENS, RangeFrames, TokenQueries, avx2_softmax};
use crate::math::avx2::{load, max_across, prefetch, store, sum_across};

/// Most heads whose sums are in registers at once.
const MAX_HEADS: usize = 4;
/// Most channels of a head.
const MAX_DIM: usize = 256;

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn pack(code: &HeadCode, frames: RangeFrames<'_>, exact: &RangeF32, packed: &mut [u8]) {
    super::head::pack(code, frames, exact, packed);
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn unpack(head: &PackedHead<'_>, frames: RangeFrames<'_>, out: &mut RangeF32) {
    super::head::unpack(head, frames, out);
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn load_row(row: &[u8; ROW]) -> __m256i {
    // SAFETY: `row` has 32 bytes.
    unsafe { _mm256_loadu_si256(row.as_ptr().cast()) }
}

/// The sum of four integers.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn sum_of_four(x: __m128i) -> i32 {
    let x = _mm_add_epi32(x, _mm_shuffle_epi32::<0b01_00_11_10>(x));
    _mm_cvtsi128_si32(_mm_add_epi32(x, _mm_shuffle_epi32::<0b10_11_00_01>(x)))
}

/// Gains of eight codes.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn gains(codes: &[u8; 8]) -> __m256 {
    // SAFETY: `codes` has eight bytes.
    let bytes = unsafe { _mm_loadl_epi64(codes.as_ptr().cast()) };
    let shifted = _mm256_slli_epi32::<19>(_mm256_cvtepu8_epi32(bytes));
    _mm256_castsi256_ps(_mm256_add_epi32(shifted, _mm256_set1_epi32(gain::BIAS as i32)))
}

/// One query head as it meets one frame; see `scalar::FrameQuery`.
#[derive(Clone, Copy)]
struct FrameQuery<const QUADS: usize> {
    /// by stored position, four to an integer
    quads: [i32; QUADS],
    unit: f32,
    middle: f32,
    mean: f32,
}

impl<const QUADS: usize> FrameQuery<QUADS> {
    const EMPTY: Self = FrameQuery { quads: [0; QUADS], unit: 0.0, middle: 0.0, mean: 0.0 };

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    fn set(&mut self, code: &KeyCode, query: &[f32], frame: Frame<'_>) {
        assert!(query.len() == 4 * QUADS && QUADS.is_multiple_of(8));
        let half = QUADS / 4;
        let queries = query.as_chunks::<8>().0;
        let (cos, sin) = (frame.cos.as_chunks::<8>().0, frame.sin.as_chunks::<8>().0);
        let (steps, means) = (code.step.as_chunks::<8>().0, code.mean.as_chunks::<8>().0);
        let sign = _mm256_set1_ps(-0.0);
        let mut largest = _mm256_setzero_ps();
        let mut mean = _mm256_setzero_ps();
        // Half as many vectors as quads; an array of that length cannot be named.
        let mut turned = [_mm256_setzero_ps(); QUADS];
        for i in 0..half {
            let (a, b) = (load(&queries[i]), load(&queries[i + half]));
            let (cos, sin) = (load(&cos[i]), load(&sin[i]));
            turned[i] = _mm256_fmadd_ps(b, sin, _mm256_mul_ps(a, cos));
            turned[i + half] = _mm256_fnmadd_ps(a, sin, _mm256_mul_ps(b, cos));
        }
        for i in 0..2 * half {
            mean = _mm256_fmadd_ps(turned[i], load(&means[i]), mean);
            turned[i] = _mm256_mul_ps(turned[i], load(&steps[i]));
            largest = _mm256_max_ps(largest, _mm256_andnot_ps(sign, turned[i]));
        }
        let largest = max_across(largest);
        let per_unit = _mm256_set1_ps(if largest > 0.0 { QUERY_TOP / largest } else { 0.0 });
        let mut bytes = [_mm_setzero_si128(); QUADS];
        for i in 0..half {
            let left = _mm256_cvtps_epi32(_mm256_mul_ps(turned[2 * i], per_unit));
            let right = _mm256_cvtps_epi32(_mm256_mul_ps(turned[2 * i + 1], per_unit));
            let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(left, right));
            bytes[i] = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
        }
        let mut twice = _mm_setzero_si128();
        let quads = self.quads.as_chunks_mut::<4>().0;
        let tops = code.top_at.as_chunks::<16>().0;
        for ((masks, top), quads) in code.shuffle.masks.chunks_exact(half).zip(tops).zip(quads) {
            let mut out = _mm_setzero_si128();
            for (mask, from) in masks.iter().zip(&bytes) {
                // SAFETY: `mask` has 16 bytes.
                let mask = unsafe { _mm_loadu_si128(mask.as_ptr().cast()) };
                out = _mm_or_si128(out, _mm_shuffle_epi8(*from, mask));
            }
            // SAFETY: `quads` has 16 bytes.
            unsafe { _mm_storeu_si128(quads.as_mut_ptr().cast(), out) };
            // SAFETY: `top` has 16 bytes.
            let top = unsafe { _mm_loadu_si128(top.as_ptr().cast()) };
            let words = _mm_maddubs_epi16(top, out);
            twice = _mm_add_epi32(twice, _mm_madd_epi16(words, _mm_set1_epi16(1)));
        }
        self.unit = largest / QUERY_TOP;
        self.middle = sum_of_four(twice) as f32 * 0.5;
        self.mean = sum_across(mean);
    }
}

/// See [`PackedHead::attend_token`].
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn attend_token(
    head: &PackedHead<'_>,
    frames: RangeFrames<'_>,
    first_token: usize,
    token: &mut TokenQueries,
    next: Option<&[u8]>,
    partial: &mut Partial<'_>,
) {
    let code = head.code;
    let head_dim = code.head_dim();
    assert!(head_dim.is_multiple_of(32) && head_dim <= MAX_DIM, "channels of a packed head");
    let parts = layout::parts(code, head.bytes);
    // By how much an address grows to be that of the same place in the next head.
    let ahead = next.map_or(0, |next| next.as_ptr() as usize).wrapping_sub(head.bytes.as_ptr() as usize);
    let ahead = if next.is_some() { ahead as isize } else { 0 };
    for gains in [parts.key_gains, parts.value_gains] {
        prefetch(gains.as_ptr().wrapping_offset(ahead));
        prefetch(gains.as_ptr().wrapping_offset(ahead + 64));
    }
    let n_parts = token.n_heads().div_ceil(MAX_HEADS);
    let part_len = token.n_heads().div_ceil(n_parts);
    for row in (0..token.n_heads()).step_by(part_len) {
        let job = Job { code, frames, parts: &parts, first_token, row, ahead };
        match head_dim {
            32 => job.attend_some::<8>(token, part_len, partial),
            64 => job.attend_some::<16>(token, part_len, partial),
            96 => job.attend_some::<24>(token, part_len, partial),
            128 => job.attend_some::<32>(token, part_len, partial),
            160 => job.attend_some::<40>(token, part_len, partial),
            192 => job.attend_some::<48>(token, part_len, partial),
            224 => job.attend_some::<56>(token, part_len, partial),
            _ => job.attend_some::<64>(token, part_len, partial),
        }
    }
}

/// Some heads against one range.
struct Job<'a> {
    code: &'a HeadCode,
    frames: RangeFrames<'a>,
    parts: &'a layout::Parts<'a>,
    /// tokens before it are left out
    first_token: usize,
    /// first of the heads
    row: usize,
    /// see [`attend_token`]
    ahead: isize,
}

impl Job<'_> {
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    fn attend_some<const QUADS: usize>(
        &self,
        token: &mut TokenQueries,
        part_len: usize,
        partial: &mut Partial<'_>,
    ) {
        let (queries, weights) = token.parts();
        let end = (self.row + part_len).min(weights.len());
        let queries = &queries[self.row * 4 * QUADS..end * 4 * QUADS];
        let weights = &mut weights[self.row..end];
        match weights.len() {
            1 => attend::<QUADS, 1>(self, queries, weights, partial),
            2 => attend::<QUADS, 2>(self, queries, weights, partial),
            3 => attend::<QUADS, 3>(self, queries, weights, partial),
            _ => attend::<QUADS, 4>(self, queries, weights, partial),
        }
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn attend<const QUADS: usize, const H: usize>(
    job: &Job<'_>,
    queries: &[f32],
    weights: &mut [[f32; RANGE_TOKENS]],
    partial: &mut Partial<'_>,
) {
    let Job { code, frames, parts, first_token, row, ahead } = *job;
    let head_dim = 4 * QUADS;
    let weights: &mut [[f32; RANGE_TOKENS]; H] = weights.try_into().expect("weights of H heads");
    let n_rows = code.keys.planes.rows();
    let mut frame_queries = [FrameQuery::<QUADS>::EMPTY; H];
    for block in 0..BLOCKS {
        if (block * BLOCK_TOKENS).is_multiple_of(FRAME_TOKENS) {
            let frame = frames.frame(block * BLOCK_TOKENS / FRAME_TOKENS);
            for (to, query) in frame_queries.iter_mut().zip(queries.chunks_exact(head_dim)) {
                to.set(&code.keys, query, frame);
            }
        }
        let gains = parts.key_gains[block * BLOCK_TOKENS..].first_chunk().expect("a block of gains");
        let rows = &parts.keys[block * n_rows..][..n_rows];
        score_block::<QUADS, H>(
            &code.keys,
            rows,
            &frame_queries,
            gains,
            weights,
            block * BLOCK_TOKENS,
            ahead,
        );
    }
    let mut sums = [0.0; H];
    let mut integers = [[[0u8; 4]; TOKEN_QUADS]; H];
    let mut units = [[Unit::default(); RANGE_TOKENS / WEIGHT_TOKENS]; H];
    for (h, weights) in weights.iter_mut().enumerate() {
        weights[..first_token].fill(f32::NEG_INFINITY);
        let (max, sum) = avx2_softmax(weights, RANGE_TOKENS);
        partial.set(row + h, max, sum);
        sums[h] = sum;
        weigh_gains(weights, parts.value_gains, &mut integers[h], &mut units[h]);
    }
    for (part, rows) in parts.values.chunks_exact(value_rows(code.values.bits)).enumerate() {
        let mut out = [[[_mm256_setzero_ps(); 2]; H]; 2];
        let [left, right] = &mut out;
        match code.values.bits {
            2 => {
                weigh::<H, 2, 0>(rows, &integers, &units, code, ahead, left);
                weigh::<H, 2, 1>(rows, &integers, &units, code, ahead, right);
            }
            3 => {
                weigh::<H, 3, 0>(rows, &integers, &units, code, ahead, left);
                weigh::<H, 3, 1>(rows, &integers, &units, code, ahead, right);
            }
            _ => {
                weigh::<H, 4, 0>(rows, &integers, &units, code, ahead, left);
                weigh::<H, 4, 1>(rows, &integers, &units, code, ahead, right);
            }
        }
        let means = code.values.mean[32 * part..][..32].as_chunks::<8>().0;
        for h in 0..H {
            let to = partial.out_mut(row + h)[32 * part..][..32].as_chunks_mut::<8>().0;
            let out = [out[0][h][0], out[0][h][1], out[1][h][0], out[1][h][1]];
            for ((to, out), mean) in to.iter_mut().zip(out).zip(means) {
                store(to, _mm256_fmadd_ps(_mm256_set1_ps(sums[h]), load(mean), out));
            }
        }
    }
}

/// Sums of `H` heads with two times eight tokens.
type Sums<const H: usize> = [[__m256i; 2]; H];

/// Adds the pairs of 16-bit sums to 32-bit ones.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn widen<const H: usize>(words: &Sums<H>, integers: &mut Sums<H>) {
    let ones = _mm256_set1_epi16(1);
    for (words, integers) in words.iter().zip(integers) {
        for (words, integers) in words.iter().zip(integers) {
            *integers = _mm256_add_epi32(*integers, _mm256_madd_epi16(*words, ones));
        }
    }
}

/// Adds the products of a run of quads of `BITS` bits with tokens `16·P..16·P + 16` of a block.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn add_run<const QUADS: usize, const H: usize, const BITS: u8, const P: usize>(
    code: &KeyCode,
    run: Run,
    rows: &[[u8; ROW]],
    queries: &[FrameQuery<QUADS>; H],
    sums: &mut Sums<H>,
    ahead: isize,
) {
    let mut words = *sums;
    let places = &code.planes.of_quad[run.first..run.end];
    for (quad, place) in (run.first..run.end).zip(places) {
        let mut codes = [_mm256_setzero_si256(); 2];
        let fetch = |row: usize| {
            let row = &rows[row];
            prefetch(row.as_ptr().wrapping_offset(ahead));
            load_row(row)
        };
        if has_four(BITS) {
            let (row, mask) = (fetch(place.four + P), _mm256_set1_epi8(15));
            codes = [_mm256_and_si256(row, mask), _mm256_and_si256(_mm256_srli_epi16::<4>(row), mask)];
        }
        if has_two(BITS) {
            let (row, mask) = (fetch(place.two), _mm256_set1_epi8(3));
            let two = if P == 0 {
                [row, _mm256_srli_epi16::<2>(row)]
            } else {
                [_mm256_srli_epi16::<4>(row), _mm256_srli_epi16::<6>(row)]
            };
            for (codes, two) in codes.iter_mut().zip(two) {
                let two = _mm256_and_si256(two, mask);
                *codes =
                    if has_four(BITS) { _mm256_or_si256(*codes, _mm256_slli_epi16::<4>(two)) } else { two };
            }
        }
        if has_one(BITS) {
            let (row, mask) = (fetch(place.one / 2), _mm256_set1_epi8(1));
            let row = _mm256_srl_epi16(row, _mm_cvtsi32_si128((4 * (place.one % 2) + 2 * P) as i32));
            let one = [_mm256_and_si256(row, mask), _mm256_and_si256(_mm256_srli_epi16::<1>(row), mask)];
            for (codes, one) in codes.iter_mut().zip(one) {
                *codes = match BITS {
                    1 => one,
                    3 => _mm256_or_si256(*codes, _mm256_slli_epi16::<2>(one)),
                    _ => _mm256_or_si256(*codes, _mm256_slli_epi16::<4>(one)),
                };
            }
        }
        for h in 0..H {
            let query = _mm256_set1_epi32(queries[h].quads[quad]);
            words[h][0] = _mm256_add_epi16(words[h][0], _mm256_maddubs_epi16(codes[0], query));
            words[h][1] = _mm256_add_epi16(words[h][1], _mm256_maddubs_epi16(codes[1], query));
        }
    }
    *sums = words;
}

/// Sums of codes times query integers of `H` heads with tokens `16·P..16·P + 16` of a block.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn sum_block<const QUADS: usize, const H: usize, const P: usize>(
    code: &KeyCode,
    rows: &[[u8; ROW]],
    queries: &[FrameQuery<QUADS>; H],
    ahead: isize,
) -> Sums<H> {
    let zero = [[_mm256_setzero_si256(); 2]; H];
    let (mut words, mut integers) = (zero, zero);
    for &run in &code.runs {
        if run.starts_sum {
            widen(&words, &mut integers);
            words = zero;
        }
        match run.bits {
            1 => add_run::<QUADS, H, 1, P>(code, run, rows, queries, &mut words, ahead),
            2 => add_run::<QUADS, H, 2, P>(code, run, rows, queries, &mut words, ahead),
            3 => add_run::<QUADS, H, 3, P>(code, run, rows, queries, &mut words, ahead),
            4 => add_run::<QUADS, H, 4, P>(code, run, rows, queries, &mut words, ahead),
            5 => add_run::<QUADS, H, 5, P>(code, run, rows, queries, &mut words, ahead),
            _ => add_run::<QUADS, H, 6, P>(code, run, rows, queries, &mut words, ahead),
        }
    }
    widen(&words, &mut integers);
    integers
}

/// Scores of `H` heads with a block of tokens; they go to `scores[head][at..]`.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn score_block<const QUADS: usize, const H: usize>(
    code: &KeyCode,
    rows: &[[u8; ROW]],
    queries: &[FrameQuery<QUADS>; H],
    gain_codes: &[u8; BLOCK_TOKENS],
    scores: &mut [[f32; RANGE_TOKENS]; H],
    at: usize,
    ahead: isize,
) {
    let left = sum_block::<QUADS, H, 0>(code, rows, queries, ahead);
    let right = sum_block::<QUADS, H, 1>(code, rows, queries, ahead);
    let gain_codes = gain_codes.as_chunks::<8>().0;
    let gains = [gains(&gain_codes[0]), gains(&gain_codes[1]), gains(&gain_codes[2]), gains(&gain_codes[3])];
    for h in 0..H {
        let query = &queries[h];
        let (unit, middle, mean) =
            (_mm256_set1_ps(query.unit), _mm256_set1_ps(query.middle), _mm256_set1_ps(query.mean));
        let to = scores[h][at..][..BLOCK_TOKENS].as_chunks_mut::<8>().0;
        for (k, integers) in [left[h][0], left[h][1], right[h][0], right[h][1]].into_iter().enumerate() {
            let centred = _mm256_sub_ps(_mm256_cvtepi32_ps(integers), middle);
            store(&mut to[k], _mm256_fmadd_ps(centred, _mm256_mul_ps(gains[k], unit), mean));
        }
    }
}

/// Scale and sum of the integers of some weights.
#[derive(Clone, Copy, Default)]
struct Unit {
    unit: f32,
    total: f32,
}

/// Weights times gains as integers.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn weigh_gains(
    weights: &mut [f32; RANGE_TOKENS],
    gain_codes: &[u8; RANGE_TOKENS],
    integers: &mut [[u8; 4]; TOKEN_QUADS],
    units: &mut [Unit; RANGE_TOKENS / WEIGHT_TOKENS],
) {
    const EIGHTS: usize = WEIGHT_TOKENS / 8;
    let weights = weights.as_chunks_mut::<8>().0.as_chunks_mut::<EIGHTS>().0;
    let gain_codes = gain_codes.as_chunks::<8>().0.as_chunks::<EIGHTS>().0;
    let integers = integers.as_chunks_mut::<{ WEIGHT_TOKENS / 4 }>().0;
    for (((weights, gain_codes), integers), unit) in
        weights.iter_mut().zip(gain_codes).zip(integers).zip(units)
    {
        let mut largest = _mm256_setzero_ps();
        for (weights, codes) in weights.iter_mut().zip(gain_codes) {
            let product = _mm256_mul_ps(load(weights), gains(codes));
            largest = _mm256_max_ps(largest, product);
            store(weights, product);
        }
        let largest = max_across(largest);
        let per_unit = _mm256_set1_ps(if largest > 0.0 { WEIGHT_TOP / largest } else { 0.0 });
        let mut total = _mm256_setzero_si256();
        for (weights, integers) in weights.as_chunks::<4>().0.iter().zip(integers.as_chunks_mut::<8>().0) {
            let round = |eight: &[f32; 8]| {
                // The closure runs where the features are enabled.
                _mm256_cvtps_epi32(_mm256_mul_ps(load(eight), per_unit))
            };
            let (a, b, c, d) =
                (round(&weights[0]), round(&weights[1]), round(&weights[2]), round(&weights[3]));
            total = _mm256_add_epi32(total, _mm256_add_epi32(_mm256_add_epi32(a, b), _mm256_add_epi32(c, d)));
            let bytes = _mm256_packus_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
            let bytes = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
            // SAFETY: `integers` has 32 bytes.
            unsafe { _mm256_storeu_si256(integers.as_mut_ptr().cast(), bytes) };
        }
        let four = _mm_add_epi32(_mm256_castsi256_si128(total), _mm256_extracti128_si256::<1>(total));
        *unit = Unit { unit: largest / WEIGHT_TOP, total: sum_of_four(four) as f32 };
    }
}

/// Adds the weighted codes of channels `16·P..16·P + 16`, of 32, of all tokens to `out`.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
#[allow(clippy::needless_range_loop, reason = "one index into several arrays")]
fn weigh<const H: usize, const BITS: u8, const P: usize>(
    rows: &[[u8; ROW]],
    weights: &[[[u8; 4]; TOKEN_QUADS]; H],
    units: &[[Unit; RANGE_TOKENS / WEIGHT_TOKENS]; H],
    code: &HeadCode,
    ahead: isize,
    out: &mut [[__m256; 2]; H],
) {
    // Quads of tokens whose products fit 16 bits: two products of 255 · (2^BITS − 1) each.
    let n_fit = const { 1 << (i16::MAX as usize / (2 * 255 * ((1 << BITS) - 1))).ilog2() };
    let n_fit = n_fit.min(WEIGHT_TOKENS / 4);
    let (step, middle) = (code.values.step(), code.values.middle());
    assert!(rows.len() == value_rows(BITS));
    for index in 0..RANGE_TOKENS / WEIGHT_TOKENS {
        let zero = [[_mm256_setzero_si256(); 2]; H];
        let mut integers = zero;
        let quads = index * WEIGHT_TOKENS / 4..(index + 1) * WEIGHT_TOKENS / 4;
        for start in quads.step_by(n_fit) {
            let mut words = zero;
            for j in start..start + n_fit {
                let fetch = |row: usize| {
                    let row = &rows[row];
                    prefetch(row.as_ptr().wrapping_offset(ahead));
                    load_row(row)
                };
                let mut codes;
                if BITS == 4 {
                    let (row, mask) = (fetch(2 * j + P), _mm256_set1_epi8(15));
                    codes =
                        [_mm256_and_si256(row, mask), _mm256_and_si256(_mm256_srli_epi16::<4>(row), mask)];
                } else {
                    let (row, mask) = (fetch(j), _mm256_set1_epi8(3));
                    codes = if P == 0 {
                        [row, _mm256_srli_epi16::<2>(row)]
                    } else {
                        [_mm256_srli_epi16::<4>(row), _mm256_srli_epi16::<6>(row)]
                    };
                    codes = [_mm256_and_si256(codes[0], mask), _mm256_and_si256(codes[1], mask)];
                    if BITS == 3 {
                        let (row, bit) = (fetch(TOKEN_QUADS + j / 2), _mm256_set1_epi8(1));
                        let row = _mm256_srl_epi16(row, _mm_cvtsi32_si128((4 * (j % 2) + 2 * P) as i32));
                        let high =
                            [_mm256_and_si256(row, bit), _mm256_and_si256(_mm256_srli_epi16::<1>(row), bit)];
                        codes[0] = _mm256_or_si256(codes[0], _mm256_slli_epi16::<2>(high[0]));
                        codes[1] = _mm256_or_si256(codes[1], _mm256_slli_epi16::<2>(high[1]));
                    }
                }
                for h in 0..H {
                    let weight = _mm256_set1_epi32(i32::from_le_bytes(weights[h][j]));
                    words[h][0] = _mm256_add_epi16(words[h][0], _mm256_maddubs_epi16(weight, codes[0]));
                    words[h][1] = _mm256_add_epi16(words[h][1], _mm256_maddubs_epi16(weight, codes[1]));
                }
            }
            widen(&words, &mut integers);
        }
        for h in 0..H {
            let Unit { unit, total } = units[h][index];
            let (factor, centre) = (_mm256_set1_ps(unit * step), _mm256_set1_ps(total * middle));
            for (out, integers) in out[h].iter_mut().zip(integers[h]) {
                let centred = _mm256_sub_ps(_mm256_cvtepi32_ps(integers), centre);
                *out = _mm256_fmadd_ps(centred, factor, *out);
            }
        }
    }
}
