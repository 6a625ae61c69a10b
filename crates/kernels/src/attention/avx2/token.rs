//! Decode: one token's query heads against one stored range.
//!
//! Scores, softmax and weighted sum of one range, for all heads that share the KV head. What makes it fast:
//! 1. Stored bytes are read from memory once: keys in blocks of 32 tokens and all heads per block, values in columns of
//!    the range, which stays in L1 meanwhile.
//! 2. A vector of keys is eight tokens, so a score is a lane: no sum across lanes, and one conversion from f16 serves
//!    all heads. Heads × groups (or columns) are 8 to 12 independent sums, enough to hide the latency of FMA.
//! 3. While a block is used the next one is fetched, across the border from keys to values and to the next range.

use std::arch::x86_64::*;

use super::super::element::{Element, TypedHead};
use super::super::{GROUP_TOKENS, Partial, RANGE_TOKENS, TokenQueries};
use super::{load_elements, prefetch, softmax, splat, store};

/// Groups of tokens whose keys are fetched ahead.
const BLOCK_GROUPS: usize = 4;
/// Tokens whose values are fetched ahead.
const AHEAD_TOKENS: usize = 32;
/// Most heads whose sums are in registers at once.
const MAX_HEADS: usize = 6;

/// See [`ExactHead::attend_token`](super::super::ExactHead::attend_token).
#[target_feature(enable = "avx2,fma,f16c")]
pub(in super::super) fn attend_token<E: Element>(
    head: &TypedHead<'_, E>,
    n_tokens: usize,
    token: &mut TokenQueries,
    next: Option<&[u8]>,
    partial: &mut Partial<'_>,
) {
    let head_dim = head.head_dim;
    let (queries, weights) = token.parts();
    // Heads in as few parts as possible, of equal size as near as possible.
    let n_parts = weights.len().div_ceil(MAX_HEADS);
    let part_len = weights.len().div_ceil(n_parts);
    for start in (0..n_tokens.div_ceil(GROUP_TOKENS)).step_by(BLOCK_GROUPS) {
        let keys = &head.keys[start * head_dim..][..BLOCK_GROUPS * head_dim];
        let parts = queries.chunks(part_len * head_dim).zip(weights.chunks_mut(part_len));
        for (queries, weights) in parts {
            let at = start * GROUP_TOKENS;
            match weights.len() {
                1 => score_block::<E, 1, 4>(queries, keys, weights, at),
                2 => score_block::<E, 2, 4>(queries, keys, weights, at),
                3 => score_block::<E, 3, 4>(queries, keys, weights, at),
                4 => score_block::<E, 4, 2>(queries, keys, weights, at),
                5 => score_block::<E, 5, 2>(queries, keys, weights, at),
                _ => score_block::<E, 6, 2>(queries, keys, weights, at),
            }
        }
    }
    for (row, weights) in weights.iter_mut().enumerate() {
        let (max, sum) = softmax(weights, n_tokens);
        partial.set(row, max, sum);
    }
    let values = &head.values[..n_tokens * head_dim / 8];
    for (part, weights) in weights.chunks(part_len).enumerate() {
        let row = part * part_len;
        match weights.len() {
            1 => weigh::<E, 1, 8>(weights, values, next, partial, row),
            2 => weigh::<E, 2, 4>(weights, values, next, partial, row),
            3 => weigh::<E, 3, 4>(weights, values, next, partial, row),
            4 => weigh::<E, 4, 2>(weights, values, next, partial, row),
            5 => weigh::<E, 5, 2>(weights, values, next, partial, row),
            _ => weigh::<E, 6, 2>(weights, values, next, partial, row),
        }
    }
}

/// Scores of `H` heads with a block of groups, `G` of them at a time; they go to `scores[head][at..]`.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn score_block<E: Element, const H: usize, const G: usize>(
    queries: &[f32],
    keys: &[[E; GROUP_TOKENS]],
    scores: &mut [[f32; RANGE_TOKENS]],
    at: usize,
) {
    let head_dim = queries.len() / H;
    let scores: &mut [_; H] = scores.try_into().expect("scores of H heads");
    let ahead = keys.as_ptr_range().end.cast::<u8>();
    for (index, keys) in keys.chunks_exact(G * head_dim).enumerate() {
        let ahead = ahead.wrapping_add(index * size_of_val(keys));
        let sums = score_groups::<E, H, G>(queries, keys, ahead);
        for (scores, sums) in scores.iter_mut().zip(sums) {
            let to = &mut scores[at + index * G * GROUP_TOKENS..][..G * GROUP_TOKENS];
            for (to, sum) in to.as_chunks_mut().0.iter_mut().zip(sums) {
                store(to, sum);
            }
        }
    }
}

