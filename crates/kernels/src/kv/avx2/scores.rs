//! Codes of keys times integers of queries.
//!
//! A block's codes are taken apart first, and then multiplied. Both at once is slower where the CPU looks only a few
//! instructions ahead: products then wait for the long chain from a row to its codes.

use std::arch::x86_64::*;
use std::mem::MaybeUninit;
use std::ops::Range;

use super::super::keys::{KeyCode, QUAD, QuadPlace, has_four, has_one, has_two};
use super::super::layout::ROW;
use super::query::RowQuads;
use super::{MAX_DIM, add_products, load_row, low_nibbles, table};
use crate::isa::Extension;

/// Sums of `H` heads with two times eight tokens, or channels.
pub(super) type Pair<const H: usize> = [[__m256i; 2]; H];

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

/// Codes of a quad of channels with a block of tokens, four times eight.
pub(super) type QuadCodes = [__m256i; 4];

/// Takes the codes of a block apart: of each stored quad.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn unpack<'a>(
    code: &KeyCode,
    rows: &[[u8; ROW]],
    out: &'a mut [MaybeUninit<QuadCodes>],
) -> &'a [QuadCodes] {
    unpack_first(code, code.planes.n_stored, rows, out)
}

/// Takes the codes of the first `n_quads` stored quads of a block apart.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn unpack_first<'a>(
    code: &KeyCode,
    n_quads: usize,
    rows: &[[u8; ROW]],
    out: &'a mut [MaybeUninit<QuadCodes>],
) -> &'a [QuadCodes] {
    assert!(n_quads <= code.planes.n_stored);
    let out = &mut out[..n_quads];
    for run in code.runs.iter().take_while(|run| run.first < n_quads) {
        let (place, out) = (code.planes.of_quad[run.first], &mut out[run.first..run.end.min(n_quads)]);
        match run.bits {
            1 => unpack_run::<1>(place, rows, out),
            2 => unpack_run::<2>(place, rows, out),
            3 => unpack_run::<3>(place, rows, out),
            4 => unpack_run::<4>(place, rows, out),
            5 => unpack_run::<5>(place, rows, out),
            _ => unpack_run::<6>(place, rows, out),
        }
    }
    // SAFETY: runs cover all stored quads, of which these are the first.
    unsafe { &*(std::ptr::from_ref(out) as *const [QuadCodes]) }
}

/// Takes the codes of quads of `BITS` bits apart, of which the first one lies at `place`.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn unpack_run<const BITS: u8>(place: QuadPlace, rows: &[[u8; ROW]], out: &mut [MaybeUninit<QuadCodes>]) {
    for (index, out) in out.iter_mut().enumerate() {
        let mut codes = [_mm256_setzero_si256(); 4];
        if has_four(BITS) {
            let rows = [&rows[place.four + 2 * index], &rows[place.four + 2 * index + 1]];
            let rows = [load_row(rows[0]), load_row(rows[1])];
            codes = [rows[0], _mm256_srli_epi16::<4>(rows[0]), rows[1], _mm256_srli_epi16::<4>(rows[1])];
            for codes in &mut codes {
                *codes = low_nibbles(*codes);
            }
        }
        if has_two(BITS) {
            let row = load_row(&rows[place.two + index]);
            let (low, high) = (low_nibbles(row), low_nibbles(_mm256_srli_epi16::<4>(row)));
            let tables = &TWO[usize::from(has_four(BITS))].0;
            let tables = [load_row(&tables[0]), load_row(&tables[1])];
            for (k, nibbles) in [low, low, high, high].into_iter().enumerate() {
                codes[k] = _mm256_or_si256(codes[k], _mm256_shuffle_epi8(tables[k % 2], nibbles));
            }
        }
        if has_one(BITS) {
            let half = place.one + index;
            let row = load_row(&rows[half / 2]);
            let nibbles = low_nibbles(_mm256_srl_epi16(row, _mm_cvtsi32_si128(4 * (half % 2) as i32)));
            let tables = &ONE[usize::from(BITS / 2)].0;
            for (codes, table) in codes.iter_mut().zip(tables) {
                *codes = _mm256_or_si256(*codes, _mm256_shuffle_epi8(load_row(table), nibbles));
            }
        }
        out.write(codes);
    }
}

