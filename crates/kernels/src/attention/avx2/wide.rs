//! Prefill with vectors of 512 bits: the products of the other form in register blocks of 6 rows × 32 columns, each
//! sum in the same order.
//!
//! 1. Keys are put together in vectors of sixteen tokens once for all rows.
//! 2. Three rows go through softmax side by side: sums of eight lanes, one after the other, would leave units idle.
//! 3. States of sixteen rows are merged at once.

use std::arch::x86_64::*;

use super::super::row_block::{PANEL_ROWS, RowBlock, RowBlockParts};
use crate::math::avx2::load as load8;
use crate::math::avx512::{join, load, store};
use crate::math::exp2_avx512;
use crate::page::{LANES, PAGE_TOKENS, TILE_COLUMNS, Tile, softmax_avx512, softmax_rows_avx512};
use crate::simd::{load_some_floats, store_some_floats};

/// Tokens whose scores are computed together.
const SCORE_TOKENS: usize = 4 * LANES;
/// Rows that go through softmax together.
const SOFTMAX_ROWS: usize = PANEL_ROWS / 2;

/// See [`attend_tile`](super::attend_tile).
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,avx2,fma,f16c")]
pub(super) fn attend_tile(block: &mut RowBlock, tile: &Tile) {
    let head_dim = block.head_dim();
    block.reserve_keys();
    let mut parts = block.parts();
    let end = parts.limits.iter().copied().max().unwrap_or(0);
    let keys_of_tile = tile.keys().chunks_exact(4 * head_dim);
    for (at, eights) in (0..end).step_by(SCORE_TOKENS).zip(keys_of_tile) {
        let keys = &mut parts.keys.as_chunks_mut().0.as_chunks_mut().0[..head_dim];
        join_keys(eights, keys);
        let panels = parts.weights.as_chunks_mut::<PANEL_ROWS>().0.iter_mut().zip(parts.limits);
        for (queries, (scores, limit)) in parts.queries.chunks_exact(head_dim).zip(panels) {
            if at < *limit {
                score(queries, keys, scores, at);
            }
        }
    }
    weights_of_rows(&mut parts);
    merge_states(&mut parts);
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

/// Keys of 32 tokens, by channel; `eights` are four groups of eight.
#[target_feature(enable = "avx512f,avx512dq,avx2,fma,f16c")]
#[inline]
fn join_keys(eights: &[[f32; LANES]], keys: &mut [[[f32; 16]; 2]]) {
    let head_dim = keys.len();
    assert!(eights.len() == 4 * head_dim);
    let (left, right) = eights.split_at(2 * head_dim);
    let [left, right] = [left, right].map(|half| half.split_at(head_dim));
    for (d, keys) in keys.iter_mut().enumerate() {
        for (to, (low, high)) in keys.iter_mut().zip([left, right]) {
            store(to, join(load8(&low[d]), load8(&high[d])));
        }
    }
}

/// Scores of six rows with 32 tokens; they go to columns `at..` of `scores`.
#[target_feature(enable = "avx512f,avx512dq,avx2,fma,f16c")]
#[inline]
fn score(
    queries: &[[f32; PANEL_ROWS]],
    keys: &[[[f32; 16]; 2]],
    scores: &mut [[f32; PAGE_TOKENS]; PANEL_ROWS],
    at: usize,
) {
    let mut sums = [[_mm512_setzero_ps(); 2]; PANEL_ROWS];
    for (query, keys) in queries.iter().zip(keys) {
        let (left, right) = (load(&keys[0]), load(&keys[1]));
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

/// Turns the scores of all rows into weights; those that a row does not have, but another one of its panel, are 0. Leaves each
/// row's maximum and sum in `keep` and `take`, and −∞ and 0 of a row that sees nothing.
#[target_feature(enable = "avx512f,avx512dq,avx2,fma,f16c")]
#[inline]
fn weights_of_rows(parts: &mut RowBlockParts<'_>) {
    let panels = parts.weights.as_chunks_mut::<PANEL_ROWS>().0.iter_mut().zip(parts.limits);
    let bounds = parts.starts.as_chunks::<PANEL_ROWS>().0.iter().zip(parts.ends.as_chunks().0);
    let results = parts.keep.as_chunks_mut().0.iter_mut().zip(parts.take.as_chunks_mut().0);
    for (((weights, end), (starts, ends)), (max, sum)) in panels.zip(bounds).zip(results) {
        let (max, sum): (&mut [f32; PANEL_ROWS], &mut [f32; PANEL_ROWS]) = (max, sum);
        let ends: &[usize; PANEL_ROWS] = ends;
        if *starts == [0; PANEL_ROWS] && *ends == [PAGE_TOKENS; PANEL_ROWS] {
            let results = max.as_chunks_mut().0.iter_mut().zip(sum.as_chunks_mut().0);
            for (weights, (max, sum)) in weights.as_chunks_mut::<SOFTMAX_ROWS>().0.iter_mut().zip(results) {
                (*max, *sum) = softmax_rows_avx512(weights);
            }
            continue;
        }
        for (row, weights) in weights.iter_mut().enumerate() {
            if ends[row] == 0 {
                weights[..*end].fill(0.0);
                (max[row], sum[row]) = (f32::NEG_INFINITY, 0.0);
                continue;
            }
            weights[..starts[row]].fill(f32::NEG_INFINITY);
            (max[row], sum[row]) = softmax_avx512(weights, ends[row]);
            weights[ends[row]..(*end).max(ends[row])].fill(0.0);
        }
    }
}

/// Merges the states of all rows with what [`weights_of_rows`] found, see `page::merge_sums`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,avx2,fma,f16c")]
#[inline]
fn merge_states(parts: &mut RowBlockParts<'_>) {
    let states = parts.max.chunks_mut(16).zip(parts.sum.chunks_mut(16));
    let of_page = parts.keep.chunks_mut(16).zip(parts.take.chunks_mut(16));
    for ((max, sum), (keep, take)) in states.zip(of_page) {
        let (old, new) = (load_some_floats(max), load_some_floats(keep));
        let (old_sum, new_sum) = (load_some_floats(sum), load_some_floats(take));
        // A row that sees nothing has no maximum that could be subtracted from.
        let sees = _mm512_cmp_ps_mask::<_CMP_NEQ_UQ>(new_sum, _mm512_setzero_ps());
        let larger = _mm512_max_ps(old, new);
        let of_old = exp2_avx512(_mm512_sub_ps(old, larger));
        let of_new = exp2_avx512(_mm512_sub_ps(new, larger));
        let total = _mm512_fmadd_ps(old_sum, of_old, _mm512_mul_ps(new_sum, of_new));
        store_some_floats(keep, _mm512_mask_blend_ps(sees, _mm512_set1_ps(1.0), of_old));
        store_some_floats(take, _mm512_maskz_mov_ps(sees, of_new));
        store_some_floats(max, _mm512_mask_blend_ps(sees, old, larger));
        store_some_floats(sum, _mm512_mask_blend_ps(sees, old_sum, total));
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
