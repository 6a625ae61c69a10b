//! The specification of attention over codes: the formula of the module's documentation, one operation at a time.

use super::head::PackedHead;
use super::keys::KeyOperand;
use super::layout::{self, value_rows};
use super::weights::{self, Integers, WEIGHT_TOKENS};
use super::{BLOCK_TOKENS, BLOCKS, FRAME_TOKENS, gain};
use crate::attention::{Frame, Partial, RANGE_TOKENS, RangeFrames, TokenQueries};
use crate::math::across;

/// The largest integer that a query channel becomes.
pub(super) const QUERY_TOP: f32 = 127.0;
/// One query head as it meets one frame.
pub(super) struct FrameQuery {
    /// `[head_dim]` by stored position
    pub integers: Vec<i8>,
    /// value of an integer of 1
    pub unit: f32,
    /// what the sum of integers times codes is for codes in the middle
    pub middle: f32,
    /// product with the mean key
    pub mean: f32,
}

impl FrameQuery {
    pub(super) fn new(code: KeyOperand<'_>, query: &[f32], frame: Frame<'_>) -> FrameQuery {
        let half = query.len() / 2;
        let mut turned = vec![0.0; query.len()];
        for pair in 0..half {
            let (a, b, cos, sin) = (query[pair], query[pair + half], frame.cos[pair], frame.sin[pair]);
            turned[pair] = b.mul_add(sin, a * cos);
            turned[pair + half] = (-a).mul_add(sin, b * cos);
        }
        let scaled: Vec<f32> = turned.iter().zip(code.step).map(|(q, step)| q * step).collect();
        let largest = scaled.iter().map(|x| x.abs()).fold(0.0, f32::max);
        let per_unit = if largest > 0.0 { QUERY_TOP / largest } else { 0.0 };
        let by_channel: Vec<i8> = scaled.iter().map(|x| (x * per_unit).round_ties_even() as i8).collect();
        let integers: Vec<i8> = code.order.iter().map(|channel| by_channel[usize::from(*channel)]).collect();
        let twice: i32 =
            integers.iter().zip(code.top_at).map(|(q, top)| i32::from(*q) * i32::from(*top)).sum();
        // The two halves of the channels apart, in eight lanes each.
        let product_with_mean = |channels: std::ops::Range<usize>| {
            let (turned, mean) = (turned[channels.clone()].as_chunks::<8>().0, &code.mean[channels]);
            let pairs = turned.iter().zip(mean.as_chunks::<8>().0);
            pairs.fold([0.0f32; 8], |sum, (q, m)| std::array::from_fn(|l| q[l].mul_add(m[l], sum[l])))
        };
        let (low, high) = (product_with_mean(0..half), product_with_mean(half..2 * half));
        let mean: [f32; 8] = std::array::from_fn(|l| low[l] + high[l]);
        FrameQuery {
            integers,
            unit: largest / QUERY_TOP,
            middle: twice as f32 * 0.5,
            mean: across(mean, |a, b| a + b),
        }
    }
}

/// See [`PackedHead::attend_token`].
#[allow(clippy::needless_range_loop, reason = "one index into several arrays")]
pub(super) fn attend_token(
    head: &PackedHead<'_>,
    frames: RangeFrames<'_>,
    first_token: usize,
    token: &mut TokenQueries,
    partial: &mut Partial<'_>,
) {
    let code = head.code;
    let head_dim = code.head_dim();
    let parts = layout::parts(code, head.bytes);
    let (queries, weights) = token.parts();
    for (query, scores) in queries.chunks_exact(head_dim).zip(weights.iter_mut()) {
        let mut codes = vec![[0u8; BLOCK_TOKENS]; head_dim];
        let n_rows = code.keys.planes.rows();
        for block in 0..BLOCKS {
            let frame = frames.frame(block * BLOCK_TOKENS / FRAME_TOKENS);
            let query = FrameQuery::new(code.keys.operand(), query, frame);
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
        weights[..first_token].fill(f32::NEG_INFINITY);
        let (max, sum) = weights::softmax(weights);
        let out = partial.set(row, max, sum);
        out.fill(0.0);
        let Integers { integers, units } =
            weights::integers(weights, |token| gain::decode(parts.value_gains[token]));
        let mut codes = [[0u8; 32]; RANGE_TOKENS];
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
