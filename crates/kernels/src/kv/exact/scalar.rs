//! The specification of exact storage: attention's formula and the conversion to a tile, one operation at a time.

use std::ops::Range;

use super::{Element, TypedHead};
use crate::page::{FRAME_TOKENS, LANES, Partial, TILE_COLUMNS, Tile, TokenQueries, score_lanes, softmax};

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
        let groups = head.keys.chunks_exact(head_dim).take(tokens.end.div_ceil(LANES));
        for (index, (scores, keys)) in weights.as_chunks_mut().0.iter_mut().zip(groups).enumerate() {
            let query = &queries[index * LANES / FRAME_TOKENS][row * head_dim..][..head_dim];
            *scores = score_lanes(query, keys.iter().map(|k| k.map(E::to_f32)));
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
    let n_groups = n_tokens.next_multiple_of(2 * LANES) / LANES;
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
