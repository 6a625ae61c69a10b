//! Sixteen float32 lanes: loads, stores and joins that kernels of all folders use.

use std::arch::x86_64::*;

#[target_feature(enable = "avx512f")]
#[inline]
pub(crate) fn load(x: &[f32; 16]) -> __m512 {
    // SAFETY: `x` has sixteen values.
    unsafe { _mm512_loadu_ps(x.as_ptr()) }
}

#[target_feature(enable = "avx512f")]
#[inline]
pub(crate) fn store(x: &mut [f32; 16], v: __m512) {
    // SAFETY: `x` has sixteen values.
    unsafe { _mm512_storeu_ps(x.as_mut_ptr(), v) }
}

/// Two times eight values side by side.
#[target_feature(enable = "avx512f,avx512dq,avx2,fma")]
#[inline]
pub(crate) fn join(low: __m256, high: __m256) -> __m512 {
    _mm512_insertf32x8::<1>(_mm512_castps256_ps512(low), high)
}
