//! Codes of keys times integers of queries, for all tokens of a range.
//!
//! Runs of quads with the same number of bits are the outer loop, the blocks of the range the inner one: what a run needs
//! is chosen once for 128 tokens. Sums of two times eight tokens and all heads are in registers during a run, and wait in
//! memory for the next one.

use std::arch::x86_64::*;

use super::super::keys::{Planes, Run, has_four, has_one, has_two};
use super::super::layout::ROW;
use super::super::{BLOCK_TOKENS, BLOCKS};
use super::{Ahead, load_row, low_nibbles, one_bit, two_bits};

/// Sums of `H` heads with two times eight tokens.
pub(super) type Pair<const H: usize> = [[__m256i; 2]; H];

/// Sums of `H` heads with the tokens of a range: of each block, of each half of it.
pub(super) type Sums<const H: usize> = [[Pair<H>; 2]; BLOCKS];

/// Lines that are fetched during a run.
const LINES_OF_RUN: usize = 6;

/// Codes of a range's keys, and how to read them.
#[derive(Clone, Copy)]
pub(super) struct KeyRows<'a> {
    pub planes: &'a Planes,
    pub runs: &'a [Run],
    /// `[BLOCKS * planes.rows()]`
    pub rows: &'a [[u8; ROW]],
}

/// Adds the pairs of 16-bit sums to 32-bit ones.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn widen<const H: usize>(words: &Pair<H>, integers: &mut Pair<H>) {
    let ones = _mm256_set1_epi16(1);
    for (words, integers) in words.iter().zip(integers) {
        for (words, integers) in words.iter().zip(integers) {
            *integers = _mm256_add_epi32(*integers, _mm256_madd_epi16(*words, ones));
        }
    }
}

/// The sums over all stored channels. `queries` are those of each block: of each head an integer for each quad.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn sum_codes<const H: usize>(
    keys: KeyRows<'_>,
    queries: [[&[i32]; H]; BLOCKS],
    ahead: &mut Ahead,
) -> Sums<H> {
    let zero = [[[[_mm256_setzero_si256(); 2]; H]; 2]; BLOCKS];
    let (mut words, mut integers) = (zero, zero);
    let mut is_first = true;
    for &run in keys.runs {
        if run.starts_sum {
            for (words, integers) in words.as_flattened().iter().zip(integers.as_flattened_mut()) {
                widen(words, integers);
            }
        }
        let is_new = run.starts_sum || is_first;
        match run.bits {
            1 => add_run::<H, 1>(keys, run, &queries, is_new, &mut words),
            2 => add_run::<H, 2>(keys, run, &queries, is_new, &mut words),
            3 => add_run::<H, 3>(keys, run, &queries, is_new, &mut words),
            4 => add_run::<H, 4>(keys, run, &queries, is_new, &mut words),
            5 => add_run::<H, 5>(keys, run, &queries, is_new, &mut words),
            _ => add_run::<H, 6>(keys, run, &queries, is_new, &mut words),
        }
        is_first = false;
        ahead.fetch(LINES_OF_RUN);
    }
    for (words, integers) in words.as_flattened().iter().zip(integers.as_flattened_mut()) {
        widen(words, integers);
    }
    integers
}

/// The rows of one block in which a run's codes lie.
struct RunRows<'a> {
    four: &'a [[[u8; ROW]; 2]],
    two: &'a [[u8; ROW]],
    /// beginning with that in which the first quad has a half
    one: &'a [[u8; ROW]],
    /// whether that is the second half
    one_is_odd: bool,
}

