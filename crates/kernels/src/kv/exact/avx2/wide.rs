//! Decode with vectors of 512 bits, see [`token`](super::token).

use std::arch::x86_64::*;
use std::ops::Range;

use super::super::{Element, TypedHead};
use super::load_elements;
use super::token::{BLOCK_GROUPS, attend_with, weigh_columns};
use crate::math::avx2::prefetch;
use crate::math::avx512::{join, store};
use crate::page::{LANES, PAGE_TOKENS, Partial, TokenQueries, softmax_avx512};

/// Two times eight elements as float32.
#[target_feature(enable = "avx512f,avx512dq,avx2,fma,f16c")]
#[inline]
fn join_elements<E: Element>(low: &[E; 8], high: &[E; 8]) -> __m512 {
    if E::IS_F16 {
        // SAFETY: eight f16 are 16 bytes.
        let halves = [low, high].map(|x| unsafe { _mm_loadu_si128(x.as_ptr().cast()) });
        return _mm512_cvtph_ps(_mm256_set_m128i(halves[1], halves[0]));
    }
    join(load_elements(low), load_elements(high))
}

/// See [`ExactHead::attend_token`](super::super::ExactHead::attend_token).
#[target_feature(enable = "avx512f,avx512dq,avx2,fma,f16c")]
pub(super) fn attend_token<E: Element>(
    head: &TypedHead<'_, E>,
    tokens: Range<usize>,
    token: &mut TokenQueries,
    next: Option<&[u8]>,
    partial: &mut Partial<'_>,
) {
    attend_with(
        head,
        tokens,
        token,
        next,
        partial,
        |queries, keys, scores, at, ahead| match scores.len() {
            1 => score::<E, 1>(queries, keys, scores, at, ahead),
            2 => score::<E, 2>(queries, keys, scores, at, ahead),
            3 => score::<E, 3>(queries, keys, scores, at, ahead),
            4 => score::<E, 4>(queries, keys, scores, at, ahead),
            5 => score::<E, 5>(queries, keys, scores, at, ahead),
            6 => score::<E, 6>(queries, keys, scores, at, ahead),
            7 => score::<E, 7>(queries, keys, scores, at, ahead),
            _ => score::<E, 8>(queries, keys, scores, at, ahead),
        },
        |scores, n_tokens| softmax_avx512(scores, n_tokens),
        |weights, values, ahead, partial, row| match weights.len() {
            1 => weigh::<E, 1, 4>(weights, values, ahead, partial, row),
            2 => weigh::<E, 2, 4>(weights, values, ahead, partial, row),
            3 => weigh::<E, 3, 4>(weights, values, ahead, partial, row),
            4 => weigh::<E, 4, 4>(weights, values, ahead, partial, row),
            5 => weigh::<E, 5, 2>(weights, values, ahead, partial, row),
            6 => weigh::<E, 6, 2>(weights, values, ahead, partial, row),
            7 => weigh::<E, 7, 2>(weights, values, ahead, partial, row),
            _ => weigh::<E, 8, 2>(weights, values, ahead, partial, row),
        },
    );
}

/// Scores of `H` heads with a block of groups, two vectors; they go to `scores[head][at..]`. Meanwhile as many bytes from `ahead` on are
/// fetched.
#[target_feature(enable = "avx512f,avx512dq,avx2,fma,f16c")]
#[inline(never)]
fn score<E: Element, const H: usize>(
    queries: &[f32],
    keys: &[[E; LANES]],
    scores: &mut [[f32; PAGE_TOKENS]],
    at: usize,
    ahead: *const u8,
) {
    let head_dim = queries.len() / H;
    assert!(queries.len() == H * head_dim && keys.len() == BLOCK_GROUPS * head_dim && scores.len() == H);
    let step = BLOCK_GROUPS * size_of::<[E; LANES]>();
    let mut sums = [[_mm512_setzero_ps(); 2]; H];
    for d in 0..head_dim {
        for byte in (0..step).step_by(64) {
            prefetch(ahead.wrapping_add(d * step + byte));
        }
        let group = |g: usize| {
            // SAFETY: `g < BLOCK_GROUPS` and `d < head_dim`, and there are `BLOCK_GROUPS * head_dim` vectors.
            unsafe { keys.get_unchecked(g * head_dim + d) }
        };
        let keys = [join_elements(group(0), group(1)), join_elements(group(2), group(3))];
        for (h, sums) in sums.iter_mut().enumerate() {
            // SAFETY: `h < H` and `d < head_dim`, and there are `H * head_dim` values.
            let query = _mm512_set1_ps(unsafe { *queries.get_unchecked(h * head_dim + d) });
            for (sum, key) in sums.iter_mut().zip(keys) {
                *sum = _mm512_fmadd_ps(query, key, *sum);
            }
        }
    }
    for (scores, sums) in scores.iter_mut().zip(sums) {
        let to = scores[at..][..BLOCK_GROUPS * LANES].as_chunks_mut().0;
        for (to, sum) in to.iter_mut().zip(sums) {
            store(to, sum);
        }
    }
}

