//! From values to blocks, in two steps: [`fit`] finds the scales of some blocks, and a [`Grid`] rounds values on them.
//!
//! ```text
//! values, weights ─► fit ─► Grid ─► round(at, value) ─► code and the value that it stands for
//!                            └────► encode(codes) ────► bytes
//! ```
//!
//! [`quantize`] does both for values that are known from the start. Whoever carries the error of one value on to the next
//! ones (error feedback) rounds value after value on scales that stay, in any order, and encodes at the end.
//!
//! The scales minimize `Σ weight · (value − rounded)²` within a block: see `search` for a few values that share a scale,
//! `super_block` for sub-blocks whose scales are integers of a few bits. Weights are how much an error counts, usually the
//! mean square of what the value is multiplied with; without weights all count the same. On scales that are found every
//! value goes to the nearest level, whatever its weight.
//!
//! These searches are ours. ggml's encoders weigh large values more, and try other scales.

mod levels;
mod search;
mod super_block;

pub(crate) use levels::{Codebook, Integers, Levels};
pub(crate) use search::{Weighted, best_half, best_line, exact_scale, reciprocal};
pub(crate) use super_block::{Lines, Scaled};

use crate::{Block, DType, QuantError};

/// A block whose scales can be searched for.
pub(crate) trait Encode: Block {
    /// How many values share a step.
    const SUB_BLOCK: usize;

    /// The numbers that a step multiplies.
    type Levels: Levels;
    /// Their only value.
    const LEVELS: Self::Levels;
    /// Where the block's half-precision numbers are, in bytes from its beginning. Every value of the block is a sum of products, each
    /// of one of them.
    const FACTORS: &'static [usize];

    /// The scales for values, `[DTYPE.block_len()]`; the codes do not matter.
    fn fit(of: Weighted<'_>) -> Self;

    /// Step and offset of each sub-block, as [`Block::dequantize`] computes them: `x = step · level + offset`.
    fn lines(&self) -> impl Iterator<Item = (f32, f32)>;

    /// The same scales with these codes, `[DTYPE.block_len()]`.
    fn with_codes(self, codes: &[u8]) -> Self;
}

/// An offset that changes no bit of what it is added to, −0 included.
pub(crate) const NO_OFFSET: f32 = -0.0;

/// The scales of some blocks of one format, and so the levels that each of their values can take.
#[derive(Debug, Clone)]
pub struct Grid {
    dtype: DType,
    /// the blocks, without codes
    headers: Vec<u8>,
    lines: Vec<GridLine>,
    sub_block: usize,
    round: fn(f32) -> (u8, f32),
    with_codes: fn(&mut [u8], &[u8]),
}

#[derive(Debug, Clone, Copy)]
struct GridLine {
    step: f32,
    inverse: f32,
    offset: f32,
}

/// What a value became.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rounded {
    /// Its code, from 0.
    pub code: u8,
    /// The value that the code stands for: what [`crate::dequantize`] gives.
    pub value: f32,
}

/// A search for one format, and its result.
pub(crate) type Fit = fn(&[f32], &[f32]) -> Grid;

pub(crate) fn grid_of<B: Encode>(values: &[f32], weights: &[f32]) -> Grid {
    let len = B::DTYPE.block_len();
    let mut headers = Vec::with_capacity(values.len() / len * size_of::<B>());
    let mut lines = Vec::with_capacity(values.len() / B::SUB_BLOCK);
    for (values, weights) in values.chunks_exact(len).zip(weights.chunks_exact(len)) {
        let block = B::fit(Weighted { values, weights });
        headers.extend_from_slice(bytemuck::bytes_of(&block));
        lines.extend(block.lines().map(|(step, offset)| GridLine {
            step,
            inverse: reciprocal(step),
            offset,
        }));
    }
    Grid {
        dtype: B::DTYPE,
        headers,
        lines,
        sub_block: B::SUB_BLOCK,
        round: round::<B>,
        with_codes: with_codes::<B>,
    }
}

fn round<B: Encode>(x: f32) -> (u8, f32) {
    let code = B::LEVELS.code(x);
    (code, B::LEVELS.level(code))
}

fn with_codes<B: Encode>(bytes: &mut [u8], codes: &[u8]) {
    let blocks = bytes.chunks_exact_mut(size_of::<B>()).zip(codes.chunks_exact(B::DTYPE.block_len()));
    for (bytes, codes) in blocks {
        let block: B = bytemuck::pod_read_unaligned(bytes);
        bytes.copy_from_slice(bytemuck::bytes_of(&block.with_codes(codes)));
    }
}

impl Grid {
    /// The format.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// How many values there are.
    pub fn n_values(&self) -> usize {
        self.lines.len() * self.sub_block
    }

