//! Rounds new keys and values to the stored type.

use std::arch::x86_64::*;

use half::f16;

use crate::math::avx2::load;

/// Rounds eight values to f16.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn round(x: &[f32; 8]) -> __m128i {
    _mm256_cvtps_ph::<{ _MM_FROUND_TO_NEAREST_INT }>(load(x))
}

/// Stores one token's key in lane `lane` of its group `[head_dim][8]`, and its value.
#[target_feature(enable = "avx2,fma,f16c")]
pub(in super::super) fn append_f16(
    key: &[f32],
    group: &mut [[f16; 8]],
    lane: usize,
    value: &[f32],
    to_value: &mut [[f16; 8]],
) {
    for (to, from) in group.as_chunks_mut::<8>().0.iter_mut().zip(key.as_chunks().0) {
        let mut rounded = [f16::ZERO; 8];
        // SAFETY: eight f16 are 16 bytes.
        unsafe { _mm_storeu_si128(rounded.as_mut_ptr().cast(), round(from)) }
        for (to, k) in to.iter_mut().zip(rounded) {
            to[lane] = k;
        }
    }
    for (to, from) in to_value.iter_mut().zip(value.as_chunks().0) {
        // SAFETY: eight f16 are 16 bytes.
        unsafe { _mm_storeu_si128(to.as_mut_ptr().cast(), round(from)) }
    }
}
