//! The specification of every attention kernel: the formula of the module's documentation, one operation at a time.

use std::ops::Range;

use super::element::{Element, TypedHead};
use super::exp2::exp2;
use super::state::merge_sums;
use super::tile::{PANEL_ROWS, RowBlock, TILE_COLUMNS};
use super::{FRAME_TOKENS, GROUP_TOKENS, Partial, RANGE_TOKENS, Tile, TokenQueries};
use crate::math::across;

/// The larger, the second if one is NaN.
fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// Scores of one query with a group of tokens: `keys` is `[head_dim][8]`.
fn score_group(query: &[f32], keys: impl Iterator<Item = [f32; GROUP_TOKENS]>) -> [f32; GROUP_TOKENS] {
    let mut scores = [0.0f32; GROUP_TOKENS];
    for (q, keys) in query.iter().zip(keys) {
        for (s, k) in scores.iter_mut().zip(keys) {
            *s = q.mul_add(k, *s);
        }
    }
    scores
}

/// Turns the first `n_tokens` scores into weights, the others into 0; returns the maximum and the sum of the weights.
pub(super) fn softmax(scores: &mut [f32; RANGE_TOKENS], n_tokens: usize) -> (f32, f32) {
    scores[n_tokens..].fill(f32::NEG_INFINITY);
    let groups = scores.as_chunks_mut::<GROUP_TOKENS>().0;
    let mut max = [f32::NEG_INFINITY; GROUP_TOKENS];
    for group in groups.iter() {
        for (m, s) in max.iter_mut().zip(group) {
            *m = larger(*m, *s);
        }
    }
    let max = across(max, larger);
    let mut sum = [0.0; GROUP_TOKENS];
    for group in groups {
        for (l, s) in sum.iter_mut().zip(group) {
            *s = exp2(*s - max);
            *l += *s;
        }
    }
    (max, across(sum, |a, b| a + b))
}

/// See [`ExactHead::attend_token`](super::ExactHead::attend_token).
pub(super) fn attend_token<E: Element>(
    head: &TypedHead<'_, E>,
    tokens: Range<usize>,
    token: &mut TokenQueries,
    partial: &mut Partial<'_>,
) {
    let head_dim = head.head_dim;
    let (queries, weights) = token.by_frame();
    for (row, weights) in weights.iter_mut().enumerate() {
        let groups = head.keys.chunks_exact(head_dim).take(tokens.end.div_ceil(GROUP_TOKENS));
        for (index, (scores, keys)) in weights.as_chunks_mut().0.iter_mut().zip(groups).enumerate() {
            let query = &queries[index * GROUP_TOKENS / FRAME_TOKENS][row * head_dim..][..head_dim];
            *scores = score_group(query, keys.iter().map(|k| k.map(E::to_f32)));
        }
        weights[..tokens.start].fill(f32::NEG_INFINITY);
        let (max, sum) = softmax(weights, tokens.end);
        let out = partial.set(row, max, sum);
        out.fill(0.0);
        for (p, values) in weights[..tokens.end].iter().zip(head.values.as_flattened().chunks_exact(head_dim))
        {
            for (o, v) in out.iter_mut().zip(values) {
                *o = p.mul_add(v.to_f32(), *o);
            }
        }
    }
}

/// See [`ExactHead::load_tile`](super::ExactHead::load_tile).
pub(super) fn load_tile<E: Element>(head: &TypedHead<'_, E>, n_tokens: usize, tile: &mut Tile) {
    let n_groups = n_tokens.next_multiple_of(2 * GROUP_TOKENS) / GROUP_TOKENS;
    for (to, from) in tile.keys_mut().iter_mut().zip(&head.keys[..n_groups * head.head_dim]) {
        *to = from.map(E::to_f32);
    }
    for token in 0..n_tokens {
        let values = &head.values.as_flattened()[token * head.head_dim..][..head.head_dim];
        for (column, values) in values.chunks(TILE_COLUMNS).enumerate() {
            for (to, from) in tile.values_mut(column)[token].iter_mut().zip(values) {
                *to = from.to_f32();
            }
        }
    }
}

/// Attends from every row of the block to its tokens of a tile.
pub(super) fn attend_tile(block: &mut RowBlock, tile: &Tile) {
    let head_dim = block.head_dim();
    for row in 0..block.n_rows() {
        let parts = block.parts();
        let (start, n_tokens) = (parts.starts[row], parts.ends[row]);
        if n_tokens == 0 {
            continue;
        }
        let queries = &parts.queries[row / PANEL_ROWS * head_dim..][..head_dim];
        let query: Vec<f32> = queries.iter().map(|q| q[row % PANEL_ROWS]).collect();
        let weights = &mut parts.weights[row];
        for (scores, keys) in weights.as_chunks_mut().0.iter_mut().zip(tile.keys().chunks_exact(head_dim)) {
            *scores = score_group(&query, keys.iter().copied());
        }
        weights[..start].fill(f32::NEG_INFINITY);
        let (max, sum) = softmax(weights, n_tokens);
        let (keep, take, max, sum) = merge_sums((parts.max[row], parts.sum[row]), (max, sum));
        (parts.max[row], parts.sum[row]) = (max, sum);
        let columns = head_dim.div_ceil(TILE_COLUMNS);
        for column in 0..columns {
            let mut acc = [0.0f32; TILE_COLUMNS];
            for (p, values) in weights[..n_tokens].iter().zip(tile.values(column)) {
                for (o, v) in acc.iter_mut().zip(values) {
                    *o = p.mul_add(*v, *o);
                }
            }
            for (o, x) in parts.out[row * columns + column].iter_mut().zip(acc) {
                *o = o.mul_add(keep, x * take);
            }
        }
    }
}
