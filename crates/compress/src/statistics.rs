//! What the matrices of a model multiply: mean squares of their inputs, and their inputs' second moments.
//!
//! ```text
//! windows ──► embedding ──► block 0 ──► block 1 ──► …       hidden states of all windows, one block's weights at a time
//!                              │ inputs of seven matrices, four of them different
//!                              ▼
//!                Σ x²  [columns]   and, if asked for,   Σ x xᵀ  [columns, columns]
//! ```
//!
//! The sums are over all tokens. Squares are summed in float64. Moments are float32 products over the 512 tokens of a window,
//! added window after window: for `n` windows the rounding is that of `n + 512` additions. Threads share windows on the
//! way forward and rows of moments on the way to the sums, so the bits are the same at any number of them.

use lossy_kernels::dense::{Into, View, ViewMut, product};
use lossy_kernels::{Compute, Isa};

use crate::block::{Projection, Tape};
use crate::network::Network;
use crate::weights::{WeightError, WeightSource};

/// Tokens of a window.
pub const WINDOW: usize = 512;
/// The fewest tokens that statistics are made of.
pub const LEAST_TOKENS: usize = 2048;

/// Sums over what one matrix multiplied.
#[derive(Clone, Debug, PartialEq)]
pub struct MatrixStatistics {
    /// GGUF's name of the matrix
    pub name: String,
    /// tokens that it multiplied
    pub n_tokens: usize,
    /// Σ x² of every column
    pub sum_x2: Vec<f32>,
}

/// The inputs that differ: Q, K and V share one, and so do gate and up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// of Q, K and V
    Attention,
    /// of attention's output matrix
    AttentionOutput,
    /// of gate and up
    Mlp,
    /// of the MLP's down matrix
    Down,
}

impl Input {
    /// All, in the order of a block.
    pub const ALL: [Input; 4] = [Input::Attention, Input::AttentionOutput, Input::Mlp, Input::Down];

    /// The matrices that multiply it.
    pub fn projections(self) -> &'static [Projection] {
        match self {
            Input::Attention => &[Projection::Query, Projection::Key, Projection::Value],
            Input::AttentionOutput => &[Projection::AttentionOutput],
            Input::Mlp => &[Projection::Gate, Projection::Up],
            Input::Down => &[Projection::Down],
        }
    }
}

/// Second moments of one input.
#[derive(Clone, Debug)]
pub struct Moments {
    /// whose
    pub input: Input,
    /// tokens in the sums
    pub n_tokens: usize,
    /// Σ x xᵀ, `[n, n]`, symmetric
    pub sums: Vec<f32>,
    /// columns
    pub n: usize,
}

/// The statistics of one layer.
#[derive(Clone, Debug)]
pub struct LayerStatistics {
    /// layer, from 0
    pub layer: usize,
    /// of its seven matrices, in the order of [`Projection::ALL`]
    pub matrices: Vec<MatrixStatistics>,
    /// of its four inputs, if asked for
    pub moments: Vec<Moments>,
}

/// Why there are no statistics.
#[derive(Debug, thiserror::Error)]
pub enum StatisticsError {
    /// a text that is too short
    #[error(
        "the calibration text has {n_tokens} tokens, but at least {LEAST_TOKENS} are needed: give a longer text, \
         16,384 tokens are good"
    )]
    TooShort {
        /// tokens of the text
        n_tokens: usize,
    },
    /// a model that cannot be computed
    #[error(transparent)]
    Weights(#[from] WeightError),
}

/// How statistics are made.
#[derive(Clone, Copy, Debug)]
pub struct StatisticsOptions {
    /// whether Σ x xᵀ is wanted
    pub moments: bool,
    /// threads
    pub n_threads: usize,
}

/// Cuts a text into windows of [`WINDOW`] tokens; what is left over is not used.
///
/// # Errors
/// It has fewer than [`LEAST_TOKENS`].
pub fn windows(tokens: &[u32]) -> Result<Vec<&[u32]>, StatisticsError> {
    if tokens.len() < LEAST_TOKENS {
        return Err(StatisticsError::TooShort { n_tokens: tokens.len() });
    }
    Ok(tokens.chunks_exact(WINDOW).collect())
}

/// Windows whose inputs are in memory at once: a bound on memory, and not on the number of threads.
const GROUP: usize = 4;

