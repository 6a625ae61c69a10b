//! Codes of values times integers of weights, for all tokens of a page.

use std::arch::x86_64::*;
use std::mem::MaybeUninit;

use super::super::layout::{ROW, TOKEN_QUADS, value_rows};
use super::super::weights::{WEIGHT_TOKENS, WEIGHT_UNITS};
use super::scores::{Pair, widen};
use super::weights::Integers;
use super::{add_products, load_row, low_nibbles, one_bit, two_bits, wide};
use crate::isa::Extension;

/// Sums of `H` heads with two times eight channels, of the tokens that share a scale of weights.
pub(super) type Sums<const H: usize> = [Pair<H>; WEIGHT_UNITS];

/// Codes of a quad of tokens with 32 channels, four times eight.
pub(super) type TokenCodes = [__m256i; 4];

/// Takes the codes of 32 channels apart: of each quad of tokens.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn unpack<'a, const BITS: u8>(
    rows: &[[u8; ROW]],
    out: &'a mut [MaybeUninit<TokenCodes>; TOKEN_QUADS],
) -> &'a [TokenCodes; TOKEN_QUADS] {
    assert!(rows.len() == value_rows(BITS));
    for (j, out) in out.iter_mut().enumerate() {
        let ([a, b], [c, d]) = (codes_of::<BITS, 0>(rows, j), codes_of::<BITS, 1>(rows, j));
        out.write([a, b, c, d]);
    }
    // SAFETY: all of them were just written.
    unsafe { &*(std::ptr::from_ref(out).cast()) }
}

/// Codes of a quad of tokens with channels `16·P..16·P + 16`, of 32.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn codes_of<const BITS: u8, const P: usize>(rows: &[[u8; ROW]], j: usize) -> [__m256i; 2] {
    if BITS == 4 {
        let row = load_row(&rows[2 * j + P]);
        [low_nibbles(row), low_nibbles(_mm256_srli_epi16::<4>(row))]
    } else {
        let row = load_row(&rows[j]);
        let nibbles = low_nibbles(if P == 0 { row } else { _mm256_srli_epi16::<4>(row) });
        let mut codes = two_bits::<0>(nibbles);
        if BITS == 3 {
            let row = load_row(&rows[TOKEN_QUADS + j / 2]);
            let row = _mm256_srl_epi16(row, _mm_cvtsi32_si128(4 * (j % 2) as i32));
            let high = one_bit::<P, 2>(low_nibbles(row));
            codes = [_mm256_or_si256(codes[0], high[0]), _mm256_or_si256(codes[1], high[1])];
        }
        codes
    }
}

/// Quads of tokens that share a scale of weights.
pub(super) const UNIT_QUADS: usize = WEIGHT_TOKENS / 4;

/// Quads of tokens whose products fit 16 bits: two products of 255 · (2^bits − 1) each. A power of two.
pub(super) const fn n_fit(bits: u8) -> usize {
    let n_fit = 1 << (i16::MAX as usize / (2 * 255 * ((1 << bits) - 1))).ilog2();
    if n_fit < UNIT_QUADS { n_fit } else { UNIT_QUADS }
}

/// Sums of codes times weights of `H` rows with channels `16·half..16·half + 16`, of 32, of tokens that share a scale of
/// weights: those of unit `unit`. Products of `FIT` quads of tokens fit 16 bits together.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
#[allow(clippy::needless_range_loop, reason = "one index into several arrays")]
pub(super) fn sum_codes<const H: usize, const FIT: usize>(
    extension: Extension,
    codes: &[TokenCodes; TOKEN_QUADS],
    weights: [&Integers; H],
    unit: usize,
    half: usize,
) -> Pair<H> {
    if let Extension::Vnni(_) = extension {
        // SAFETY: a `Vnni` exists only if detection saw avxvnni.
        return unsafe { sum_codes_vnni::<H>(codes, weights, unit, half) };
    }
    let zero = [[_mm256_setzero_si256(); 2]; H];
    let mut sums = zero;
    let first = unit * UNIT_QUADS;
    for start in (first..first + UNIT_QUADS).step_by(FIT) {
        let codes: &[TokenCodes; FIT] = codes[start..].first_chunk().expect("quads of a unit");
        let mut of_row: [&[[u8; 4]; FIT]; H] = [&[[0; 4]; FIT]; H];
        for (of_row, weights) in of_row.iter_mut().zip(weights) {
            *of_row = weights.quads[start..].first_chunk().expect("quads of a unit");
        }
        let mut words = zero;
        for j in 0..FIT {
            let codes = &codes[j].as_chunks::<2>().0[half];
            let mut weight = [_mm256_setzero_si256(); H];
            for h in 0..H {
                weight[h] = _mm256_set1_epi32(i32::from_le_bytes(of_row[h][j]));
            }
            let mut products = zero;
            for v in 0..2 {
                for h in 0..H {
                    products[h][v] = _mm256_maddubs_epi16(weight[h], codes[v]);
                }
            }
            add_products(&mut words, products);
        }
        widen(&words, &mut sums);
    }
    sums
}

/// [`sum_codes`] with dot products of bytes.
#[target_feature(enable = "avx2,fma,f16c,avxvnni")]
#[allow(clippy::needless_range_loop, reason = "one index into several arrays")]
fn sum_codes_vnni<const H: usize>(
    codes: &[TokenCodes; TOKEN_QUADS],
    weights: [&Integers; H],
    unit: usize,
    half: usize,
) -> Pair<H> {
    let mut sums = [[_mm256_setzero_si256(); 2]; H];
    for j in unit * UNIT_QUADS..(unit + 1) * UNIT_QUADS {
        let codes = &codes[j].as_chunks::<2>().0[half];
        for h in 0..H {
            let weight = _mm256_set1_epi32(i32::from_le_bytes(weights[h].quads[j]));
            for v in 0..2 {
                sums[h][v] = _mm256_dpbusd_avx_epi32(sums[h][v], weight, codes[v]);
            }
        }
    }
    sums
}

/// The sums with all 32 channels, in two halves.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn sum_halves<const H: usize, const BITS: u8, const FIT: usize>(
    extension: Extension,
    rows: &[[u8; ROW]],
    weights: &[Integers; H],
) -> [Sums<H>; 2] {
    if let Extension::Avx512(_) = extension {
        // SAFETY: an `Avx512` exists only if detection saw all that is used.
        return unsafe { wide::sum_values::<H, BITS>(rows, weights) };
    }
    let mut codes = [const { MaybeUninit::uninit() }; TOKEN_QUADS];
    let codes = unpack::<BITS>(rows, &mut codes);
    let mut out = [[[[_mm256_setzero_si256(); 2]; H]; WEIGHT_UNITS]; 2];
    for (half, out) in out.iter_mut().enumerate() {
        for (unit, out) in out.iter_mut().enumerate() {
            *out = sum_codes::<H, FIT>(extension, codes, weights.each_ref(), unit, half);
        }
    }
    out
}