/// Tables that begin at a multiple of their size.
#[repr(align(32))]
struct Tables<const N: usize>([[u8; ROW]; N]);

/// The two halves of a nibble, as they are and four bits up.
static TWO: [Tables<2>; 2] =
    [Tables([table(0, 3, 0), table(2, 3, 0)]), Tables([table(0, 3, 4), table(2, 3, 4)])];

/// The four bits of a nibble, as they are, two and four bits up: as the highest bit of 1, 3 and 5.
static ONE: [Tables<4>; 3] = [
    Tables([table(0, 1, 0), table(1, 1, 0), table(2, 1, 0), table(3, 1, 0)]),
    Tables([table(0, 1, 2), table(1, 1, 2), table(2, 1, 2), table(3, 1, 2)]),
    Tables([table(0, 1, 4), table(1, 1, 4), table(2, 1, 4), table(3, 1, 4)]),
];

/// Sums over all stored channels of codes times `queries`, for tokens `16·half..16·half + 16` of a block. Products with the
/// quads of one of `sums` fit 16 bits together.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn sum_codes<const H: usize, const N: usize>(
    extension: Extension,
    codes: &[QuadCodes],
    half: usize,
    sums: &[Range<usize>],
    queries: &[RowQuads; N],
) -> Pair<H> {
    if let Extension::Vnni(_) = extension {
        // SAFETY: a `Vnni` exists only if detection saw avxvnni.
        return unsafe { sum_codes_vnni::<H, N>(codes, half, queries) };
    }
    let zero = [[_mm256_setzero_si256(); 2]; H];
    let mut integers = zero;
    let Some((first, others)) = sums.split_first() else { return integers };
    widen(&sum_words(codes, half, first, queries), &mut integers);
    for quads in others {
        widen(&sum_words(codes, half, quads, queries), &mut integers);
    }
    integers
}

/// Sums of 16 bits over some quads.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
#[allow(clippy::needless_range_loop, reason = "one index into several arrays")]
fn sum_words<const H: usize, const N: usize>(
    codes: &[QuadCodes],
    half: usize,
    quads: &Range<usize>,
    queries: &[RowQuads; N],
) -> Pair<H> {
    assert!(H <= N && quads.end <= MAX_DIM / QUAD);
    let mut words = [[_mm256_setzero_si256(); 2]; H];
    for (quad, codes) in quads.clone().zip(&codes[quads.clone()]) {
        let codes = &codes.as_chunks::<2>().0[half];
        let mut query = [_mm256_setzero_si256(); H];
        for h in 0..H {
            query[h] = _mm256_set1_epi32(queries[h][quad]);
        }
        let mut products = [[_mm256_setzero_si256(); 2]; H];
        for v in 0..2 {
            for h in 0..H {
                products[h][v] = _mm256_maddubs_epi16(codes[v], query[h]);
            }
        }
        add_products(&mut words, products);
    }
    words
}

/// [`sum_codes`] with dot products of bytes, which need no sums of 16 bits.
///
/// Both halves at once would need twelve sums and be slower.
#[target_feature(enable = "avx2,fma,f16c,avxvnni")]
#[allow(clippy::needless_range_loop, reason = "one index into several arrays")]
fn sum_codes_vnni<const H: usize, const N: usize>(
    codes: &[QuadCodes],
    half: usize,
    queries: &[RowQuads; N],
) -> Pair<H> {
    assert!(H <= N && codes.len() <= MAX_DIM / QUAD);
    let mut integers = [[_mm256_setzero_si256(); 2]; H];
    for (quad, codes) in codes.iter().enumerate() {
        let codes = &codes.as_chunks::<2>().0[half];
        for h in 0..H {
            let query = _mm256_set1_epi32(queries[h][quad]);
            for v in 0..2 {
                integers[h][v] = _mm256_dpbusd_avx_epi32(integers[h][v], codes[v], query);
            }
        }
    }
    integers
}