/// Reads the windows and gives the statistics of every layer to `each`, from the first to the last.
///
/// # Errors
/// A weight cannot be read, a token is not in the vocabulary, or `each` fails.
pub fn collect<E: From<WeightError>>(
    source: &dyn WeightSource,
    windows: &[&[u32]],
    options: StatisticsOptions,
    each: &mut dyn FnMut(LayerStatistics) -> Result<(), E>,
) -> Result<(), E> {
    let n_tokens = windows.iter().map(|window| window.len()).max().unwrap_or(0);
    let network = Network::<f32>::new(source, n_tokens)?;
    let cx = Compute::with_isa(options.n_threads, Isa::best());
    let mut states = windows.iter().map(|window| network.embed(window)).collect::<Result<Vec<_>, _>>()?;
    for layer in 0..network.info().n_layers {
        let block = network.block(layer)?;
        let mut sums = Sums::new(&network, options.moments);
        for states in states.chunks_mut(GROUP) {
            let mut work: Vec<(&mut Vec<f32>, Option<Tape<f32>>)> =
                states.iter_mut().map(|state| (state, None)).collect();
            cx.pool.run_mut(&mut work, |_, (state, tape)| {
                *tape = Some(block.forward(network.rotations(), state));
            });
            for tape in work.iter().filter_map(|(_, tape)| tape.as_ref()) {
                sums.add(&cx, tape);
            }
        }
        each(sums.finish(layer, windows.iter().map(|window| window.len()).sum()))?;
    }
    Ok(())
}

struct Sums {
    squares: [Vec<f64>; 4],
    moments: Option<[Vec<f32>; 4]>,
}

/// Rows of moments that a thread computes at once.
const ROWS: usize = 128;

impl Sums {
    fn new(network: &Network<'_, f32>, moments: bool) -> Sums {
        let n = |input: Input| input.projections()[0].shape(network.info())[1];
        Sums {
            squares: Input::ALL.map(|input| vec![0.0; n(input)]),
            moments: moments.then(|| Input::ALL.map(|input| vec![0.0; n(input) * n(input)])),
        }
    }

    fn add(&mut self, cx: &Compute, tape: &Tape<f32>) {
        let inputs = Input::ALL.map(|input| tape.input(input.projections()[0]));
        for (squares, input) in self.squares.iter_mut().zip(inputs) {
            for row in input.chunks_exact(squares.len()) {
                squares.iter_mut().zip(row).for_each(|(sum, &x)| *sum += f64::from(x) * f64::from(x));
            }
        }
        let Some(moments) = &mut self.moments else { return };
        // The rows of all four, each up to its diagonal.
        let mut work = Vec::new();
        for ((sums, input), squares) in moments.iter_mut().zip(inputs).zip(&self.squares) {
            let n = squares.len();
            work.extend(
                sums.chunks_mut(ROWS * n).enumerate().map(|(index, rows)| (rows, index * ROWS, n, input)),
            );
        }
        cx.pool.run_mut(&mut work, |_, (rows, first, n, input)| {
            let (n, n_rows) = (*n, rows.len() / *n);
            let n_tokens = input.len() / n;
            let mine = View::new(&input[*first..], n_tokens, n_rows, n).transposed();
            let others = View::new(input, n_tokens, *first + n_rows, n);
            product(Into::Add, ViewMut::new(rows, n_rows, *first + n_rows, n), mine, others);
        });
    }

    fn finish(self, layer: usize, n_tokens: usize) -> LayerStatistics {
        let matrices = Projection::ALL.map(|projection| {
            let at = Input::ALL.iter().position(|input| input.projections().contains(&projection));
            let squares = &self.squares[at.expect("every matrix has an input")];
            let sum_x2 = squares.iter().map(|&sum| sum as f32).collect();
            MatrixStatistics { name: projection.weight(layer), n_tokens, sum_x2 }
        });
        let moments = self.moments.into_iter().flatten().zip(Input::ALL).map(|(mut sums, input)| {
            let n = sums.len().isqrt();
            mirror(&mut sums, n);
            Moments { input, n_tokens, sums, n }
        });
        LayerStatistics { layer, matrices: matrices.into(), moments: moments.collect() }
    }
}

/// Copies what is below the diagonal to above it.
fn mirror(sums: &mut [f32], n: usize) {
    for row in 0..n {
        for col in 0..row {
            sums[col * n + row] = sums[row * n + col];
        }
    }
}
