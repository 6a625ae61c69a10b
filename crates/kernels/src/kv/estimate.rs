//! How much a page may weigh: an estimate of the weights of its tokens together, from a quarter of the code of its keys.
//!
//! The channels that matter most have the most bits, and are stored first. An estimate reads the codes of the first quarter
//! of them. What the others add to a score is what the calibrated mean key adds, and what scores that spread about it weigh
//! more on average than one in the middle. With a row's shift `m` (log₂):
//!
//! ```text
//! s[t]  = fma(Σ codes·integers − middle, gain·unit, mean)      as a score, over the first quarter of the channels
//! v     = ½·ln 2·Σ q[c]²·σ[c]²                                 over the others: `EstimateCode::spread`
//! weight of a row = Σ 2^(s[t] + v − m)                         within 3 % each: `approximate_exp2`; sixteen lanes t mod 16
//! ```
//! It is a figure to choose by, not a bound: what it leaves out may matter. On Qwen2.5 it finds nearly the same pages as
//! exact scores do (docs/LOG.md, pages that are skipped). This is the specification; `avx2::estimate` and its form with vectors of 512 bits have the same
//! bits.

use super::head::HeadCode;
use super::keys::QUAD;
use super::layout;
use super::query::{FrameQuery, PreparedQueries};
use super::{BLOCK_TOKENS, BLOCKS, FRAME_TOKENS, gain};
use crate::math::across;
use crate::page::{LANES, PageFrames, QueryRows};

/// One octave of a float's bits.
pub(super) const OCTAVE: f32 = 8_388_608.0;
/// The exponent of 1, less what makes the largest errors of both signs alike.
pub(super) const BIAS: f32 = 127.0 - 0.043;
/// Bits of the smallest and the largest power: 2^±60.
pub(super) const LEAST: f32 = OCTAVE * 67.0;
pub(super) const MOST: f32 = OCTAVE * 187.0;

/// `2^x` of `(x + BIAS) · OCTAVE`, within 3 %: bits of a float are nearly linear in its logarithm.
fn approximate_exp2(scaled: f32) -> f32 {
    let above = if scaled > LEAST { scaled } else { LEAST };
    let bits = if above < MOST { above } else { MOST };
    f32::from_bits(bits.round_ties_even() as u32)
}

/// See [`HeadCode::estimate_rows`].
pub(super) fn estimate_rows(
    code: &HeadCode,
    frames: PageFrames<'_>,
    packed: &[u8],
    queries: &mut QueryRows,
    shifts: &[f32],
    weights: &mut [f32],
) {
    let keys = &code.keys;
    let parts = layout::parts(code, packed);
    let (n_rows, n_positions) = (keys.planes.rows(), QUAD * keys.estimate.n_quads);
    let scaled = queries.scaled().to_vec();
    let queries = PreparedQueries::of(keys, queries);
    let mut codes = vec![[0u8; BLOCK_TOKENS]; code.head_dim()];
    for (row, (shift, weight)) in shifts.iter().zip(weights).enumerate() {
        let level = shift - keys.estimate.spread(&scaled[row * code.head_dim()..][..code.head_dim()]);
        let mut sums = [[0.0; LANES]; 2];
        for block in 0..BLOCKS {
            let frame = frames.frame(block * BLOCK_TOKENS / FRAME_TOKENS);
            let query = FrameQuery::turned(keys.operand(), queries.head(row), frame);
            let tops = query.integers.iter().zip(&keys.estimate.top_at);
            let twice: i32 = tops.map(|(q, top)| i32::from(*q) * i32::from(*top)).sum();
            let (unit, base) = (query.unit * OCTAVE, (query.mean - level + BIAS) * OCTAVE);
            layout::unpack_keys(keys, &parts.keys[block * n_rows..][..n_rows], &mut codes);
            for t in 0..BLOCK_TOKENS {
                let products = query.integers[..n_positions].iter().zip(&codes);
                let sum: i32 = products.map(|(q, codes)| i32::from(*q) * i32::from(codes[t])).sum();
                let factor = gain::decode(parts.key_gains[block * BLOCK_TOKENS + t]) * unit;
                let scaled = (sum as f32 - twice as f32 * 0.5).mul_add(factor, base);
                sums[t / LANES % 2][t % LANES] += approximate_exp2(scaled);
            }
        }
        *weight = across(std::array::from_fn(|l| sums[0][l] + sums[1][l]), |a, b| a + b);
    }
}
