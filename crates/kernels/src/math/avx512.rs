//! Sixteen float32 lanes: loads and stores that kernels of all folders use.

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
