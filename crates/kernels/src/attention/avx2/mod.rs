//! Prefill: a block of query rows against one page as float32.
//!
//! Two matrix products around a softmax. What makes it fast:
//! 1. A register block of 6 rows × 16 columns: 12 sums in flight, 8 loads for 12 FMAs.
//! 2. Panels of queries are interleaved by 6 and tiles by 16 columns, so every load is from the next address; a tile's
//!    16 columns stay in L1 while all panels pass.
//! 3. Scores, weights and outputs of the block never leave L2.
//! 4. Under the causal diagonal a panel stops at the last token that one of its rows sees.

mod wide;

use std::arch::x86_64::*;

use super::row_block::{PANEL_ROWS, RowBlock, RowBlockParts};
use crate::isa::Extension;
use crate::math::avx2::{load, splat, store};
use crate::page::{LANES, PAGE_TOKENS, TILE_COLUMNS, Tile, merge_sums, softmax_avx2};

/// Tokens whose scores are computed together.
const SCORE_TOKENS: usize = 2 * LANES;

/// Attends from every row of the block to its tokens of a tile.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn attend_tile(extension: Extension, block: &mut RowBlock, tile: &Tile) {
    if let Extension::Avx512(_) = extension {
        // SAFETY: an `Avx512` exists only if detection saw all that is used.
        return unsafe { wide::attend_tile(block, tile) };
    }
    let head_dim = block.head_dim();
    let mut parts = block.parts();
    for (at, keys) in (0..PAGE_TOKENS).step_by(SCORE_TOKENS).zip(tile.keys().chunks_exact(2 * head_dim)) {
        let (left, right) = keys.split_at(head_dim);
        let panels = parts.weights.as_chunks_mut::<PANEL_ROWS>().0.iter_mut().zip(parts.limits);
        for (queries, (scores, limit)) in parts.queries.chunks_exact(head_dim).zip(panels) {
            if at < *limit {
                score(queries, left, right, scores, at);
            }
        }
    }
    weights_of_rows(&mut parts);
    let n_columns = head_dim.div_ceil(TILE_COLUMNS);
    let (keep, take) = (parts.keep.as_chunks().0, parts.take.as_chunks().0);
    let panels = parts.weights.as_chunks::<PANEL_ROWS>().0;
    for column in 0..n_columns {
        let values = tile.values(column);
        for (panel, out) in parts.out.chunks_exact_mut(PANEL_ROWS * n_columns).enumerate() {
            let end = parts.limits[panel];
            if end > 0 {
                let sums = weigh(&panels[panel], &values[..end]);
                merge(&sums, &keep[panel], &take[panel], out, n_columns, column);
            }
        }
    }
}

/// Turns the scores of all rows into weights, and finds how their states merge with those of the tile. Weights that a row
/// does not have, but another one of its panel, are 0.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn weights_of_rows(parts: &mut RowBlockParts<'_>) {
    for (row, weights) in parts.weights.iter_mut().enumerate() {
        let (n_tokens, end) = (parts.ends[row], parts.limits[row / PANEL_ROWS]);
        (parts.keep[row], parts.take[row]) = (1.0, 0.0);
        if n_tokens == 0 {
            weights[..end].fill(0.0);
            continue;
        }
        weights[..parts.starts[row]].fill(f32::NEG_INFINITY);
        let partial = softmax_avx2(weights, n_tokens);
        weights[n_tokens..end.max(n_tokens)].fill(0.0);
        let state = (parts.max[row], parts.sum[row]);
        (parts.keep[row], parts.take[row], parts.max[row], parts.sum[row]) = merge_sums(state, partial);
    }
}

/// Scores of six rows with 16 tokens; they go to columns `at..` of `scores`.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn score(
    queries: &[[f32; PANEL_ROWS]],
    left: &[[f32; LANES]],
    right: &[[f32; LANES]],
    scores: &mut [[f32; PAGE_TOKENS]; PANEL_ROWS],
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
    weights: &[[f32; PAGE_TOKENS]; PANEL_ROWS],
    values: &[[f32; TILE_COLUMNS]],
) -> [[__m256; 2]; PANEL_ROWS] {
    assert!(values.len() <= PAGE_TOKENS);
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
