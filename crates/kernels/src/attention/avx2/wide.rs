//! Prefill with vectors of 512 bits: the products of the other form in register blocks of 6 rows × 32 columns, each
//! sum in the same order.

use std::arch::x86_64::*;

use super::super::row_block::{PANEL_ROWS, RowBlock};
use super::weights_of_rows;
use crate::math::avx2::load as load8;
use crate::math::avx512::{join, load, store};
use crate::page::{LANES, PAGE_TOKENS, TILE_COLUMNS, Tile, softmax_avx512};

/// Tokens whose scores are computed together.
const SCORE_TOKENS: usize = 4 * LANES;

/// See [`attend_tile`](super::attend_tile).
#[target_feature(enable = "avx512f,avx512dq,avx2,fma,f16c")]
pub(super) fn attend_tile(block: &mut RowBlock, tile: &Tile) {
    let head_dim = block.head_dim();
    let mut parts = block.parts();
    for (at, keys) in (0..PAGE_TOKENS).step_by(SCORE_TOKENS).zip(tile.keys().chunks_exact(4 * head_dim)) {
        let panels = parts.weights.as_chunks_mut::<PANEL_ROWS>().0.iter_mut().zip(parts.limits);
        for (queries, (scores, limit)) in parts.queries.chunks_exact(head_dim).zip(panels) {
            if at < *limit {
                score(queries, keys, scores, at);
            }
        }
    }
    weights_of_rows(&mut parts, |weights, n_tokens| softmax_avx512(weights, n_tokens));
    let n_columns = head_dim.div_ceil(TILE_COLUMNS);
    let (keep, take) = (parts.keep.as_chunks().0, parts.take.as_chunks().0);
    let panels = parts.weights.as_chunks::<PANEL_ROWS>().0;
    for column in (0..n_columns).step_by(2) {
        for (panel, out) in parts.out.chunks_exact_mut(PANEL_ROWS * n_columns).enumerate() {
            let end = parts.limits[panel];
            if end == 0 {
                continue;
            }
            let place = Place { keep: &keep[panel], take: &take[panel], n_columns, column };
            if column + 1 < n_columns {
                weigh(&panels[panel], [column, column + 1].map(|c| &tile.values(c)[..end]), place, out);
            } else {
                weigh(&panels[panel], [&tile.values(column)[..end]], place, out);
            }
        }
    }
}

/// Scores of six rows with 32 tokens, four groups of `keys`; they go to columns `at..` of `scores`.
#[target_feature(enable = "avx512f,avx512dq,avx2,fma,f16c")]
#[inline]
fn score(
    queries: &[[f32; PANEL_ROWS]],
    keys: &[[f32; LANES]],
    scores: &mut [[f32; PAGE_TOKENS]; PANEL_ROWS],
    at: usize,
) {
    let head_dim = queries.len();
    assert!(keys.len() == 4 * head_dim);
    let (left, right) = keys.split_at(2 * head_dim);
    let [left, right] = [left, right].map(|half| half.split_at(head_dim));
    let both = |(low, high): (&[[f32; 8]], &[[f32; 8]]), d: usize| join(load8(&low[d]), load8(&high[d]));
    let mut sums = [[_mm512_setzero_ps(); 2]; PANEL_ROWS];
    for (d, query) in queries.iter().enumerate() {
        let (left, right) = (both(left, d), both(right, d));
        for (sums, q) in sums.iter_mut().zip(query) {
            let q = _mm512_set1_ps(*q);
            sums[0] = _mm512_fmadd_ps(q, left, sums[0]);
            sums[1] = _mm512_fmadd_ps(q, right, sums[1]);
        }
    }
    for (scores, sums) in scores.iter_mut().zip(sums) {
        let to = scores[at..][..SCORE_TOKENS].as_chunks_mut().0;
        store(&mut to[0], sums[0]);
        store(&mut to[1], sums[1]);
    }
}

/// Where weighted sums of a panel go, and how.
#[derive(Clone, Copy)]
struct Place<'a> {
    /// factors of the outputs and of the sums
    keep: &'a [f32; PANEL_ROWS],
    take: &'a [f32; PANEL_ROWS],
    n_columns: usize,
    column: usize,
}

/// Weighted sums of six rows over `C` times 16 channels, merged into the outputs of a panel, `[PANEL_ROWS][n_columns]` of 16
/// channels.
#[target_feature(enable = "avx512f,avx512dq,avx2,fma,f16c")]
#[inline]
fn weigh<const C: usize>(
    weights: &[[f32; PAGE_TOKENS]; PANEL_ROWS],
    values: [&[[f32; TILE_COLUMNS]]; C],
    place: Place<'_>,
    out: &mut [[f32; TILE_COLUMNS]],
) {
    let n_tokens = values[0].len();
    assert!(n_tokens <= PAGE_TOKENS && values.iter().all(|values| values.len() == n_tokens));
    let mut sums = [[_mm512_setzero_ps(); C]; PANEL_ROWS];
    for t in 0..n_tokens {
        let mut of_token = [_mm512_setzero_ps(); C];
        for (to, values) in of_token.iter_mut().zip(values) {
            *to = load(&values[t]);
        }
        for (sums, weights) in sums.iter_mut().zip(weights) {
            let weight = _mm512_set1_ps(weights[t]);
            for (sum, values) in sums.iter_mut().zip(of_token) {
                *sum = _mm512_fmadd_ps(weight, values, *sum);
            }
        }
    }
    let Place { keep, take, n_columns, column } = place;
    for (row, sums) in sums.iter().enumerate() {
        let (keep, take) = (_mm512_set1_ps(keep[row]), _mm512_set1_ps(take[row]));
        for (out, sum) in out[row * n_columns + column..].iter_mut().zip(sums) {
            store(out, _mm512_fmadd_ps(load(out), keep, _mm512_mul_ps(*sum, take)));
        }
    }
}
