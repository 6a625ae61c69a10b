//! How the planes and scales of a tile come to registers.

use super::Format;
use crate::matmul::formats::{Scales, Tile};
use crate::matmul::tile::{Bits, Halves, Nibbles, Pairs, Planes};
use crate::simd::{load_64, load_128, load_256};
use std::arch::x86_64::*;

/// What is beside the codes of a tile, in registers; zeros in place of what the format does not have.
#[derive(Clone, Copy)]
pub(super) struct ScaleVectors {
    pub scale: __m256,
    pub min: __m256,
    /// i16 pairs
    pub half_scales: __m256i,
    /// i16 pairs
    pub half_mins: __m256i,
}

/// The factors of a group, `d` and `dmin`.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn factors(of: &[Halves]) -> [__m256; 2] {
    let mut vectors = [_mm256_setzero_ps(); 2];
    for (vector, factor) in vectors.iter_mut().zip(of) {
        *vector = halves(factor);
    }
    vectors
}

/// The scales of a tile, with the factors of its group.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn scales<F: Format>([d, dmin]: [__m256; 2], tile: &Tile<F>) -> ScaleVectors {
    let mut min = _mm256_setzero_ps();
    let (mut half_scales, mut half_mins) = (_mm256_setzero_si256(), _mm256_setzero_si256());
    let minus = _mm256_set1_ps(-0.0);
    let scale = match F::scales(tile) {
        Scales::Own { d } => halves(d),
        Scales::OwnMin { d, m } => {
            min = halves(m);
            halves(d)
        }
        Scales::Signed { scales } => {
            _mm256_mul_ps(d, _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(load_64(scales))))
        }
        Scales::UnsignedMin { scales, mins } => {
            min = _mm256_xor_ps(_mm256_mul_ps(dmin, unsigned(mins)), minus);
            _mm256_mul_ps(d, unsigned(scales))
        }
        Scales::Halves { scales } => {
            half_scales = _mm256_cvtepi8_epi16(load_128(scales));
            d
        }
        Scales::HalvesMin { nibbles } => {
            let pairs = _mm256_cvtepu8_epi16(load_128(nibbles));
            half_scales = _mm256_and_si256(pairs, _mm256_set1_epi16(15));
            half_mins = _mm256_srli_epi16::<4>(pairs);
            min = _mm256_xor_ps(dmin, minus);
            d
        }
    };
    ScaleVectors { scale, min, half_scales, half_mins }
}

/// Eight f16 as f32.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn halves(of: &Halves) -> __m256 {
    _mm256_cvtph_ps(load_128(of))
}

/// Eight unsigned bytes as f32.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn unsigned(bytes: &[u8; 8]) -> __m256 {
    _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(load_64(bytes)))
}

/// The codes of a tile, quad by quad, or the indices of their levels.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn codes<F: Format>(tile: &Tile<F>) -> [__m256i; 8] {
    match F::planes(tile) {
        Planes::Two(pairs) => two_bits(pairs),
        Planes::Three(pairs, bits) => three_bits(pairs, bits),
        Planes::Four(nibbles) => four_bits(nibbles),
        Planes::Five(nibbles, bits) => five_bits(nibbles, bits),
        Planes::Six(nibbles, pairs) => six_bits(nibbles, pairs),
        Planes::Eight(bytes) => {
            let mut quads = [_mm256_setzero_si256(); 8];
            for j in 0..8 {
                quads[j] = load_256(&bytes.0[j]);
            }
            quads
        }
    }
}

/// Whole codes of eight bits, from what [`codes`] gives.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn whole<F: Format>(quad: __m256i) -> __m256i {
    match F::LEVELS {
        Some(levels) => look_up(levels, quad),
        None => quad,
    }
}

/// Magnitudes of codes of eight bits, and the codes as signed bytes, from what [`codes`] gives.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn magnitudes<F: Format>(quad: __m256i) -> [__m256i; 2] {
    const { assert!(F::BITS < 8 || F::OFFSET == 128 && !F::HALVES, "wide codes are signed bytes + 128") };
    let signed = _mm256_xor_si256(whole::<F>(quad), _mm256_set1_epi8(-128));
    [_mm256_abs_epi8(signed), signed]
}