    /// Rounds a value that is to stand at place `at` to the nearest that can stand there.
    ///
    /// # Panics
    /// When there is no such place.
    #[inline]
    pub fn round(&self, at: usize, value: f32) -> Rounded {
        let line = &self.lines[at / self.sub_block];
        let (code, level) = (self.round)((value - line.offset) * line.inverse);
        Rounded { code, value: line.step * level + line.offset }
    }

    /// Writes the blocks with a code for every value.
    ///
    /// # Panics
    /// When there is not one code for each value, or `out` has not the length of the blocks.
    pub fn encode(&self, codes: &[u8], out: &mut [u8]) {
        assert_eq!(codes.len(), self.n_values(), "one code for each value");
        out.copy_from_slice(&self.headers);
        (self.with_codes)(out, codes);
    }
}

/// Above it no format has a scale: the largest are those of Q6_K, 65,504 · 128 · 32. Below it no sum of squares overflows.
const LARGEST: f32 = 1e9;

/// Finds the scales of blocks of `dtype` for `values`, an error at each of which counts by its weight.
///
/// # Errors
/// The format has no scales or no encoder; the lengths are not those of whole blocks; a value or a weight is not finite, or
/// a weight is negative; a scale would be beyond half precision.
pub fn fit(dtype: DType, values: &[f32], weights: Option<&[f32]>) -> Result<Grid, QuantError> {
    let fit = crate::registry::encoder(dtype)?;
    let block_len = dtype.block_len();
    if !values.len().is_multiple_of(block_len) {
        return Err(QuantError::PartialBlock { dtype, n_values: values.len(), block_len });
    }
    check_values(values)?;
    if let Some(at) = values.iter().position(|x| x.abs() > LARGEST) {
        return Err(QuantError::TooLarge { dtype, at, value: values[at] });
    }
    let weights = match weights {
        Some(weights) => effective_weights(weights, values.len(), block_len)?,
        None => vec![1.0; values.len()],
    };
    let grid = fit(values, &weights);
    let is_finite = |line: &GridLine| line.step.is_finite() && line.offset.is_finite();
    if let Some(line) = grid.lines.iter().position(|line| !is_finite(line)) {
        let start = line * grid.sub_block / block_len * block_len;
        let block = &values[start..start + block_len];
        let at = (0..block_len).fold(0, |most, i| if block[i].abs() > block[most].abs() { i } else { most });
        return Err(QuantError::TooLarge { dtype, at: start + at, value: block[at] });
    }
    Ok(grid)
}

/// Writes `values` as blocks of `dtype` to `out`, on the scales that [`fit`] finds.
///
/// F32, F16 and BF16 have no scales: each value is rounded to nearest, ties to even.
///
/// # Errors
/// As [`fit`] (but formats without scales are written), or `out` has another length than the blocks.
pub fn quantize(
    dtype: DType,
    values: &[f32],
    weights: Option<&[f32]>,
    out: &mut [u8],
) -> Result<(), QuantError> {
    crate::registry::check_lengths(dtype, values.len(), out.len())?;
    if let Some(convert) = crate::registry::conversion(dtype) {
        check_values(values)?;
        convert(values, out);
        return match crate::first_not_finite(dtype, out) {
            Some(at) => Err(QuantError::TooLarge { dtype, at, value: values[at] }),
            None => Ok(()),
        };
    }
    let grid = fit(dtype, values, weights)?;
    let codes: Vec<u8> = values.iter().enumerate().map(|(at, &x)| grid.round(at, x).code).collect();
    grid.encode(&codes, out);
    Ok(())
}

fn check_values(values: &[f32]) -> Result<(), QuantError> {
    match values.iter().position(|x| !x.is_finite()) {
        Some(at) => Err(QuantError::NotFinite { at, value: values[at] }),
        None => Ok(()),
    }
}

/// Weights as the searches want them: their mean in each block is 1, and none is 0, so that a value that was never used
/// still goes to a scale that suits it, if that costs the others nothing.
fn effective_weights(weights: &[f32], n_values: usize, block_len: usize) -> Result<Vec<f32>, QuantError> {
    const LEAST: f32 = 1e-6;
    if weights.len() != n_values {
        return Err(QuantError::WrongWeights { n_values, found: weights.len() });
    }
    if let Some(at) = weights.iter().position(|w| !w.is_finite() || *w < 0.0) {
        return Err(QuantError::Weight { at, value: weights[at] });
    }
    let mut effective = Vec::with_capacity(n_values);
    for block in weights.chunks_exact(block_len) {
        if block.iter().all(|&w| w == block[0]) {
            // All the same is what no weights are, to the bit.
            effective.resize(effective.len() + block_len, 1.0);
            continue;
        }
        let mean = block.iter().map(|&w| f64::from(w)).sum::<f64>() / block_len as f64;
        effective.extend(block.iter().map(|&w| (f64::from(w) / mean) as f32 + LEAST));
    }
    Ok(effective)
}
