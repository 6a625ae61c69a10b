//! Decode: one token's query heads against one stored page.
//!
//! Scores, softmax and weighted sum of one page, for all heads that share the KV head. What makes it fast:
//! 1. Stored bytes are read from memory once: keys in blocks of 32 tokens and all heads per block, values in columns of
//!    the page, which stays in L1 meanwhile.
//! 2. A vector of keys is eight tokens, so a score is a lane: no sum across lanes, and one conversion from f16 serves
//!    all heads. Heads × groups (or columns) are 8 to 12 independent sums, enough to hide the latency of FMA.
//! 3. While keys are read, the values that lie as far from their beginning are fetched, and while values are read, the
//!    next page's keys: a page's bytes are on their way a whole pass before they are used.

use std::arch::x86_64::*;
use std::ops::Range;

use super::super::{Element, TypedHead};
use super::{load_elements, wide};
use crate::isa::Extension;
use crate::math::avx2::{prefetch, splat, store};
use crate::page::{FRAME_TOKENS, LANES, PAGE_TOKENS, Partial, TokenQueries, softmax_avx2};

/// Groups of tokens whose keys are read for all heads before the next ones.
pub(super) const BLOCK_GROUPS: usize = 4;
/// Most heads whose sums are in registers at once.
const MAX_HEADS: usize = 8;

/// See [`ExactHead::attend_token`](super::super::ExactHead::attend_token).
#[target_feature(enable = "avx2,fma,f16c")]
pub(in super::super) fn attend_token<E: Element>(
    extension: Extension,
    head: &TypedHead<'_, E>,
    tokens: Range<usize>,
    token: &mut TokenQueries,
    next: Option<&[u8]>,
    partial: &mut Partial<'_>,
) {
    if let Extension::Avx512(_) = extension {
        // SAFETY: an `Avx512` exists only if detection saw all that is used.
        return unsafe { wide::attend_token(head, tokens, token, next, partial) };
    }
    attend_with(
        head,
        tokens,
        token,
        next,
        partial,
        |queries, keys, scores, at, ahead| match scores.len() {
            1 => score_block::<E, 1, 4>(queries, keys, scores, at, ahead),
            2 => score_block::<E, 2, 4>(queries, keys, scores, at, ahead),
            3 => score_block::<E, 3, 4>(queries, keys, scores, at, ahead),
            4 => score_block::<E, 4, 2>(queries, keys, scores, at, ahead),
            5 => score_block::<E, 5, 2>(queries, keys, scores, at, ahead),
            6 => score_block::<E, 6, 2>(queries, keys, scores, at, ahead),
            7 => score_block::<E, 7, 1>(queries, keys, scores, at, ahead),
            _ => score_block::<E, 8, 1>(queries, keys, scores, at, ahead),
        },
        |scores, n_tokens| softmax_avx2(scores, n_tokens),
        |weights, values, ahead, partial, row| match weights.len() {
            1 => weigh::<E, 1, 8>(weights, values, ahead, partial, row),
            2 => weigh::<E, 2, 4>(weights, values, ahead, partial, row),
            3 => weigh::<E, 3, 3>(weights, values, ahead, partial, row),
            4 => weigh::<E, 4, 2>(weights, values, ahead, partial, row),
            5 => weigh::<E, 5, 2>(weights, values, ahead, partial, row),
            6 => weigh::<E, 6, 2>(weights, values, ahead, partial, row),
            7 => weigh::<E, 7, 1>(weights, values, ahead, partial, row),
            _ => weigh::<E, 8, 1>(weights, values, ahead, partial, row),
        },
    );
}