/// High and low nibbles of bytes.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn split(bytes: __m256i) -> [__m256i; 2] {
    let mask = _mm256_set1_epi8(15);
    [_mm256_and_si256(_mm256_srli_epi16::<4>(bytes), mask), _mm256_and_si256(bytes, mask)]
}

/// What a table has at each index.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn look_up(table: [u8; 16], indices: __m256i) -> __m256i {
    let bytes = u128::from_le_bytes(table);
    let table = _mm256_set_epi64x((bytes >> 64) as i64, bytes as i64, (bytes >> 64) as i64, bytes as i64);
    _mm256_shuffle_epi8(table, indices)
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn two_bits(pairs: &Pairs) -> [__m256i; 8] {
    let three = _mm256_set1_epi8(3);
    let mut quads = [_mm256_setzero_si256(); 8];
    for half in 0..2 {
        let plane = load_256(&pairs.0[half]);
        quads[4 * half] = _mm256_and_si256(plane, three);
        quads[4 * half + 1] = _mm256_and_si256(_mm256_srli_epi16::<2>(plane), three);
        quads[4 * half + 2] = _mm256_and_si256(_mm256_srli_epi16::<4>(plane), three);
        quads[4 * half + 3] = _mm256_and_si256(_mm256_srli_epi16::<6>(plane), three);
    }
    quads
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn three_bits(pairs: &Pairs, bits: &Bits) -> [__m256i; 8] {
    let (mut quads, bits) = (two_bits(pairs), load_256(bits));
    let four = _mm256_set1_epi8(4);
    let chains = [
        (_mm256_add_epi8(bits, bits), [1, 0].as_slice()),
        (_mm256_srli_epi16::<2>(bits), &[4, 3, 2]),
        (_mm256_srli_epi16::<5>(bits), &[7, 6, 5]),
    ];
    for (mut doubled, places) in chains {
        for j in places.iter().copied() {
            quads[j] = _mm256_or_si256(quads[j], _mm256_and_si256(doubled, four));
            doubled = _mm256_add_epi8(doubled, doubled);
        }
    }
    quads
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn four_bits(plane: &Nibbles) -> [__m256i; 8] {
    let mut quads = [_mm256_setzero_si256(); 8];
    for j in 0..4 {
        [quads[j + 4], quads[j]] = split(load_256(&plane.0[j]));
    }
    quads
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn five_bits(nibbles: &Nibbles, bits: &Bits) -> [__m256i; 8] {
    let (mut quads, bits) = (four_bits(nibbles), load_256(bits));
    let sixteen = _mm256_set1_epi8(16);
    // Bit j comes to bit 4 by a shift, or by doubling, which other ports than the shifter's can do.
    let mut doubled = bits;
    for j in (0..=4).rev() {
        quads[j] = _mm256_or_si256(quads[j], _mm256_and_si256(doubled, sixteen));
        doubled = _mm256_add_epi8(doubled, doubled);
    }
    let mut doubled = _mm256_srli_epi16::<3>(bits);
    for j in (5..8).rev() {
        quads[j] = _mm256_or_si256(quads[j], _mm256_and_si256(doubled, sixteen));
        doubled = _mm256_add_epi8(doubled, doubled);
    }
    quads
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn six_bits(nibbles: &Nibbles, pairs: &Pairs) -> [__m256i; 8] {
    let mut quads = four_bits(nibbles);
    for half in 0..2 {
        let plane = load_256(&pairs.0[half]);
        let places = [
            _mm256_slli_epi16::<4>(plane),
            _mm256_slli_epi16::<2>(plane),
            plane,
            _mm256_srli_epi16::<2>(plane),
        ];
        for (j, place) in places.into_iter().enumerate() {
            let high = _mm256_and_si256(place, _mm256_set1_epi8(0x30));
            quads[4 * half + j] = _mm256_or_si256(quads[4 * half + j], high);
        }
    }
    quads
}
