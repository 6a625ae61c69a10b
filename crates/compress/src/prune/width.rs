//! Narrower MLPs: which channels go, and a down matrix that makes up for them.
//!
//! A down matrix W (one column a channel) is used as W h. Without the channels of a set Q the best that the other columns can do, by
//! least squares over `H = E[h hᵀ] + damping`, is known in closed form (optimal brain surgeon, Hassibi and Stork 1993):
//!
//! ```text
//! W ← W − W_Q (H⁻¹_QQ)⁻¹ H⁻¹_Q*            what is left of W_Q is 0
//! H⁻¹ ← H⁻¹ − H⁻¹_*Q (H⁻¹_QQ)⁻¹ H⁻¹_Q*     the inverse for the channels that stay
//! a single channel q costs ‖W_q‖² / H⁻¹_qq
//! ```
//!
//! Channels go a few at a time, those that cost least first, and costs are computed anew after each step: of two channels that say
//! the same only one is cheap to lose. The damping pulls W towards what it was, and not towards 0, so that the refit never raises the
//! squared error on H. Everything is float64. Gate and up lose the rows of those channels, and keep the others bit for bit.

use faer::linalg::matmul::matmul;
use faer::linalg::solvers::DenseSolveCore;
use faer::{Accum, Mat, Par, Side};
use lossy_quant::{DType, quantize};

use super::{Narrowed, PruneError, Pruned};
use crate::block::Projection;
use crate::feedback::{self, Factor, Matrix, Moments};
use crate::statistics::{Collection, Input, InputMoments, LayerStatistics, StatisticsOptions};
use crate::weights::{WeightError, WeightSource};

/// What is added to the diagonal, as a part of its mean.
const DAMPING: f64 = 0.01;
/// Steps in which channels go, at most.
const STEPS: usize = 128;
/// What a width is a multiple of, whatever the type: kernels take so many channels at a time.
const MULTIPLE: usize = 32;
/// Bytes of moments and their inverses that are in memory at once, if one layer's are not more.
const MEMORY: usize = 1 << 30;

/// The width that is left without a share of the channels, 0 to 1: the nearest that the blocks of all down matrices allow, and what
/// a width must be a multiple of for them.
///
/// # Errors
/// The nearest is none or all of the channels though a share of them was to go; or a tensor is missing.
pub fn width(model: &Pruned<'_>, share: f64, dtype: Option<DType>) -> Result<(usize, usize), PruneError> {
    let n_ff = model.source().info().n_ff;
    let mut widest = (MULTIPLE, String::new(), DType::F32);
    for &layer in model.layers() {
        let name = Projection::Down.weight(layer);
        let of_source = model.source().tensor(&name).map(|tensor| tensor.dtype);
        let dtype = dtype.or(of_source).ok_or_else(|| WeightError::NoSuchTensor { name: name.clone() })?;
        if dtype.block_len() > widest.0 || widest.1.is_empty() {
            widest = (dtype.block_len().max(MULTIPLE), name, dtype);
        }
    }
    let (multiple, tensor, dtype) = widest;
    let wanted = ((1.0 - share) * n_ff as f64).round() as usize;
    if wanted == n_ff {
        return Ok((n_ff, multiple));
    }
    if n_ff <= multiple {
        return Err(PruneError::TooNarrow { n_ff, multiple });
    }
    let nearest = (wanted + multiple / 2) / multiple * multiple;
    if nearest == 0 || nearest >= n_ff {
        let percent = |width: usize| 100.0 * (n_ff as f64 - width as f64) / n_ff as f64;
        // The widths next to all and to none, and what rounds to them.
        let last = (n_ff - 1) / multiple * multiple;
        let (least, most) = (percent((last + multiple / 2).min(n_ff) - 1), percent(multiple / 2));
        return Err(PruneError::Width { wanted, n_ff, multiple, tensor, dtype, nearest, least, most });
    }
    Ok((nearest, multiple))
}

