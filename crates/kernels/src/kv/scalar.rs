//! The specification of attention over codes: the formula of the module's documentation, one operation at a time.

use super::head::HeadCode;
use super::layout::{self, value_rows};
use super::query::{FrameQuery, PreparedQueries};
use super::stored::Stored;
use super::weights::{self, Integers, WEIGHT_TOKENS};
use super::{BLOCK_TOKENS, BLOCKS, FRAME_TOKENS, gain};
use crate::page::{PAGE_TOKENS, PageFrames, Partial, QueryRows, RowStates, TokenQueries, record_len};

/// See [`HeadCode::attend_token`].
pub(super) fn attend_token(
    code: &HeadCode,
    frames: PageFrames<'_>,
    stored: Stored<'_>,
    token: &mut TokenQueries,
    partial: &mut Partial<'_>,
) {
    let (queries, weights) = token.queries_and_weights();
    attend(code, frames, stored, PreparedQueries::of(&code.keys, queries), weights, partial);
}

/// See [`HeadCode::attend_rows`].
pub(super) fn attend_rows(
    code: &HeadCode,
    frames: PageFrames<'_>,
    stored: Stored<'_>,
    queries: &mut QueryRows,
    rows: &[u16],
    states: &mut RowStates<'_>,
) {
    let (head_dim, n_rows) = (code.head_dim(), queries.n_rows());
    let mut weights = vec![[0.0; PAGE_TOKENS]; n_rows];
    let mut records = vec![0.0; n_rows * record_len(head_dim)];
    let queries = PreparedQueries::of(&code.keys, queries);
    attend(code, frames, stored, queries, &mut weights, &mut Partial::new(&mut records, head_dim));
    states.merge_records(&records, rows, head_dim);
}

/// Partial softmax of rows, with room for their scores and weights.
#[allow(clippy::needless_range_loop, reason = "one index into several arrays")]
fn attend(
    code: &HeadCode,
    frames: PageFrames<'_>,
    stored: Stored<'_>,
    queries: PreparedQueries<'_>,
    weights: &mut [[f32; PAGE_TOKENS]],
    partial: &mut Partial<'_>,
) {
    let head_dim = code.head_dim();
    let parts = layout::parts(code, stored.bytes);
    for (head, scores) in weights.iter_mut().enumerate() {
        let mut codes = vec![[0u8; BLOCK_TOKENS]; head_dim];
        let n_rows = code.keys.planes.rows();
        for block in 0..BLOCKS {
            let frame = frames.frame(block * BLOCK_TOKENS / FRAME_TOKENS);
            let query = FrameQuery::turned(code.keys.operand(), queries.head(head), frame);
            layout::unpack_keys(&code.keys, &parts.keys[block * n_rows..][..n_rows], &mut codes);
            for t in 0..BLOCK_TOKENS {
                let sum: i32 = (0..4 * code.keys.planes.n_stored)
                    .map(|position| i32::from(query.integers[position]) * i32::from(codes[position][t]))
                    .sum();
                let token = block * BLOCK_TOKENS + t;
                let factor = gain::decode(parts.key_gains[token]) * query.unit;
                scores[token] = (sum as f32 - query.middle).mul_add(factor, query.mean);
            }
        }
    }
    let bits = code.values.bits;
    for (row, weights) in weights.iter_mut().enumerate() {
        weights[..stored.first_token()].fill(f32::NEG_INFINITY);
        let (max, sum) = weights::softmax(weights);
        let out = partial.set(row, max, sum);
        out.fill(0.0);
        let Integers { integers, units } =
            weights::integers(weights, |token| gain::decode(parts.value_gains[token]));
        let mut codes = [[0u8; 32]; PAGE_TOKENS];
        for (part, rows) in parts.values.chunks_exact(value_rows(bits)).enumerate() {
            layout::unpack_values(bits, rows, &mut codes);
            for (channel, out) in out[32 * part..][..32].iter_mut().enumerate() {
                for (index, unit) in units.iter().enumerate() {
                    let tokens = index * WEIGHT_TOKENS..(index + 1) * WEIGHT_TOKENS;
                    let total: i32 = integers[tokens.clone()].iter().map(|w| i32::from(*w)).sum();
                    let product: i32 =
                        tokens.map(|t| i32::from(integers[t]) * i32::from(codes[t][channel])).sum();
                    let centred = product as f32 - total as f32 * code.values.middle();
                    *out = centred.mul_add(unit * code.values.step(), *out);
                }
                *out = sum.mul_add(code.values.mean[32 * part + channel], *out);
            }
        }
    }
}
