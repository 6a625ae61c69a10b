//! Codes of values times integers of weights, for all tokens of a page.

use std::arch::x86_64::*;

use super::super::layout::{ROW, TOKEN_QUADS, value_rows};
use super::super::weights::{WEIGHT_TOKENS, WEIGHT_UNITS};
use super::scores::{Pair, widen};
use super::weights::Integers;
use super::{add_products, load_row, low_nibbles, one_bit, two_bits, wide};
use crate::isa::Extension;

/// Sums of `H` heads with two times eight channels, of the tokens that share a scale of weights.
pub(super) type Sums<const H: usize> = [Pair<H>; WEIGHT_UNITS];

/// The sums with channels `16·P..16·P + 16`, of 32.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
#[allow(clippy::needless_range_loop, reason = "one index into several arrays")]
fn sum_codes<const H: usize, const BITS: u8, const P: usize>(
    rows: &[[u8; ROW]],
    weights: &[Integers; H],
) -> Sums<H> {
    // Quads of tokens whose products fit 16 bits: two products of 255 · (2^BITS − 1) each.
    let n_fit = const { 1 << (i16::MAX as usize / (2 * 255 * ((1 << BITS) - 1))).ilog2() };
    let n_fit = n_fit.min(WEIGHT_TOKENS / 4);
    assert!(rows.len() == value_rows(BITS));
    let mut sums = [[[_mm256_setzero_si256(); 2]; H]; WEIGHT_UNITS];
    for (index, sums) in sums.iter_mut().enumerate() {
        let quads = index * WEIGHT_TOKENS / 4..(index + 1) * WEIGHT_TOKENS / 4;
        for start in quads.step_by(n_fit) {
            let mut words = [[_mm256_setzero_si256(); 2]; H];
            for j in start..start + n_fit {
                let codes = codes_of::<BITS, P>(rows, j);
                let mut weight = [_mm256_setzero_si256(); H];
                for h in 0..H {
                    weight[h] = _mm256_set1_epi32(i32::from_le_bytes(weights[h].quads[j]));
                }
                let mut products = [[_mm256_setzero_si256(); 2]; H];
                for v in 0..2 {
                    for h in 0..H {
                        products[h][v] = _mm256_maddubs_epi16(weight[h], codes[v]);
                    }
                }
                add_products(&mut words, products);
            }
            widen(&words, sums);
        }
    }
    sums
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

/// [`sum_codes`] with dot products of bytes.
#[target_feature(enable = "avx2,fma,f16c,avxvnni")]
#[allow(clippy::needless_range_loop, reason = "one index into several arrays")]
fn sum_codes_vnni<const H: usize, const BITS: u8, const P: usize>(
    rows: &[[u8; ROW]],
    weights: &[Integers; H],
) -> Sums<H> {
    assert!(rows.len() == value_rows(BITS));
    let mut sums = [[[_mm256_setzero_si256(); 2]; H]; WEIGHT_UNITS];
    for (index, sums) in sums.iter_mut().enumerate() {
        let mut integers = [[_mm256_setzero_si256(); 2]; H];
        for j in index * WEIGHT_TOKENS / 4..(index + 1) * WEIGHT_TOKENS / 4 {
            let codes = codes_of::<BITS, P>(rows, j);
            for h in 0..H {
                let weight = _mm256_set1_epi32(i32::from_le_bytes(weights[h].quads[j]));
                for v in 0..2 {
                    integers[h][v] = _mm256_dpbusd_avx_epi32(integers[h][v], weight, codes[v]);
                }
            }
        }
        *sums = integers;
    }
    sums
}

/// The sums with all 32 channels, in two halves.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn sum_halves<const H: usize, const BITS: u8>(
    extension: Extension,
    rows: &[[u8; ROW]],
    weights: &[Integers; H],
) -> [Sums<H>; 2] {
    match extension {
        Extension::None => [sum_codes::<H, BITS, 0>(rows, weights), sum_codes::<H, BITS, 1>(rows, weights)],
        // SAFETY: a `Vnni` exists only if detection saw avxvnni.
        Extension::Vnni(_) => unsafe {
            [sum_codes_vnni::<H, BITS, 0>(rows, weights), sum_codes_vnni::<H, BITS, 1>(rows, weights)]
        },
        // SAFETY: an `Avx512` exists only if detection saw all that is used.
        Extension::Avx512(_) => unsafe { wide::sum_values::<H, BITS>(rows, weights) },
    }
}
