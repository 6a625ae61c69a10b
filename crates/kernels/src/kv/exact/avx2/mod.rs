//! Exact storage with 256-bit vectors: the operations of `scalar` in the same order, eight lanes at a time.

mod append;
mod token;
mod wide;

use std::arch::x86_64::*;

use super::{Element, TypedHead};
use crate::math::avx2::store;
use crate::page::{LANES, TILE_COLUMNS, Tile};
use crate::simd::prefetch_l2;

pub(super) use append::append_f16;
pub(super) use token::attend_token;

/// Tokens whose keys are converted together.
const TILE_TOKENS: usize = 2 * LANES;

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

/// See [`ExactHead::load_tile`](super::ExactHead::load_tile); what lies `ahead` bytes behind what is read is fetched.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn load_tile<E: Element>(head: &TypedHead<'_, E>, n_tokens: usize, ahead: usize, tile: &mut Tile) {
    let head_dim = head.head_dim;
    let n_keys = n_tokens.next_multiple_of(TILE_TOKENS) / LANES * head_dim;
    let pairs = head.keys[..n_keys].as_chunks::<2>().0;
    for (to, from) in tile.keys_mut().as_chunks_mut::<2>().0.iter_mut().zip(pairs) {
        prefetch_l2(from, ahead);
        for (to, from) in to.iter_mut().zip(from) {
            store(to, load_elements(from));
        }
    }
    let n_vectors = head_dim / 8;
    for column in 0..head_dim.div_ceil(TILE_COLUMNS) {
        let rows = tile.values_mut(column)[..n_tokens].iter_mut();
        for (to, from) in rows.zip(head.values.chunks_exact(n_vectors)) {
            let from = &from[2 * column..];
            prefetch_l2(&from[0], ahead);
            for (to, from) in to.as_chunks_mut().0.iter_mut().zip(from) {
                store(to, load_elements(from));
            }
        }
    }
}