/// Attends with the kernels of an instruction set, for up to [`MAX_HEADS`] heads at once:
/// - `score(queries, keys, scores, at, ahead)`: scores with a block of groups, which go to columns `at..`;
/// - `softmax`: see [`softmax`](crate::page::softmax);
/// - `weigh(weights, values, ahead, partial, row)`: weighted sums, which go to rows `row..` of `partial`.
///
/// They fetch as many bytes from `ahead` on as they read.
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "what is asked, and the three parts of the answer")]
pub(super) fn attend_with<E: Element>(
    head: &TypedHead<'_, E>,
    tokens: Range<usize>,
    token: &mut TokenQueries,
    next: Option<&[u8]>,
    partial: &mut Partial<'_>,
    score: impl Fn(&[f32], &[[E; LANES]], &mut [[f32; PAGE_TOKENS]], usize, *const u8),
    softmax: impl Fn(&mut [f32; PAGE_TOKENS], usize) -> (f32, f32),
    weigh: impl Fn(&[[f32; PAGE_TOKENS]], &[[E; 8]], *const u8, &mut Partial<'_>, usize),
) {
    let head_dim = head.head_dim;
    let (queries, weights) = token.by_frame();
    // Heads in as few parts as possible, of equal size as near as possible.
    let n_parts = weights.len().div_ceil(MAX_HEADS);
    let part_len = weights.len().div_ceil(n_parts);
    for start in (0..tokens.end.div_ceil(LANES)).step_by(BLOCK_GROUPS) {
        let keys = &head.keys[start * head_dim..][..BLOCK_GROUPS * head_dim];
        let ahead = head.values[start * head_dim..].as_ptr().cast::<u8>();
        let at = start * LANES;
        let queries = queries[at / FRAME_TOKENS];
        for (queries, scores) in queries.chunks(part_len * head_dim).zip(weights.chunks_mut(part_len)) {
            score(queries, keys, scores, at, ahead);
        }
    }
    for (row, weights) in weights.iter_mut().enumerate() {
        weights[..tokens.start].fill(f32::NEG_INFINITY);
        let (max, sum) = softmax(weights, tokens.end);
        partial.set(row, max, sum);
    }
    let values = &head.values[..tokens.end * head_dim / 8];
    let ahead = next.map_or(values.as_ptr().cast(), <[u8]>::as_ptr);
    for (part, weights) in weights.chunks(part_len).enumerate() {
        weigh(weights, values, ahead, partial, part * part_len);
    }
}

/// Scores of `H` heads with a block of groups, `G` of them at a time; they go to `scores[head][at..]`.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn score_block<E: Element, const H: usize, const G: usize>(
    queries: &[f32],
    keys: &[[E; LANES]],
    scores: &mut [[f32; PAGE_TOKENS]],
    at: usize,
    ahead: *const u8,
) {
    let head_dim = queries.len() / H;
    let scores: &mut [_; H] = scores.try_into().expect("scores of H heads");
    for (index, keys) in keys.chunks_exact(G * head_dim).enumerate() {
        let ahead = ahead.wrapping_add(index * size_of_val(keys));
        score_groups::<E, H, G>(queries, keys, scores, at + index * G * LANES, ahead);
    }
}

/// Scores of `H` heads with `G` groups. Meanwhile as many bytes from `ahead` on are fetched.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline(never)]
fn score_groups<E: Element, const H: usize, const G: usize>(
    queries: &[f32],
    keys: &[[E; LANES]],
    scores: &mut [[f32; PAGE_TOKENS]; H],
    at: usize,
    ahead: *const u8,
) {
    let head_dim = queries.len() / H;
    assert!(queries.len() == H * head_dim && keys.len() == G * head_dim);
    let step = G * size_of::<[E; LANES]>();
    let mut sums = [[_mm256_setzero_ps(); G]; H];
    for d in 0..head_dim {
        for byte in (0..step).step_by(64) {
            prefetch(ahead.wrapping_add(d * step + byte));
        }
        let query = |h: usize| {
            // SAFETY: `h < H` and `d < head_dim`, and there are `H * head_dim` values.
            splat(unsafe { *queries.get_unchecked(h * head_dim + d) })
        };
        let key = |g: usize| {
            // SAFETY: `g < G` and `d < head_dim`, and there are `G * head_dim` vectors.
            load_elements(unsafe { keys.get_unchecked(g * head_dim + d) })
        };
        outer_product(&mut sums, query, key);
    }
    for (scores, sums) in scores.iter_mut().zip(sums) {
        let to = &mut scores[at..][..G * LANES];
        for (to, sum) in to.as_chunks_mut().0.iter_mut().zip(sums) {
            store(to, sum);
        }
    }
}

