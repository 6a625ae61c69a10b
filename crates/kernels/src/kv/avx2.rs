//! Attention over codes with 256-bit vectors. The operations on integers are exact, those on floats the same as in
//! `scalar`, in the same order.
//!
//! What makes it fast:
//! 1. A load of 32 bytes is 128 codes. Shift and mask give four vectors, each of which meets all query heads: the bytes
//!    are read and taken apart once.
//! 2. `maddubs` multiplies 32 codes with four int8 query channels (keys) or four token weights (values) at once, and adds
//!    pairs; sums stay in 16 bits as long as they cannot overflow, which is known from the bits alone.
//! 3. Per frame and head one vector of int8 is made; per token there is one multiplication by its gain.
//! 4. The next range is fetched while this one is computed.

use std::arch::x86_64::*;

use super::frames::{Frame, FrameTable};
use super::head::{FRAMES, HeadCode, PackedHead, RangeF32};
use super::keys::KeyCode;
use super::layout::{self, ROW, TOKEN_QUADS, value_rows};
use super::scalar::{QUERY_TOP, WEIGHT_TOKENS, WEIGHT_TOP};
use super::{BLOCK_TOKENS, BLOCKS, FRAME_TOKENS, gain};
use crate::attention::{Partial, RANGE_TOKENS, TokenQueries, avx2_softmax};

/// Most heads whose sums are in registers at once.
const MAX_HEADS: usize = 3;
/// Most channels of a head.
const MAX_DIM: usize = 256;
const MAX_QUADS: usize = MAX_DIM / 4;

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn pack(code: &HeadCode, frames: &FrameTable, range: usize, exact: &RangeF32, packed: &mut [u8]) {
    super::head::pack(code, frames, range, exact, packed);
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn unpack(head: &PackedHead<'_>, frames: &FrameTable, range: usize, out: &mut RangeF32) {
    super::head::unpack(head, frames, range, out);
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn load(x: &[f32; 8]) -> __m256 {
    // SAFETY: `x` has eight values.
    unsafe { _mm256_loadu_ps(x.as_ptr()) }
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn store(x: &mut [f32; 8], v: __m256) {
    // SAFETY: `x` has eight values.
    unsafe { _mm256_storeu_ps(x.as_mut_ptr(), v) }
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn load_row(row: &[u8; ROW]) -> __m256i {
    // SAFETY: `row` has 32 bytes.
    unsafe { _mm256_loadu_si256(row.as_ptr().cast()) }
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
#[allow(unused_unsafe, reason = "the intrinsic is unsafe in older versions of Rust")]
fn prefetch(at: *const u8) {
    // SAFETY: a prefetch does not access memory as far as the program can see, and never faults.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn sum_across(x: __m256) -> f32 {
    let x = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
    let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)))
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn max_across(x: __m256) -> f32 {
    let x = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
    let x = _mm_max_ps(x, _mm_movehl_ps(x, x));
    _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)))
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
struct FrameQuery {
    /// by stored position, four to an integer
    quads: [i32; MAX_QUADS],
    unit: f32,
    middle: f32,
    mean: f32,
}

impl FrameQuery {
    const EMPTY: FrameQuery = FrameQuery { quads: [0; MAX_QUADS], unit: 0.0, middle: 0.0, mean: 0.0 };

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    fn set(&mut self, code: &KeyCode, query: &[f32], frame: Frame<'_>) {
        let n = query.len() / 8;
        let half = n / 2;
        let mut scaled = [[0.0f32; 8]; MAX_DIM / 8];
        let queries = query.as_chunks::<8>().0;
        let (cos, sin) = (frame.cos.as_chunks::<8>().0, frame.sin.as_chunks::<8>().0);
        let (steps, means) = (code.step.as_chunks::<8>().0, code.mean.as_chunks::<8>().0);
        let sign = _mm256_set1_ps(-0.0);
        let mut largest = _mm256_setzero_ps();
        let mut mean = _mm256_setzero_ps();
        let mut turned = [[0.0f32; 8]; MAX_DIM / 8];
        for i in 0..half {
            let (a, b) = (load(&queries[i]), load(&queries[i + half]));
            let (cos, sin) = (load(&cos[i]), load(&sin[i]));
            store(&mut turned[i], _mm256_fmadd_ps(b, sin, _mm256_mul_ps(a, cos)));
            store(&mut turned[i + half], _mm256_fnmadd_ps(a, sin, _mm256_mul_ps(b, cos)));
        }
        for i in 0..n {
            let turned = load(&turned[i]);
            mean = _mm256_fmadd_ps(turned, load(&means[i]), mean);
            let x = _mm256_mul_ps(turned, load(&steps[i]));
            largest = _mm256_max_ps(largest, _mm256_andnot_ps(sign, x));
            store(&mut scaled[i], x);
        }
        let largest = max_across(largest);
        let per_unit = _mm256_set1_ps(if largest > 0.0 { QUERY_TOP / largest } else { 0.0 });
        let mut bytes = [[0u8; 16]; MAX_DIM / 16];
        for (to, pair) in bytes.iter_mut().zip(scaled[..n].as_chunks::<2>().0) {
            let left = _mm256_cvtps_epi32(_mm256_mul_ps(load(&pair[0]), per_unit));
            let right = _mm256_cvtps_epi32(_mm256_mul_ps(load(&pair[1]), per_unit));
            let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(left, right));
            let packed = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
            // SAFETY: `to` has 16 bytes.
            unsafe { _mm_storeu_si128(to.as_mut_ptr().cast(), packed) };
        }
        let n_parts = n / 2;
        let mut twice = _mm_setzero_si128();
        let quads = self.quads.as_chunks_mut::<4>().0;
        for ((masks, top), quads) in
            code.shuffle.masks.chunks_exact(n_parts).zip(code.top_at.as_chunks::<16>().0).zip(quads)
        {
            let mut out = _mm_setzero_si128();
            for (mask, from) in masks.iter().zip(&bytes) {
                // SAFETY: both have 16 bytes.
                let (mask, from) =
                    unsafe { (_mm_loadu_si128(mask.as_ptr().cast()), _mm_loadu_si128(from.as_ptr().cast())) };
                out = _mm_or_si128(out, _mm_shuffle_epi8(from, mask));
            }
            // SAFETY: `quads` has 16 bytes.
            unsafe { _mm_storeu_si128(quads.as_mut_ptr().cast(), out) };
            // SAFETY: `top` has 16 bytes.
            let top = unsafe { _mm_loadu_si128(top.as_ptr().cast()) };
            let words = _mm_maddubs_epi16(top, out);
            twice = _mm_add_epi32(twice, _mm_madd_epi16(words, _mm_set1_epi16(1)));
        }
        let twice = _mm_add_epi32(twice, _mm_shuffle_epi32::<0b01_00_11_10>(twice));
        let twice = _mm_add_epi32(twice, _mm_shuffle_epi32::<0b10_11_00_01>(twice));
        self.unit = largest / QUERY_TOP;
        self.middle = _mm_cvtsi128_si32(twice) as f32 * 0.5;
        self.mean = sum_across(mean);
    }
}