/// Adds the products of a run of quads of `BITS` bits. `is_new`: the sums begin with it.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn add_run<const H: usize, const BITS: u8>(
    keys: KeyRows<'_>,
    run: Run,
    queries: &[[&[i32]; H]; BLOCKS],
    is_new: bool,
    words: &mut Sums<H>,
) {
    let n = run.end - run.first;
    let place = keys.planes.of_quad[run.first];
    let n_rows = keys.planes.rows();
    let one_is_odd = place.one % 2 == 1;
    for (block, words) in words.iter_mut().enumerate() {
        let rows = &keys.rows[block * n_rows..][..n_rows];
        let rows = RunRows {
            four: rows[place.four..][..if has_four(BITS) { 2 * n } else { 0 }].as_chunks().0,
            two: &rows[place.two..][..if has_two(BITS) { n } else { 0 }],
            one: &rows[place.one / 2..]
                [..if has_one(BITS) { (usize::from(one_is_odd) + n).div_ceil(2) } else { 0 }],
            one_is_odd,
        };
        // Not `map`, which does not have the features and would be called.
        let mut of_run: [&[i32]; H] = [&[]; H];
        for (of_run, quads) in of_run.iter_mut().zip(queries[block]) {
            *of_run = &quads[run.first..run.end];
        }
        add_half::<H, BITS, 0>(&rows, &of_run, n, is_new, &mut words[0]);
        add_half::<H, BITS, 1>(&rows, &of_run, n, is_new, &mut words[1]);
    }
}

/// The same for tokens `16·P..16·P + 16` of a block.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
#[allow(clippy::needless_range_loop, reason = "one index into several arrays")]
fn add_half<const H: usize, const BITS: u8, const P: usize>(
    rows: &RunRows<'_>,
    queries: &[&[i32]; H],
    n: usize,
    is_new: bool,
    words: &mut Pair<H>,
) {
    for quads in queries {
        assert!(quads.len() == n);
    }
    assert!(!has_four(BITS) || rows.four.len() == n);
    assert!(!has_two(BITS) || rows.two.len() == n);
    let mut sums = if is_new { [[_mm256_setzero_si256(); 2]; H] } else { *words };
    for quad in 0..n {
        let mut codes = [_mm256_setzero_si256(); 2];
        if has_four(BITS) {
            let row = load_row(&rows.four[quad][P]);
            codes = [low_nibbles(row), low_nibbles(_mm256_srli_epi16::<4>(row))];
        }
        if has_two(BITS) {
            let row = load_row(&rows.two[quad]);
            let nibbles = low_nibbles(if P == 0 { row } else { _mm256_srli_epi16::<4>(row) });
            if has_four(BITS) {
                let two = two_bits::<4>(nibbles);
                codes = [_mm256_or_si256(codes[0], two[0]), _mm256_or_si256(codes[1], two[1])];
            } else {
                codes = two_bits::<0>(nibbles);
            }
        }
        if has_one(BITS) {
            let half = usize::from(rows.one_is_odd) + quad;
            let row = load_row(&rows.one[half / 2]);
            let row = _mm256_srl_epi16(row, _mm_cvtsi32_si128(4 * (half % 2) as i32));
            let nibbles = low_nibbles(row);
            codes = match BITS {
                1 => one_bit::<P, 0>(nibbles),
                3 => {
                    let one = one_bit::<P, 2>(nibbles);
                    [_mm256_or_si256(codes[0], one[0]), _mm256_or_si256(codes[1], one[1])]
                }
                _ => {
                    let one = one_bit::<P, 4>(nibbles);
                    [_mm256_or_si256(codes[0], one[0]), _mm256_or_si256(codes[1], one[1])]
                }
            };
        }
        // All products with one vector before their additions: in another order they wait for each other.
        let mut query = [_mm256_setzero_si256(); H];
        for h in 0..H {
            query[h] = _mm256_set1_epi32(queries[h][quad]);
        }
        let mut products = [_mm256_setzero_si256(); H];
        for v in 0..2 {
            for h in 0..H {
                products[h] = _mm256_maddubs_epi16(codes[v], query[h]);
            }
            for h in 0..H {
                sums[h][v] = _mm256_add_epi16(sums[h][v], products[h]);
            }
        }
    }
    *words = sums;
}

const _: () = assert!(BLOCK_TOKENS == 32);