/// Weighted sums of `H` heads, `C` vectors of sixteen channels at a time; they go to rows `row..` of `partial`.
#[target_feature(enable = "avx512f,avx512dq,avx2,fma,f16c")]
#[inline]
fn weigh<E: Element, const H: usize, const C: usize>(
    weights: &[[f32; PAGE_TOKENS]],
    values: &[[E; 8]],
    ahead: *const u8,
    partial: &mut Partial<'_>,
    row: usize,
) {
    let weights: &[_; H] = weights.try_into().expect("weights of H heads");
    let n_columns = partial.head_dim() / 8;
    let mut column = 0;
    while column < n_columns {
        column += match n_columns - column {
            n if n >= 2 * C => weigh_wide::<E, H, C>(weights, values, n_columns, column, ahead, partial, row),
            n if n >= 4 && C > 2 => {
                weigh_wide::<E, H, 2>(weights, values, n_columns, column, ahead, partial, row)
            }
            n if n >= 2 => weigh_wide::<E, H, 1>(weights, values, n_columns, column, ahead, partial, row),
            _ => {
                weigh_columns::<E, H, 1>(weights, values, n_columns, column, ahead, partial, row);
                1
            }
        };
    }
}

/// Of `2 · C` columns of eight channels from `column` on; returns how many those are.
#[target_feature(enable = "avx512f,avx512dq,avx2,fma,f16c")]
#[inline(never)]
#[allow(clippy::too_many_arguments, reason = "the innermost loop and what it needs")]
fn weigh_wide<E: Element, const H: usize, const C: usize>(
    weights: &[[f32; PAGE_TOKENS]; H],
    values: &[[E; 8]],
    n_columns: usize,
    column: usize,
    ahead: *const u8,
    partial: &mut Partial<'_>,
    row: usize,
) -> usize {
    let n_tokens = values.len() / n_columns;
    assert!(n_tokens <= PAGE_TOKENS && column + 2 * C <= n_columns);
    let step = 2 * C * size_of::<[E; 8]>();
    let ahead = ahead.wrapping_add(column * PAGE_TOKENS * size_of::<[E; 8]>());
    let mut sums = [[_mm512_setzero_ps(); C]; H];
    for (t, values) in values.chunks_exact(n_columns).enumerate() {
        for byte in (0..step).step_by(64) {
            prefetch(ahead.wrapping_add(t * step + byte));
        }
        let mut of_token = [_mm512_setzero_ps(); C];
        for (c, to) in of_token.iter_mut().enumerate() {
            // SAFETY: `column + 2 * c + 1 < n_columns`, the number of a token's vectors.
            let eight = |i: usize| unsafe { values.get_unchecked(column + 2 * c + i) };
            *to = join_elements(eight(0), eight(1));
        }
        for (h, sums) in sums.iter_mut().enumerate() {
            // SAFETY: `h < H` and `t < n_tokens <= PAGE_TOKENS`.
            let weight = _mm512_set1_ps(unsafe { *weights.get_unchecked(h).get_unchecked(t) });
            for (sum, value) in sums.iter_mut().zip(of_token) {
                *sum = _mm512_fmadd_ps(weight, value, *sum);
            }
        }
    }
    for (h, sums) in sums.iter().enumerate() {
        let out = &mut partial.out_mut(row + h)[column * 8..][..C * 16];
        for (to, sum) in out.as_chunks_mut().0.iter_mut().zip(sums) {
            store(to, *sum);
        }
    }
    2 * C
}
