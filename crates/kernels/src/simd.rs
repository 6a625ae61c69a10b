//! Loads and stores of vectors: the reference is the proof that the bytes are there.
//!
//! These are the places where kernels meet pointers. What is loaded may be of any type without padding, as long as it is as
//! large as the vector.

use bytemuck::{NoUninit, Pod, Zeroable};
use std::arch::x86_64::*;

/// The bytes of a vector of 256 bits, aligned as its loads like them.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(32))]
pub(crate) struct Vector256(pub [u8; 32]);

/// The bytes of a vector of 512 bits, aligned as its loads like them.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
pub(crate) struct Vector512(pub [u8; 64]);

const _: () = assert!(size_of::<Vector256>() == 32 && size_of::<Vector512>() == 64);

/// 32 bytes.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(crate) fn load_256<B: NoUninit>(from: &B) -> __m256i {
    const { assert!(size_of::<B>() == 32) };
    // SAFETY: 32 bytes, all of them initialized.
    unsafe { _mm256_loadu_si256(std::ptr::from_ref(from).cast()) }
}

/// 16 bytes.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(crate) fn load_128<B: NoUninit>(from: &B) -> __m128i {
    const { assert!(size_of::<B>() == 16) };
    // SAFETY: 16 bytes, all of them initialized.
    unsafe { _mm_loadu_si128(std::ptr::from_ref(from).cast()) }
}

/// 8 bytes; the upper half is zeros.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(crate) fn load_64<B: NoUninit>(from: &B) -> __m128i {
    const { assert!(size_of::<B>() == 8) };
    // SAFETY: 8 bytes, all of them initialized.
    unsafe { _mm_loadl_epi64(std::ptr::from_ref(from).cast()) }
}

/// Eight floats.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(crate) fn load_floats(from: &[f32; 8]) -> __m256 {
    // SAFETY: eight floats.
    unsafe { _mm256_loadu_ps(from.as_ptr()) }
}

/// Eight floats.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(crate) fn store_floats(to: &mut [f32; 8], v: __m256) {
    // SAFETY: eight floats.
    unsafe { _mm256_storeu_ps(to.as_mut_ptr(), v) };
}

/// 32 codes.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(crate) fn store_bytes(to: &mut [i8; 32], v: __m256i) {
    // SAFETY: 32 bytes.
    unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), v) };
}

/// A whole vector.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(crate) fn store_256(to: &mut Vector256, v: __m256i) {
    // SAFETY: 32 bytes, aligned to as many.
    unsafe { _mm256_store_si256(std::ptr::from_mut(to).cast(), v) };
}

/// A whole vector.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni")]
#[inline]
pub(crate) fn load_512(from: &Vector512) -> __m512i {
    // SAFETY: 64 bytes, aligned to as many.
    unsafe { _mm512_load_si512(std::ptr::from_ref(from).cast()) }
}

/// Sixteen integers.
#[target_feature(enable = "avx512f")]
#[inline]
pub(crate) fn load_integers(from: &[i32; 16]) -> __m512i {
    // SAFETY: 64 bytes.
    unsafe { _mm512_loadu_si512(from.as_ptr().cast()) }
}

/// Sixteen integers.
#[target_feature(enable = "avx512f")]
#[inline]
pub(crate) fn store_integers(to: &mut [i32; 16], v: __m512i) {
    // SAFETY: 64 bytes.
    unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), v) };
}

/// Up to sixteen floats; zeros behind them.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni")]
#[inline]
pub(crate) fn load_some_floats(from: &[f32]) -> __m512 {
    // SAFETY: the mask has as many lanes as there are floats, or all sixteen of at least as many.
    unsafe { _mm512_maskz_loadu_ps(lanes(from.len()), from.as_ptr()) }
}

/// As many floats as there is room for, up to sixteen.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni")]
#[inline]
pub(crate) fn store_some_floats(to: &mut [f32], v: __m512) {
    // SAFETY: the mask has as many lanes as there is room for floats, or all sixteen where there is room for more.
    unsafe { _mm512_mask_storeu_ps(to.as_mut_ptr(), lanes(to.len()), v) };
}

/// The first `n` of sixteen lanes; all of them if `n` is larger.
fn lanes(n: usize) -> __mmask16 {
    ((1_u32 << n.min(16)) - 1) as __mmask16
}

/// Fetches to the cache what lies `ahead` bytes behind the beginning of `from`, whatever that is.
#[inline(always)]
pub(crate) fn prefetch<B>(from: &B, ahead: usize) {
    let at = std::ptr::from_ref(from).cast::<i8>().wrapping_add(ahead);
    // SAFETY: SSE is part of every x86-64; a prefetch reads nothing, whatever the address.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(at) };
}

/// The same, to the second level of the cache.
#[inline(always)]
pub(crate) fn prefetch_l2<B>(from: &B, ahead: usize) {
    let at = std::ptr::from_ref(from).cast::<i8>().wrapping_add(ahead);
    // SAFETY: as in `prefetch`.
    unsafe { _mm_prefetch::<_MM_HINT_T1>(at) };
}

/// Evaluates an expression with a number that is known only at run time as the constant `$N`, of those that are listed.
macro_rules! with_const {
    ($N:ident = $n:expr, in [$($value:literal),*], $call:expr) => {
        match $n {
            $($value => { const $N: usize = $value; $call })*
            n => unreachable!("{n} is none of {:?}", [$($value),*]),
        }
    };
}
pub(crate) use with_const;
