//! What the kernels need to know of a format, and how planes are unpacked.

use crate::matmul::formats::Format;
use std::arch::x86_64::*;

/// A format's unpacking with AVX2.
///
/// # Safety
/// Methods are called with AVX2, FMA and F16C available, and with pointers to a whole header (`HEADER_BYTES`) and a whole
/// tile (`TILE_BYTES`).
pub(crate) trait Unpack: Format {
    /// Whether codes have eight bits, and are used as two nibbles.
    const WIDE: bool = false;
    /// Quads whose products an i16 holds: 8, 4 or 2.
    const QUADS: usize;
    /// Whether each half of 16 columns has its own integer scale.
    const HALVES: bool = false;
    /// What a group's header says, in registers.
    type Header: Copy;

    /// Reads a header.
    unsafe fn header(header: *const u8) -> Self::Header;
    /// The codes, quad by quad. Wide formats: what [`nibbles`](Unpack::nibbles) takes.
    unsafe fn codes(tile: *const u8) -> [__m256i; 8];
    /// High and low nibbles of wide codes.
    #[inline(always)]
    unsafe fn nibbles(codes: __m256i) -> (__m256i, __m256i) {
        // SAFETY: AVX2 is available.
        unsafe { split_nibbles(codes) }
    }
    /// Whole bytes of wide codes.
    #[inline(always)]
    unsafe fn bytes(codes: __m256i) -> __m256i {
        codes
    }
    /// Scales of the rows.
    unsafe fn scale(header: Self::Header, tile: *const u8) -> __m256;
    /// Minima of the rows, if the format has them.
    #[inline(always)]
    unsafe fn min(_: Self::Header, _: *const u8) -> __m256 {
        // SAFETY: AVX is available.
        unsafe { _mm256_setzero_ps() }
    }
    /// Integer scales of both halves, as i16 pairs, if the format has them.
    #[inline(always)]
    unsafe fn half_scales(_: *const u8) -> __m256i {
        // SAFETY: AVX is available.
        unsafe { _mm256_setzero_si256() }
    }
    /// Integer minima of both halves, as i16 pairs, if the format has them.
    #[inline(always)]
    unsafe fn half_mins(_: *const u8) -> __m256i {
        // SAFETY: AVX is available.
        unsafe { _mm256_setzero_si256() }
    }
}

/// High and low nibbles of bytes.
#[target_feature(enable = "avx2")]
#[inline]
pub(crate) fn split_nibbles(bytes: __m256i) -> (__m256i, __m256i) {
    let mask = _mm256_set1_epi8(15);
    (_mm256_and_si256(_mm256_srli_epi16::<4>(bytes), mask), _mm256_and_si256(bytes, mask))
}

/// 32 bytes of a plane.
///
/// # Safety
/// `plane` has `32 * (index + 1)` bytes.
#[target_feature(enable = "avx2")]
#[inline]
pub(crate) unsafe fn load(plane: *const u8, index: usize) -> __m256i {
    // SAFETY: the caller's promise.
    unsafe { _mm256_loadu_si256(plane.add(32 * index).cast()) }
}

/// The codes of a plane of nibbles, quad by quad.
///
/// # Safety
/// `plane` has 128 bytes.
#[target_feature(enable = "avx2")]
#[inline]
pub(crate) unsafe fn nibbles(plane: *const u8) -> [__m256i; 8] {
    let mut quads = [_mm256_setzero_si256(); 8];
    for j in 0..4 {
        // SAFETY: j < 4
        let (high, low) = split_nibbles(unsafe { load(plane, j) });
        quads[j] = low;
        quads[j + 4] = high;
    }
    quads
}

/// Nibbles with a fifth bit from a plane of bits.
///
/// # Safety
/// `nibble_plane` has 128 bytes, `bit_plane` 32.
#[target_feature(enable = "avx2")]
#[inline]
pub(crate) unsafe fn nibbles_and_bit(nibble_plane: *const u8, bit_plane: *const u8) -> [__m256i; 8] {
    // SAFETY: the caller's promise.
    let (mut quads, bits) = unsafe { (nibbles(nibble_plane), load(bit_plane, 0)) };
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

/// Eight f16 as f32.
///
/// # Safety
/// `halves` has 16 bytes.
#[target_feature(enable = "avx,f16c")]
#[inline]
pub(crate) unsafe fn halves(halves: *const u8) -> __m256 {
    // SAFETY: the caller's promise.
    _mm256_cvtph_ps(unsafe { _mm_loadu_si128(halves.cast()) })
}

/// Eight unsigned bytes as f32.
///
/// # Safety
/// `bytes` has 8 bytes.
#[target_feature(enable = "avx2")]
#[inline]
pub(crate) unsafe fn unsigned_bytes(bytes: *const u8) -> __m256 {
    // SAFETY: the caller's promise.
    _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(unsafe { _mm_loadl_epi64(bytes.cast()) }))
}

/// Eight signed bytes as f32.
///
/// # Safety
/// `bytes` has 8 bytes.
#[target_feature(enable = "avx2")]
#[inline]
pub(crate) unsafe fn signed_bytes(bytes: *const u8) -> __m256 {
    // SAFETY: the caller's promise.
    _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(unsafe { _mm_loadl_epi64(bytes.cast()) }))
}

/// Eight pairs of signed bytes as pairs of i16.
///
/// # Safety
/// `bytes` has 16 bytes.
#[target_feature(enable = "avx2")]
#[inline]
pub(crate) unsafe fn signed_pairs(bytes: *const u8) -> __m256i {
    // SAFETY: the caller's promise.
    _mm256_cvtepi8_epi16(unsafe { _mm_loadu_si128(bytes.cast()) })
}