/// See [`PackedHead::attend_token`].
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn attend_token(
    head: &PackedHead<'_>,
    frames: &FrameTable,
    range: usize,
    token: &mut TokenQueries,
    next: Option<&[u8]>,
    partial: &mut Partial<'_>,
) {
    let code = head.code;
    let head_dim = code.head_dim();
    assert!(head_dim.is_multiple_of(32) && head_dim <= MAX_DIM, "channels of a packed head");
    let parts = layout::parts(code, head.bytes);
    let (queries, weights) = token.parts();
    // What follows in memory is what is read next, but for the last head.
    let ahead = next.map_or(std::ptr::null(), <[u8]>::as_ptr);
    for offset in (0..if next.is_some() { head.bytes.len() } else { 0 }).step_by(64) {
        prefetch(ahead.wrapping_add(offset));
    }
    let n_parts = weights.len().div_ceil(MAX_HEADS);
    let part_len = weights.len().div_ceil(n_parts);
    let all = queries.chunks(part_len * head_dim).zip(weights.chunks_mut(part_len));
    for (part, (queries, weights)) in all.enumerate() {
        let row = part * part_len;
        match weights.len() {
            1 => attend::<1>(code, frames, range, &parts, queries, weights, partial, row),
            2 => attend::<2>(code, frames, range, &parts, queries, weights, partial, row),
            _ => attend::<3>(code, frames, range, &parts, queries, weights, partial, row),
        }
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
#[allow(clippy::too_many_arguments, reason = "one question, asked in one place")]
fn attend<const H: usize>(
    code: &HeadCode,
    frames: &FrameTable,
    range: usize,
    parts: &layout::Parts<'_>,
    queries: &[f32],
    weights: &mut [[f32; RANGE_TOKENS]],
    partial: &mut Partial<'_>,
    row: usize,
) {
    let head_dim = code.head_dim();
    let weights: &mut [[f32; RANGE_TOKENS]; H] = weights.try_into().expect("weights of H heads");
    let n_rows = code.keys.counts.rows();
    let mut frame_queries = [FrameQuery::EMPTY; H];
    for block in 0..BLOCKS {
        if (block * BLOCK_TOKENS).is_multiple_of(FRAME_TOKENS) {
            let frame = frames.frame(range * FRAMES + block * BLOCK_TOKENS / FRAME_TOKENS);
            for (to, query) in frame_queries.iter_mut().zip(queries.chunks_exact(head_dim)) {
                to.set(&code.keys, query, frame);
            }
        }
        let gains = parts.key_gains[block * BLOCK_TOKENS..].first_chunk().expect("a block of gains");
        let rows = &parts.keys[block * n_rows..][..n_rows];
        score_block::<H>(&code.keys, rows, &frame_queries, gains, weights, block * BLOCK_TOKENS);
    }
    let mut sums = [0.0; H];
    let mut integers = [[[0u8; 4]; TOKEN_QUADS]; H];
    let mut units = [[Unit::default(); RANGE_TOKENS / WEIGHT_TOKENS]; H];
    for (h, weights) in weights.iter_mut().enumerate() {
        let (max, sum) = avx2_softmax(weights, RANGE_TOKENS);
        partial.set(row + h, max, sum);
        sums[h] = sum;
        weigh_gains(weights, parts.value_gains, &mut integers[h], &mut units[h]);
    }
    for (part, rows) in parts.values.chunks_exact(value_rows(code.values.bits)).enumerate() {
        let mut out = [[_mm256_setzero_ps(); 4]; H];
        match code.values.bits {
            2 => weigh::<H, 2>(rows, &integers, &units, code, &mut out),
            3 => weigh::<H, 3>(rows, &integers, &units, code, &mut out),
            _ => weigh::<H, 4>(rows, &integers, &units, code, &mut out),
        }
        let means = code.values.mean[32 * part..][..32].as_chunks::<8>().0;
        for (h, out) in out.iter().enumerate() {
            let to = partial.out_mut(row + h)[32 * part..][..32].as_chunks_mut::<8>().0;
            for ((to, out), mean) in to.iter_mut().zip(out).zip(means) {
                store(to, _mm256_fmadd_ps(_mm256_set1_ps(sums[h]), load(mean), *out));
            }
        }
    }
}

/// Sums of `H` heads with 32 tokens, in 16 bits and, when those might overflow, in 32.
struct Sums<const H: usize> {
    words: [[__m256i; 4]; H],
    /// largest magnitude that a word may have reached
    used: u32,
    integers: [[__m256i; 4]; H],
    is_flushed: bool,
}

impl<const H: usize> Sums<H> {
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    fn new() -> Sums<H> {
        let zero = [[_mm256_setzero_si256(); 4]; H];
        Sums { words: zero, used: 0, integers: zero, is_flushed: false }
    }

    /// Makes room for a quad of codes up to `top`.
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    fn make_room(&mut self, top: u32) {
        let more = 2 * top * QUERY_TOP as u32;
        if self.used + more > i16::MAX as u32 {
            self.flush();
        }
        self.used += more;
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    #[cold]
    fn flush(&mut self) {
        let ones = _mm256_set1_epi16(1);
        for h in 0..H {
            for k in 0..4 {
                let wide = _mm256_madd_epi16(self.words[h][k], ones);
                self.integers[h][k] = _mm256_add_epi32(self.integers[h][k], wide);
                self.words[h][k] = _mm256_setzero_si256();
            }
        }
        self.used = 0;
        self.is_flushed = true;
    }

    /// Adds the products of the codes of tokens `8k..` with quad `quad` of each head.
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    fn add(&mut self, k: usize, codes: __m256i, queries: &[FrameQuery; H], quad: usize) {
        for h in 0..H {
            let query = _mm256_set1_epi32(queries[h].quads[quad]);
            self.words[h][k] = _mm256_add_epi16(self.words[h][k], _mm256_maddubs_epi16(codes, query));
        }
    }
}

/// Scores of `H` heads with a block of tokens; they go to `scores[head][at..]`.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn score_block<const H: usize>(
    code: &KeyCode,
    rows: &[[u8; ROW]],
    queries: &[FrameQuery; H],
    gain_codes: &[u8; BLOCK_TOKENS],
    scores: &mut [[f32; RANGE_TOKENS]; H],
    at: usize,
) {
    let counts = code.counts;
    let mut sums = Sums::<H>::new();
    let (fours, rest) = rows.split_at(2 * counts.four);
    let (twos, ones) = rest.split_at(counts.three + counts.two);
    let low = _mm256_set1_epi8(15);
    for (quad, pair) in fours.as_chunks::<2>().0.iter().enumerate() {
        sums.make_room(15);
        for (index, row) in pair.iter().enumerate() {
            let row = load_row(row);
            sums.add(2 * index, _mm256_and_si256(row, low), queries, quad);
            let high = _mm256_and_si256(_mm256_srli_epi16::<4>(row), low);
            sums.add(2 * index + 1, high, queries, quad);
        }
    }
    let mask = _mm256_set1_epi8(3);
    let bit = _mm256_set1_epi8(1);
    let one_bit = |half: usize, k: usize| {
        let shift = _mm_cvtsi32_si128((4 * (half % 2) + k) as i32);
        _mm256_and_si256(_mm256_srl_epi16(load_row(&ones[half / 2]), shift), bit)
    };
    for index in 0..counts.three {
        sums.make_room(7);
        let row = load_row(&twos[index]);
        for k in 0..4 {
            let shift = _mm_cvtsi32_si128(2 * k as i32);
            let two = _mm256_and_si256(_mm256_srl_epi16(row, shift), mask);
            let codes = _mm256_or_si256(two, _mm256_slli_epi16::<2>(one_bit(index, k)));
            sums.add(k, codes, queries, counts.four + index);
        }
    }
    for (index, row) in twos[counts.three..].iter().enumerate() {
        sums.make_room(3);
        let row = load_row(row);
        let quad = counts.four + counts.three + index;
        sums.add(0, _mm256_and_si256(row, mask), queries, quad);
        sums.add(1, _mm256_and_si256(_mm256_srli_epi16::<2>(row), mask), queries, quad);
        sums.add(2, _mm256_and_si256(_mm256_srli_epi16::<4>(row), mask), queries, quad);
        sums.add(3, _mm256_and_si256(_mm256_srli_epi16::<6>(row), mask), queries, quad);
    }
    for index in 0..counts.one {
        sums.make_room(1);
        let quad = counts.four + counts.three + counts.two + index;
        for k in 0..4 {
            sums.add(k, one_bit(counts.three + index, k), queries, quad);
        }
    }
    let ones = _mm256_set1_epi16(1);
    let gain_codes = gain_codes.as_chunks::<8>().0;
    for h in 0..H {
        let query = &queries[h];
        let (unit, middle, mean) =
            (_mm256_set1_ps(query.unit), _mm256_set1_ps(query.middle), _mm256_set1_ps(query.mean));
        let to = scores[h][at..][..BLOCK_TOKENS].as_chunks_mut::<8>().0;
        for k in 0..4 {
            let mut integers = _mm256_madd_epi16(sums.words[h][k], ones);
            if sums.is_flushed {
                integers = _mm256_add_epi32(integers, sums.integers[h][k]);
            }
            let centred = _mm256_sub_ps(_mm256_cvtepi32_ps(integers), middle);
            let factor = _mm256_mul_ps(gains(&gain_codes[k]), unit);
            store(&mut to[k], _mm256_fmadd_ps(centred, factor, mean));
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
            let (a, b, c, d) = (round(&weights[0]), round(&weights[1]), round(&weights[2]), round(&weights[3]));
            total = _mm256_add_epi32(total, _mm256_add_epi32(_mm256_add_epi32(a, b), _mm256_add_epi32(c, d)));
            let bytes = _mm256_packus_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
            let bytes = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
            // SAFETY: `integers` has 32 bytes.
            unsafe { _mm256_storeu_si256(integers.as_mut_ptr().cast(), bytes) };
        }
        let four = _mm_add_epi32(_mm256_castsi256_si128(total), _mm256_extracti128_si256::<1>(total));
        let two = _mm_add_epi32(four, _mm_shuffle_epi32::<0b01_00_11_10>(four));
        let total = _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<0b10_11_00_01>(two)));
        *unit = Unit { unit: largest / WEIGHT_TOP, total: total as f32 };
    }
}

