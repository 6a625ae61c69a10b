//! Prefill: a block of query rows against one range as float32.
//!
//! Two matrix products around a softmax. What makes it fast:
//! 1. A register block of 6 rows × 16 columns: 12 sums in flight, 8 loads for 12 FMAs.
//! 2. Panels of queries are interleaved by 6 and tiles by 16 columns, so every load is from the next address; a tile's
//!    16 columns stay in L1 while all panels pass.
//! 3. Scores, weights and outputs of the block never leave L2.
//! 4. Under the causal diagonal a panel stops at the last token that one of its rows sees.

use std::arch::x86_64::*;

use super::super::element::{Element, TypedHead};
use super::super::state::merge_sums;
use super::super::tile::{PANEL_ROWS, RowBlock, TILE_COLUMNS};
use super::super::{GROUP_TOKENS, RANGE_TOKENS, Tile};
use super::{load_elements, softmax, splat};
use crate::math::avx2::{load, store};

/// Tokens whose scores are computed together.
const SCORE_TOKENS: usize = 2 * GROUP_TOKENS;

/// See [`ExactHead::load_tile`](super::super::ExactHead::load_tile).
#[target_feature(enable = "avx2,fma,f16c")]
pub(in super::super) fn load_tile<E: Element>(head: &TypedHead<'_, E>, n_tokens: usize, tile: &mut Tile) {
    let head_dim = head.head_dim;
    let n_keys = n_tokens.next_multiple_of(SCORE_TOKENS) / GROUP_TOKENS * head_dim;
    for (to, from) in tile.keys_mut().iter_mut().zip(&head.keys[..n_keys]) {
        store(to, load_elements(from));
    }
    let n_vectors = head_dim / 8;
    for column in 0..head_dim.div_ceil(TILE_COLUMNS) {
        let rows = tile.values_mut(column)[..n_tokens].iter_mut();
        for (to, from) in rows.zip(head.values.chunks_exact(n_vectors)) {
            for (to, from) in to.as_chunks_mut().0.iter_mut().zip(&from[2 * column..]) {
                store(to, load_elements(from));
            }
        }
    }
}

/// Attends from every row of the block to its tokens of a tile.
#[target_feature(enable = "avx2,fma,f16c")]
pub(in super::super) fn attend_tile(block: &mut RowBlock, tile: &Tile) {
    let head_dim = block.head_dim();
    let parts = block.parts();
    let limit = |panel: usize| parts.limits[panel];
    let panels = parts.weights.as_chunks_mut::<PANEL_ROWS>().0;

    let pairs = tile.keys().chunks_exact(2 * head_dim);
    for (at, keys) in (0..RANGE_TOKENS).step_by(SCORE_TOKENS).zip(pairs) {
        let (left, right) = keys.split_at(head_dim);
        for (panel, queries) in parts.queries.chunks_exact(head_dim).enumerate() {
            if at < limit(panel) {
                score(queries, left, right, &mut panels[panel], at);
            }
        }
    }

    for (panel, weights) in panels.iter_mut().enumerate() {
        let end = limit(panel);
        for (index, weights) in weights.iter_mut().enumerate() {
            let row = panel * PANEL_ROWS + index;
            let n_tokens = parts.ends[row];
            let partial = if n_tokens == 0 {
                weights[..end].fill(0.0);
                (f32::NEG_INFINITY, 0.0)
            } else {
                weights[..parts.starts[row]].fill(f32::NEG_INFINITY);
                let partial = softmax(weights, n_tokens);
                weights[n_tokens..end.max(n_tokens)].fill(0.0);
                partial
            };
            (parts.keep[row], parts.take[row]) = (1.0, 0.0);
            if n_tokens > 0 {
                let state = (parts.max[row], parts.sum[row]);
                (parts.keep[row], parts.take[row], parts.max[row], parts.sum[row]) =
                    merge_sums(state, partial);
            }
        }
    }

    let n_columns = head_dim.div_ceil(TILE_COLUMNS);
    let (keep, take) = (parts.keep.as_chunks().0, parts.take.as_chunks().0);
    for column in 0..n_columns {
        let values = tile.values(column);
        for (panel, out) in parts.out.chunks_exact_mut(PANEL_ROWS * n_columns).enumerate() {
            let end = limit(panel);
            if end > 0 {
                let sums = weigh(&panels[panel], &values[..end]);
                merge(&sums, &keep[panel], &take[panel], out, n_columns, column);
            }
        }
    }
}

/// Scores of six rows with 16 tokens; they go to columns `at..` of `scores`.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn score(
    queries: &[[f32; PANEL_ROWS]],
    left: &[[f32; GROUP_TOKENS]],
    right: &[[f32; GROUP_TOKENS]],
    scores: &mut [[f32; RANGE_TOKENS]; PANEL_ROWS],
    at: usize,
) {
    let mut sums = [[_mm256_setzero_ps(); 2]; PANEL_ROWS];
    for ((query, left), right) in queries.iter().zip(left).zip(right) {
        let (left, right) = (load(left), load(right));
        for (sums, q) in sums.iter_mut().zip(query) {
            let q = splat(*q);
            sums[0] = _mm256_fmadd_ps(q, left, sums[0]);
            sums[1] = _mm256_fmadd_ps(q, right, sums[1]);
        }
    }
    for (scores, sums) in scores.iter_mut().zip(sums) {
        let to = scores[at..][..SCORE_TOKENS].as_chunks_mut().0;
        store(&mut to[0], sums[0]);
        store(&mut to[1], sums[1]);
    }
}

/// Weighted sums of six rows over 16 channels.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn weigh(
    weights: &[[f32; RANGE_TOKENS]; PANEL_ROWS],
    values: &[[f32; TILE_COLUMNS]],
) -> [[__m256; 2]; PANEL_ROWS] {
    assert!(values.len() <= RANGE_TOKENS);
    let mut sums = [[_mm256_setzero_ps(); 2]; PANEL_ROWS];
    for (t, values) in values.iter().enumerate() {
        let halves = values.as_chunks().0;
        let (left, right) = (load(&halves[0]), load(&halves[1]));
        for (sums, weights) in sums.iter_mut().zip(weights) {
            let p = splat(weights[t]);
            sums[0] = _mm256_fmadd_ps(p, left, sums[0]);
            sums[1] = _mm256_fmadd_ps(p, right, sums[1]);
        }
    }
    sums
}

/// Merges the sums into the outputs of a panel, `[PANEL_ROWS][n_columns]` of 16 channels.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn merge(
    sums: &[[__m256; 2]; PANEL_ROWS],
    keep: &[f32; PANEL_ROWS],
    take: &[f32; PANEL_ROWS],
    out: &mut [[f32; TILE_COLUMNS]],
    n_columns: usize,
    column: usize,
) {
    for (row, sums) in sums.iter().enumerate() {
        let out = out[row * n_columns + column].as_chunks_mut().0;
        for (out, sum) in out.iter_mut().zip(sums) {
            let taken = _mm256_mul_ps(*sum, splat(take[row]));
            store(out, _mm256_fmadd_ps(load(out), splat(keep[row]), taken));
        }
    }
}