/// How MLPs become narrower.
#[derive(Clone, Copy, Debug)]
pub struct WidthOptions {
    /// channels that stay
    pub width: usize,
    /// another type for the down matrices than their own
    pub dtype: Option<DType>,
    /// threads
    pub n_threads: usize,
}

/// What stays of every MLP of `model`, whose statistics come from what `windows` make of it. `see` is told how many layers of how
/// many are done, and may stop.
///
/// # Errors
/// A weight cannot be read or encoded, the text says nothing of a layer, or the caller stops.
///
/// # Panics
/// The model is narrower already, or is not to become so.
pub fn narrow(
    model: &Pruned<'_>,
    windows: &[&[u32]],
    options: WidthOptions,
    see: &mut dyn FnMut(usize, usize) -> std::ops::ControlFlow<()>,
) -> Result<Vec<Narrowed>, PruneError> {
    let n_ff = model.info().n_ff;
    assert!(model.mlps().is_none() && options.width < n_ff, "from {n_ff} channels to {}", options.width);
    let statistics = StatisticsOptions { moments: true, n_threads: options.n_threads };
    let mut collection = Collection::new(model, windows, statistics)?;
    // H in float32, its inverse and what is being multiplied with it in float64.
    let n_at_once = (MEMORY / (n_ff * n_ff * (4 + 8 + 8))).clamp(1, options.n_threads);
    let mut done = Vec::new();
    loop {
        let mut some = Vec::new();
        while some.len() < n_at_once
            && let Some(layer) = collection.next_layer()?
        {
            some.push(layer);
        }
        if some.is_empty() {
            return Ok(done);
        }
        let found: Vec<Result<Narrowed, PruneError>> = std::thread::scope(|scope| {
            let work: Vec<_> =
                some.iter().map(|layer| scope.spawn(|| narrow_layer(model, layer, options))).collect();
            work.into_iter()
                .map(|work| work.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect()
        });
        for narrowed in found {
            done.push(narrowed?);
        }
        if see(done.len(), model.layers().len()).is_break() {
            return Err(PruneError::Stopped);
        }
    }
}

fn narrow_layer(
    model: &Pruned<'_>,
    statistics: &LayerStatistics,
    options: WidthOptions,
) -> Result<Narrowed, PruneError> {
    let name = Projection::Down.weight(statistics.layer);
    let unseen = || PruneError::Unseen { tensor: name.clone() };
    let moments =
        statistics.moments.iter().find(|moments| moments.input == Input::Down).ok_or_else(unseen)?;
    let down = model.values(&name)?;
    let refit = Refit::of(moments, &down, options.width).ok_or_else(unseen)?;
    let of_source = Projection::Down.weight(model.layers()[statistics.layer]);
    let dtype = options.dtype.or(model.source().tensor(&of_source).map(|tensor| tensor.dtype));
    let dtype = dtype.ok_or(WeightError::NoSuchTensor { name: of_source })?;
    let down = encode(&name, dtype, &refit, moments)?;
    Ok(Narrowed { keep: refit.keep, dtype, down })
}

/// Encodes a refitted matrix: with error feedback on the channels that are left, or value by value for a type without blocks.
fn encode(name: &str, dtype: DType, refit: &Refit, moments: &InputMoments) -> Result<Vec<u8>, PruneError> {
    let n = refit.keep.len();
    let tensor = || name.to_owned();
    if !dtype.has_scales() {
        let bytes = dtype.bytes_for(refit.down.len()).unwrap_or(0);
        let mut out = vec![0; bytes];
        quantize(dtype, &refit.down, None, &mut out)
            .map_err(|error| PruneError::Encode { tensor: tensor(), error })?;
        return Ok(out);
    }
    let feedback = |error| PruneError::Feedback { tensor: tensor(), error };
    let left =
        refit.keep.iter().flat_map(|&a| refit.keep.iter().map(move |&b| moments.sums[a * moments.n + b]));
    let n_tokens = moments.n_tokens.max(1) as f32;
    let moments = Moments::new(n, left.map(|sum| sum / n_tokens).collect()).map_err(feedback)?;
    let factor = Factor::of(&moments).map_err(feedback)?;
    let matrix = Matrix { values: &refit.down, n_cols: n };
    feedback::quantize(dtype, matrix, None, &moments, &factor, 1).map_err(feedback)
}

/// The channels that stay, and the columns that make up for the others.
#[derive(Clone, Debug, PartialEq)]
pub struct Refit {
    /// channels, rising
    pub keep: Vec<usize>,
    /// `[n_out, keep.len()]`
    pub down: Vec<f32>,
}

impl Refit {
    /// Leaves `width` columns of `down`, `[n_out, n]`. `None` if the moments are those of no text: 0, or no numbers.
    ///
    /// # Panics
    /// The shapes do not fit.
    pub fn of(moments: &InputMoments, down: &[f32], width: usize) -> Option<Refit> {
        let n = moments.n;
        assert!(width <= n && down.len().is_multiple_of(n) && moments.sums.len() == n * n, "{n} channels");
        let n_out = down.len() / n;
        let mean = (0..n).map(|i| f64::from(moments.sums[i * n + i])).sum::<f64>() / n as f64;
        if !mean.is_finite() || mean <= 0.0 {
            return None;
        }
        let damped = Mat::from_fn(n, n, |i, j| {
            f64::from(moments.sums[i.max(j) * n + i.min(j)]) / mean + if i == j { DAMPING } else { 0.0 }
        });
        let mut inverse = damped.llt(Side::Lower).ok()?.inverse();
        // Columns of W as columns here, too: faer's are contiguous.
        let mut columns = Mat::from_fn(n_out, n, |row, channel| f64::from(down[row * n + channel]));
        let mut keep: Vec<usize> = (0..n).collect();
        let step = (n - width).div_ceil(STEPS).max(1);
        while keep.len() > width {
            let cost = |channel: usize| {
                columns.col(channel).iter().map(|w| w * w).sum::<f64>() / inverse[(channel, channel)]
            };
            let mut costs: Vec<(f64, usize)> = keep.iter().map(|&channel| (cost(channel), channel)).collect();
            costs.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            let mut gone: Vec<usize> =
                costs.iter().take(step.min(keep.len() - width)).map(|(_, channel)| *channel).collect();
            gone.sort_unstable();
            leave_out(&mut inverse, &mut columns, &gone)?;
            keep.retain(|channel| !gone.contains(channel));
        }
        let down = (0..n_out).flat_map(|row| keep.iter().map(move |&channel| (row, channel)));
        let down: Vec<f32> = down.map(|at| columns[at] as f32).collect();
        down.iter().all(|w| w.is_finite()).then_some(Refit { keep, down })
    }
}

/// Both updates of the module's text for the channels `gone`. Their own rows and columns become 0.
fn leave_out(inverse: &mut Mat<f64>, columns: &mut Mat<f64>, gone: &[usize]) -> Option<()> {
    let (n, n_out, k) = (inverse.nrows(), columns.nrows(), gone.len());
    let own = Mat::from_fn(k, k, |i, j| inverse[(gone[i], gone[j])]);
    let across = Mat::from_fn(k, n, |i, j| inverse[(gone[i], j)]);
    let factor = own.llt(Side::Lower).ok()?.inverse() * &across;
    let lost = Mat::from_fn(n_out, k, |row, i| columns[(row, gone[i])]);
    matmul(columns.as_mut(), Accum::Add, lost.as_ref(), factor.as_ref(), -1.0, Par::Seq);
    matmul(inverse.as_mut(), Accum::Add, across.transpose(), factor.as_ref(), -1.0, Par::Seq);
    // Exactly 0, so that rounding of later steps finds nothing there.
    for &channel in gone {
        columns.col_mut(channel).fill(0.0);
        inverse.col_mut(channel).fill(0.0);
        inverse.row_mut(channel).fill(0.0);
    }
    Some(())
}

#[cfg(test)]
mod tests;