/// Adds the weighted codes of 32 channels of all tokens to `out`.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn weigh<const H: usize, const BITS: usize>(
    rows: &[[u8; ROW]],
    weights: &[[[u8; 4]; TOKEN_QUADS]; H],
    units: &[[Unit; RANGE_TOKENS / WEIGHT_TOKENS]; H],
    code: &HeadCode,
    out: &mut [[__m256; 4]; H],
) {
    // Quads of tokens whose products fit 16 bits: two products of 255 · (2^BITS − 1) each.
    let n_fit = const { 1 << (i16::MAX as usize / (2 * 255 * ((1 << BITS) - 1))).ilog2() };
    let n_fit = n_fit.min(WEIGHT_TOKENS / 4);
    let ones = _mm256_set1_epi16(1);
    let (mask, low, bit) = (_mm256_set1_epi8(3), _mm256_set1_epi8(15), _mm256_set1_epi8(1));
    let (step, middle) = (code.values.step(), code.values.middle());
    for index in 0..RANGE_TOKENS / WEIGHT_TOKENS {
        let mut integers = [[_mm256_setzero_si256(); 4]; H];
        let quads = index * WEIGHT_TOKENS / 4..(index + 1) * WEIGHT_TOKENS / 4;
        for start in quads.step_by(n_fit) {
            let mut words = [[_mm256_setzero_si256(); 4]; H];
            for j in start..start + n_fit {
                let mut codes = [_mm256_setzero_si256(); 4];
                if BITS == 4 {
                    let (left, right) = (load_row(&rows[2 * j]), load_row(&rows[2 * j + 1]));
                    codes[0] = _mm256_and_si256(left, low);
                    codes[1] = _mm256_and_si256(_mm256_srli_epi16::<4>(left), low);
                    codes[2] = _mm256_and_si256(right, low);
                    codes[3] = _mm256_and_si256(_mm256_srli_epi16::<4>(right), low);
                } else {
                    let row = load_row(&rows[j]);
                    codes[0] = _mm256_and_si256(row, mask);
                    codes[1] = _mm256_and_si256(_mm256_srli_epi16::<2>(row), mask);
                    codes[2] = _mm256_and_si256(_mm256_srli_epi16::<4>(row), mask);
                    codes[3] = _mm256_and_si256(_mm256_srli_epi16::<6>(row), mask);
                    if BITS == 3 {
                        let high = load_row(&rows[TOKEN_QUADS + j / 2]);
                        for (k, codes) in codes.iter_mut().enumerate() {
                            let shift = _mm_cvtsi32_si128((4 * (j % 2) + k) as i32);
                            let high = _mm256_and_si256(_mm256_srl_epi16(high, shift), bit);
                            *codes = _mm256_or_si256(*codes, _mm256_slli_epi16::<2>(high));
                        }
                    }
                }
                for h in 0..H {
                    let weight = _mm256_set1_epi32(i32::from_le_bytes(weights[h][j]));
                    for k in 0..4 {
                        words[h][k] = _mm256_add_epi16(words[h][k], _mm256_maddubs_epi16(weight, codes[k]));
                    }
                }
            }
            for h in 0..H {
                for k in 0..4 {
                    let wide = _mm256_madd_epi16(words[h][k], ones);
                    integers[h][k] = _mm256_add_epi32(integers[h][k], wide);
                }
            }
        }
        for h in 0..H {
            let Unit { unit, total } = units[h][index];
            let (factor, centre) = (_mm256_set1_ps(unit * step), _mm256_set1_ps(total * middle));
            for k in 0..4 {
                let centred = _mm256_sub_ps(_mm256_cvtepi32_ps(integers[h][k]), centre);
                out[h][k] = _mm256_fmadd_ps(centred, factor, out[h][k]);
            }
        }
    }
}
