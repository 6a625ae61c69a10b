//! How the planes and scales of a tile come to registers.

use super::Format;
use super::planes::narrow;
use crate::matmul::formats::{Scales, Tile};
use crate::matmul::tile::{Halves, Planes};
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
        Planes::Two(pairs) => narrow::two_bits(vectors(&pairs.0)),
        Planes::Three(pairs, bits) => narrow::three_bits(vectors(&pairs.0), load_256(bits)),
        Planes::Four(nibbles) => narrow::four_bits(vectors(&nibbles.0)),
        Planes::Five(nibbles, bits) => narrow::five_bits(vectors(&nibbles.0), load_256(bits)),
        Planes::Six(nibbles, pairs) => narrow::six_bits(vectors(&nibbles.0), vectors(&pairs.0)),
        Planes::Eight(bytes) => vectors(&bytes.0),
    }
}

/// The vectors of a plane.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn vectors<const N: usize>(plane: &[[u8; 32]; N]) -> [__m256i; N] {
    let mut vectors = [_mm256_setzero_si256(); N];
    for j in 0..N {
        vectors[j] = load_256(&plane[j]);
    }
    vectors
}

/// Whole codes of eight bits, from what [`codes`] gives.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn whole<F: Format>(quad: __m256i) -> __m256i {
    match F::LEVELS {
        Some(levels) => narrow::look_up(levels, quad),
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