/// `sums[h][c] += left(h) · right(c)`. Of the two sides the shorter one is held in registers, so that sums and operands
/// are 16 at most.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
#[allow(clippy::needless_range_loop, reason = "indices that are constants once the loops are unrolled")]
fn outer_product<const H: usize, const C: usize>(
    sums: &mut [[__m256; C]; H],
    left: impl Fn(usize) -> __m256,
    right: impl Fn(usize) -> __m256,
) {
    if H < C {
        let mut x = [_mm256_setzero_ps(); H];
        for h in 0..H {
            x[h] = left(h);
        }
        for c in 0..C {
            let y = right(c);
            for h in 0..H {
                sums[h][c] = _mm256_fmadd_ps(x[h], y, sums[h][c]);
            }
        }
    } else {
        let mut y = [_mm256_setzero_ps(); C];
        for c in 0..C {
            y[c] = right(c);
        }
        for h in 0..H {
            let x = left(h);
            for c in 0..C {
                sums[h][c] = _mm256_fmadd_ps(x, y[c], sums[h][c]);
            }
        }
    }
}

/// Weighted sums of `H` heads, `C` vectors of channels at a time; they go to rows `row..` of `partial`.
#[target_feature(enable = "avx2,fma,f16c")]
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
        let n = n_columns - column;
        let n = if n >= C { C } else { n.min(2) };
        match n {
            1 => weigh_columns::<E, H, 1>(weights, values, n_columns, column, ahead, partial, row),
            2 if C > 2 => weigh_columns::<E, H, 2>(weights, values, n_columns, column, ahead, partial, row),
            _ => weigh_columns::<E, H, C>(weights, values, n_columns, column, ahead, partial, row),
        }
        column += n;
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline(never)]
#[allow(clippy::too_many_arguments, reason = "the innermost loop and what it needs")]
pub(super) fn weigh_columns<E: Element, const H: usize, const C: usize>(
    weights: &[[f32; PAGE_TOKENS]; H],
    values: &[[E; 8]],
    n_columns: usize,
    column: usize,
    ahead: *const u8,
    partial: &mut Partial<'_>,
    row: usize,
) {
    let n_tokens = values.len() / n_columns;
    assert!(n_tokens <= PAGE_TOKENS && column + C <= n_columns);
    let step = C * size_of::<[E; 8]>();
    let ahead = ahead.wrapping_add(column * PAGE_TOKENS * size_of::<[E; 8]>());
    let mut sums = [[_mm256_setzero_ps(); C]; H];
    for (t, values) in values.chunks_exact(n_columns).enumerate() {
        for byte in (0..step).step_by(64) {
            prefetch(ahead.wrapping_add(t * step + byte));
        }
        let weight = |h: usize| {
            // SAFETY: `h < H` and `t < n_tokens <= PAGE_TOKENS`.
            splat(unsafe { *weights.get_unchecked(h).get_unchecked(t) })
        };
        let value = |c: usize| {
            // SAFETY: `column + c < n_columns`, the number of a token's vectors.
            load_elements(unsafe { values.get_unchecked(column + c) })
        };
        outer_product(&mut sums, weight, value);
    }
    for (h, sums) in sums.iter().enumerate() {
        let out = &mut partial.out_mut(row + h)[column * 8..][..C * 8];
        for (to, sum) in out.as_chunks_mut().0.iter_mut().zip(sums) {
            store(to, *sum);
        }
    }
}