/// Scores of `H` heads with `G` groups; meanwhile as many bytes from `ahead` on are fetched.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn score_groups<E: Element, const H: usize, const G: usize>(
    queries: &[f32],
    keys: &[[E; GROUP_TOKENS]],
    ahead: *const u8,
) -> [[__m256; G]; H] {
    let head_dim = queries.len() / H;
    let mut query = [&queries[..0]; H];
    for (query, part) in query.iter_mut().zip(queries.chunks_exact(head_dim)) {
        *query = part;
    }
    let mut group = [&keys[..0]; G];
    for (group, part) in group.iter_mut().zip(keys.chunks_exact(head_dim)) {
        *group = part;
    }
    let mut sums = [[_mm256_setzero_ps(); G]; H];
    for d in 0..head_dim {
        for byte in (0..G * size_of::<[E; GROUP_TOKENS]>()).step_by(64) {
            prefetch(ahead.wrapping_add(d * G * size_of::<[E; GROUP_TOKENS]>() + byte));
        }
        let mut k = [_mm256_setzero_ps(); G];
        for g in 0..G {
            // SAFETY: every group has `head_dim` vectors.
            k[g] = load_elements(unsafe { group[g].get_unchecked(d) });
        }
        for h in 0..H {
            // SAFETY: every query has `head_dim` values.
            let q = splat(unsafe { *query[h].get_unchecked(d) });
            for g in 0..G {
                sums[h][g] = _mm256_fmadd_ps(q, k[g], sums[h][g]);
            }
        }
    }
    sums
}

/// Weighted sums of `H` heads, `C` vectors of channels at a time; they go to rows `row..` of `partial`.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn weigh<E: Element, const H: usize, const C: usize>(
    weights: &[[f32; RANGE_TOKENS]],
    values: &[[E; 8]],
    next: Option<&[u8]>,
    partial: &mut Partial<'_>,
    row: usize,
) {
    let weights: &[_; H] = weights.try_into().expect("weights of H heads");
    let n_columns = partial.head_dim() / 8;
    let mut column = 0;
    while column < n_columns {
        let n = n_columns - column;
        // Only the first pass finds the values outside of L1.
        if row == 0 && column == 0 && n >= C {
            weigh_columns::<E, H, C, true>(weights, values, n_columns, column, next, partial, row);
            column += C;
        } else if n >= C {
            weigh_columns::<E, H, C, false>(weights, values, n_columns, column, next, partial, row);
            column += C;
        } else if n >= 2 {
            weigh_columns::<E, H, 2, false>(weights, values, n_columns, column, next, partial, row);
            column += 2;
        } else {
            weigh_columns::<E, H, 1, false>(weights, values, n_columns, column, next, partial, row);
            column += 1;
        }
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
#[allow(clippy::too_many_arguments, reason = "the innermost loop and what it needs")]
fn weigh_columns<E: Element, const H: usize, const C: usize, const FETCH: bool>(
    weights: &[[f32; RANGE_TOKENS]; H],
    values: &[[E; 8]],
    n_columns: usize,
    column: usize,
    next: Option<&[u8]>,
    partial: &mut Partial<'_>,
    row: usize,
) {
    let n_tokens = values.len() / n_columns;
    assert!(n_tokens <= RANGE_TOKENS && column + C <= n_columns);
    let token_bytes = n_columns * size_of::<[E; 8]>();
    // Behind the last values of the range comes the next range.
    let end = values.as_ptr_range().end.cast::<u8>();
    let next = next.map_or(end, <[u8]>::as_ptr);
    let mut sums = [[_mm256_setzero_ps(); C]; H];
    for t in 0..n_tokens {
        if FETCH {
            let ahead = t + AHEAD_TOKENS;
            let from = if ahead < n_tokens {
                values.as_ptr().cast::<u8>().wrapping_add(ahead * token_bytes)
            } else {
                next.wrapping_add((ahead - n_tokens) * token_bytes)
            };
            for byte in (0..token_bytes).step_by(64) {
                prefetch(from.wrapping_add(byte));
            }
        }
        let mut v = [_mm256_setzero_ps(); C];
        for c in 0..C {
            // SAFETY: `t < n_tokens` and `column + c < n_columns`.
            v[c] = load_elements(unsafe { values.get_unchecked(t * n_columns + column + c) });
        }
        for h in 0..H {
            let p = splat(weights[h][t]);
            for c in 0..C {
                sums[h][c] = _mm256_fmadd_ps(p, v[c], sums[h][c]);
            }
        }
    }
    for (h, sums) in sums.iter().enumerate() {
        let out = &mut partial.out_mut(row + h)[column * 8..][..C * 8];
        for (to, sum) in out.as_chunks_mut().0.iter_mut().zip(sums) {
            store(to, *sum);
        }
    }
}
