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

#[target_feature(enable = "avx2,fma")]
#[inline]
pub(crate) fn load4(x: &[f32; 4]) -> __m128 {
    // SAFETY: `x` has four values.
    unsafe { _mm_loadu_ps(x.as_ptr()) }
}

#[target_feature(enable = "avx2,fma")]
#[inline]
pub(crate) fn store4(to: &mut [f32; 4], x: __m128) {
    // SAFETY: `to` has four values.
    unsafe { _mm_storeu_ps(to.as_mut_ptr(), x) }
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

/// Two vectors for each step of a reduction in halves of each of four.
macro_rules! across_four {
    ($name:ident, $of:ident, $operation:ident) => {
        #[doc = concat!("[`", stringify!($of), "`] of each of four.")]
        #[target_feature(enable = "avx2,fma")]
        #[inline]
        pub(crate) fn $name(x: [__m256; 4]) -> __m128 {
            let mut halves = [_mm_setzero_ps(); 4];
            for (to, x) in halves.iter_mut().zip(x) {
                *to = $operation(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
            }
            let [a, b, c, d] = halves;
            let left = $operation(_mm_movelh_ps(a, b), _mm_movehl_ps(b, a));
            let right = $operation(_mm_movelh_ps(c, d), _mm_movehl_ps(d, c));
            $operation(
                _mm_shuffle_ps::<0b10_00_10_00>(left, right),
                _mm_shuffle_ps::<0b11_01_11_01>(left, right),
            )
        }
    };
}
across_four!(sums_across, sum_across, _mm_add_ps);
across_four!(maxima_across, max_across, _mm_max_ps);
