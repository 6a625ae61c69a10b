//! Attention with vectors of 512 bits: the same operations in the same order, sixteen lanes at a time, but for sums across
//! lanes, which have eight.

mod tile;
mod token;

use std::arch::x86_64::*;

use super::super::element::Element;
use super::super::exp2::{exp2_avx2, exp2_avx512};
use super::super::{GROUP_TOKENS, RANGE_TOKENS};
use super::load_elements;
use crate::math::avx2::{load as load8, max_across, store as store8, sum_across};
use crate::math::avx512::{load, store};

pub(super) use tile::attend_tile;
pub(super) use token::attend_token;

/// Two times eight elements as float32.
#[target_feature(enable = "avx512f,avx512dq,avx2,fma,f16c")]
#[inline]
fn join<E: Element>(low: &[E; 8], high: &[E; 8]) -> __m512 {
    if E::IS_F16 {
        // SAFETY: eight f16 are 16 bytes.
        let halves = [low, high].map(|x| unsafe { _mm_loadu_si128(x.as_ptr().cast()) });
        return _mm512_cvtph_ps(_mm256_set_m128i(halves[1], halves[0]));
    }
    _mm512_insertf32x8::<1>(_mm512_castps256_ps512(load_elements(low)), load_elements(high))
}

/// See [`softmax`](super::softmax), whose sum has eight lanes.
#[target_feature(enable = "avx512f,avx512dq,avx2,fma,f16c")]
#[inline]
fn softmax(scores: &mut [f32; RANGE_TOKENS], n_tokens: usize) -> (f32, f32) {
    let end = n_tokens.next_multiple_of(GROUP_TOKENS);
    scores[n_tokens..end].fill(f32::NEG_INFINITY);
    let (pairs, rest) = scores[..end].as_chunks_mut::<{ 2 * GROUP_TOKENS }>();
    let rest = rest.as_chunks_mut().0;
    let mut largest = _mm512_set1_ps(f32::NEG_INFINITY);
    for pair in pairs.iter() {
        largest = _mm512_max_ps(largest, load(pair));
    }
    let mut largest = _mm256_max_ps(_mm512_castps512_ps256(largest), _mm512_extractf32x8_ps::<1>(largest));
    for group in rest.iter() {
        largest = _mm256_max_ps(largest, load8(group));
    }
    let max = max_across(largest);
    let shift = _mm512_set1_ps(max);
    let mut sum = _mm256_setzero_ps();
    for pair in pairs {
        let weights = exp2_avx512(_mm512_sub_ps(load(pair), shift));
        store(pair, weights);
        sum = _mm256_add_ps(sum, _mm512_castps512_ps256(weights));
        sum = _mm256_add_ps(sum, _mm512_extractf32x8_ps::<1>(weights));
    }
    for group in rest {
        let weights = exp2_avx2(_mm256_sub_ps(load8(group), _mm512_castps512_ps256(shift)));
        store8(group, weights);
        sum = _mm256_add_ps(sum, weights);
    }
    (max, sum_across(sum))
}
