//! The specification of attention over tiles: the formula of the module's documentation, one operation at a time.

use super::row_block::{PANEL_ROWS, RowBlock};
use crate::page::{TILE_COLUMNS, Tile, merge_sums, score_lanes, softmax};

/// Attends from every row of the block to its tokens of a tile.
pub(super) fn attend_tile(block: &mut RowBlock, tile: &Tile) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("fma") {
        #[target_feature(enable = "fma")]
        fn with_fma(block: &mut RowBlock, tile: &Tile) {
            attend_rows(block, tile);
        }
        // SAFETY: the CPU has been asked. Fused operations, which are nearly all that is done here, are instructions then, and calls
        // of a library otherwise, with the same bits.
        return unsafe { with_fma(block, tile) };
    }
    attend_rows(block, tile);
}

#[inline(always)]
fn attend_rows(block: &mut RowBlock, tile: &Tile) {
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
            *scores = score_lanes(&query, keys.iter().copied());
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
