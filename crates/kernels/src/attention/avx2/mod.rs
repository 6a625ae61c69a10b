//! Attention with 256-bit vectors: the operations of `scalar` in the same order, eight lanes at a time.

mod append;
mod tile;
mod token;
mod wide;

use std::arch::x86_64::*;

use super::element::Element;
use super::exp2::exp2_avx2;
use super::state::merge_records;
use super::{GROUP_TOKENS, RANGE_TOKENS};
use crate::math::avx2::{load, max_across, store, sum_across};

pub(super) use append::append_f16;
pub(super) use tile::{attend_tile, load_tile};
pub(super) use token::attend_token;

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn splat(x: f32) -> __m256 {
    _mm256_set1_ps(x)
}

/// Eight elements as float32.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn load_elements<E: Element>(x: &[E; 8]) -> __m256 {
    if E::IS_F16 {
        // SAFETY: eight f16 are 16 bytes.
        let halves = unsafe { _mm_loadu_si128(x.as_ptr().cast()) };
        _mm256_cvtph_ps(halves)
    } else {
        // SAFETY: an element that is not f16 is f32, so these are 32 bytes.
        unsafe { _mm256_loadu_ps(x.as_ptr().cast()) }
    }
}

/// Turns the first `n_tokens` (at least 1) scores into weights, and those up to a whole group into 0; returns the
/// maximum and the sum of the weights.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn softmax(scores: &mut [f32; RANGE_TOKENS], n_tokens: usize) -> (f32, f32) {
    let end = n_tokens.next_multiple_of(GROUP_TOKENS);
    scores[n_tokens..end].fill(f32::NEG_INFINITY);
    let groups = scores[..end].as_chunks_mut::<GROUP_TOKENS>().0;
    let mut max = splat(f32::NEG_INFINITY);
    for group in groups.iter() {
        max = _mm256_max_ps(max, load(group));
    }
    let max = max_across(max);
    let shift = splat(max);
    let mut sum = _mm256_setzero_ps();
    for group in groups {
        let weights = exp2_avx2(_mm256_sub_ps(load(group), shift));
        store(group, weights);
        sum = _mm256_add_ps(sum, weights);
    }
    (max, sum_across(sum))
}

/// See [`merge`](super::state::merge).
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn merge(states: &mut [f32], partials: &[f32], head_dim: usize) {
    merge_records(states, partials, head_dim, |state, keep, partial, take| {
        merge_outputs(state, keep, partial, take);
    });
}

/// `state = state · keep + partial · take`; lengths are equal and a multiple of 8.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn merge_outputs(state: &mut [f32], keep: f32, partial: &[f32], take: f32) {
    let (keep, take) = (splat(keep), splat(take));
    let (state, partial) = (state.as_chunks_mut().0, partial.as_chunks().0);
    for (o, x) in state.iter_mut().zip(partial) {
        store(o, _mm256_fmadd_ps(load(o), keep, _mm256_mul_ps(load(x), take)));
    }
}
