//! Eight float32 lanes: loads, stores and reductions that kernels of all folders use.

use std::arch::x86_64::*;

#[target_feature(enable = "avx2,fma")]
#[inline]
pub(crate) fn load(x: &[f32; 8]) -> __m256 {
    // SAFETY: `x` has eight values.
    unsafe { _mm256_loadu_ps(x.as_ptr()) }
}

#[target_feature(enable = "avx2,fma")]
#[inline]
pub(crate) fn store(x: &mut [f32; 8], v: __m256) {
    // SAFETY: `x` has eight values.
    unsafe { _mm256_storeu_ps(x.as_mut_ptr(), v) }
}

/// `x` eight times.
#[target_feature(enable = "avx2,fma")]
#[inline]
pub(crate) fn splat(x: f32) -> __m256 {
    _mm256_set1_ps(x)
}

/// Asks for the cache line at `at`, wherever that is.
#[target_feature(enable = "avx2,fma")]
#[inline]
#[allow(unused_unsafe, reason = "the intrinsic is unsafe in older versions of Rust")]
pub(crate) fn prefetch(at: *const u8) {
    // SAFETY: a prefetch does not access memory as far as the program can see, and never faults.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
}

/// The largest of eight, reduced in halves.
#[target_feature(enable = "avx2,fma")]
#[inline]
pub(crate) fn max_across(x: __m256) -> f32 {
    let x = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
    let x = _mm_max_ps(x, _mm_movehl_ps(x, x));
    _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)))
}

/// The sum of eight, in halves.
#[target_feature(enable = "avx2,fma")]
#[inline]
pub(crate) fn sum_across(x: __m256) -> f32 {
    let x = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
    let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)))
}
