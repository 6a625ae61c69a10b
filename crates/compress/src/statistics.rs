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

use std::collections::BTreeMap;
use std::sync::Arc;

use lossy_kernels::dense::{Into, View, ViewMut, product};
use lossy_kernels::{Compute, Isa};

use crate::block::{Projection, Tape};
use crate::feedback::{self, FeedbackError};
use crate::imatrix::Entry;
use crate::network::Network;
use crate::recipe;
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
pub struct InputMoments {
    /// whose
    pub input: Input,
    /// tokens in the sums
    pub n_tokens: usize,
    /// Σ x xᵀ, `[n, n]`, symmetric
    pub sums: Vec<f32>,
    /// columns
    pub n: usize,
}

impl InputMoments {
    /// `E[x xᵀ]`, as error feedback takes it.
    ///
    /// # Errors
    /// A sum is no number.
    pub fn means(&self) -> Result<feedback::Moments, FeedbackError> {
        let n_tokens = self.n_tokens.max(1) as f32;
        feedback::Moments::new(self.n, self.sums.iter().map(|sum| sum / n_tokens).collect())
    }
}

impl MatrixStatistics {
    /// Its entry in a file of importances.
    pub fn into_entry(self) -> (String, Entry) {
        let entry =
            Entry { n_cols: self.sum_x2.len(), sums: self.sum_x2, counts: vec![self.n_tokens as f32] };
        (self.name, entry)
    }
}

/// The statistics of one layer.
#[derive(Clone, Debug)]
pub struct LayerStatistics {
    /// layer, from 0
    pub layer: usize,
    /// of its seven matrices, in the order of [`Projection::ALL`]
    pub matrices: Vec<MatrixStatistics>,
    /// of its four inputs, if asked for
    pub moments: Vec<InputMoments>,
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
pub(crate) const GROUP: usize = 4;

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
    let mut collection = Collection::new(source, windows, options)?;
    while let Some(layer) = collection.next_layer()? {
        each(layer)?;
    }
    Ok(())
}

/// Statistics layer by layer, when they are asked for.
pub struct Collection<'a> {
    network: Network<'a, f32>,
    cx: Compute,
    /// of each window, behind the layers that were read
    states: Vec<Vec<f32>>,
    n_tokens: usize,
    moments: bool,
    layer: usize,
}

impl<'a> Collection<'a> {
    /// Before the first layer.
    ///
    /// # Errors
    /// A weight cannot be read, a token is not in the vocabulary, or a window is longer than the model's own positions reach.
    pub fn new(
        source: &'a dyn WeightSource,
        windows: &[&[u32]],
        options: StatisticsOptions,
    ) -> Result<Collection<'a>, WeightError> {
        let longest = windows.iter().map(|window| window.len()).max().unwrap_or(0);
        let network = Network::new(source, longest)?;
        let cx = Compute::with_isa(options.n_threads, Isa::best());
        let states = windows.iter().map(|window| network.embed(window)).collect::<Result<_, _>>()?;
        let n_tokens = windows.iter().map(|window| window.len()).sum();
        Ok(Collection { network, cx, states, n_tokens, moments: options.moments, layer: 0 })
    }

    /// How many layers there are.
    pub fn n_layers(&self) -> usize {
        self.network.info().n_layers
    }

    /// Goes behind the next layer without statistics of it.
    ///
    /// # Errors
    /// A weight cannot be read.
    pub fn skip_layer(&mut self) -> Result<(), WeightError> {
        let block = self.network.block(self.layer)?;
        self.cx.pool.run_mut(&mut self.states, |_, state| {
            block.forward(self.network.rotations(), state);
        });
        self.layer += 1;
        Ok(())
    }

    /// The moments of what makes logits, behind the last layer.
    ///
    /// # Errors
    /// A weight cannot be read, or a sum is no number.
    ///
    /// # Panics
    /// Before the last layer.
    pub fn head_moments(&self) -> Result<feedback::Moments, FeedbackError> {
        assert_eq!(self.layer, self.n_layers(), "layers are left");
        let head = self.network.head().map_err(|error| FeedbackError::Source(error.into()))?;
        let n = self.network.info().n_embd;
        let mut sums = vec![0.0; n * n];
        for state in &self.states {
            add_moments(&self.cx, &mut sums, &head.normed(state), n);
        }
        mirror(&mut sums, n);
        let n_tokens = self.n_tokens.max(1) as f32;
        feedback::Moments::new(n, sums.iter().map(|sum| sum / n_tokens).collect())
    }

    /// The next layer's statistics; `None` after the last.
    ///
    /// # Errors
    /// A weight cannot be read.
    pub fn next_layer(&mut self) -> Result<Option<LayerStatistics>, WeightError> {
        let layer = self.layer;
        if layer == self.n_layers() {
            return Ok(None);
        }
        let block = self.network.block(layer)?;
        let mut sums = Sums::new(&self.network, self.moments);
        for states in self.states.chunks_mut(GROUP) {
            let mut work: Vec<(&mut Vec<f32>, Option<Tape<f32>>)> =
                states.iter_mut().map(|state| (state, None)).collect();
            self.cx.pool.run_mut(&mut work, |_, (state, tape)| {
                *tape = Some(block.forward(self.network.rotations(), state));
            });
            for tape in work.iter().filter_map(|(_, tape)| tape.as_ref()) {
                sums.add(&self.cx, tape);
            }
        }
        self.layer += 1;
        Ok(Some(sums.finish(layer, self.n_tokens)))
    }
}

/// The moments of a model's matrices by name, layer after layer: what [error feedback](crate::quantize::How) asks for.
pub struct MomentsByName<'a> {
    collection: Collection<'a>,
    /// the layer that was read last, and its moments by the names of matrices
    current: Option<(usize, BTreeMap<String, Arc<feedback::Moments>>)>,
}

impl<'a> MomentsByName<'a> {
    /// Of what `windows` make of a model; see [`Collection::new`].
    ///
    /// # Errors
    /// As there.
    pub fn new(
        source: &'a dyn WeightSource,
        windows: &[&[u32]],
        n_threads: usize,
    ) -> Result<MomentsByName<'a>, WeightError> {
        let options = StatisticsOptions { moments: true, n_threads };
        Ok(MomentsByName { collection: Collection::new(source, windows, options)?, current: None })
    }

    /// The moments of a matrix's input; `None` if it is none of a layer.
    ///
    /// # Errors
    /// A weight cannot be read, or a layer was asked for after a later one.
    pub fn of(&mut self, name: &str) -> Result<Option<Arc<feedback::Moments>>, FeedbackError> {
        let Ok(wanted) = usize::try_from(recipe::layer(name)) else { return Ok(None) };
        loop {
            match &self.current {
                Some((layer, moments)) if *layer == wanted => return Ok(moments.get(name).cloned()),
                Some((layer, _)) if *layer > wanted => {
                    let error = format!("layer {wanted} was asked for after layer {layer}");
                    return Err(FeedbackError::Source(error.into()));
                }
                _ => {}
            }
            let next = self.collection.next_layer().map_err(|error| FeedbackError::Source(error.into()))?;
            let Some(layer) = next else { return Ok(None) };
            let mut by_name = BTreeMap::new();
            for moments in &layer.moments {
                let means = Arc::new(moments.means()?);
                for projection in moments.input.projections() {
                    by_name.insert(projection.weight(layer.layer), means.clone());
                }
            }
            self.current = Some((layer.layer, by_name));
        }
    }
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
        for ((sums, input), squares) in moments.iter_mut().zip(inputs).zip(&self.squares) {
            add_moments(cx, sums, input, squares.len());
        }
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
            InputMoments { input, n_tokens, sums, n }
        });
        LayerStatistics { layer, matrices: matrices.into(), moments: moments.collect() }
    }
}

/// Adds `Σ x xᵀ` of rows of `n`, up to the diagonal.
fn add_moments(cx: &Compute, sums: &mut [f32], input: &[f32], n: usize) {
    let mut work: Vec<(usize, &mut [f32])> =
        sums.chunks_mut(ROWS * n).enumerate().map(|(index, rows)| (index * ROWS, rows)).collect();
    let n_tokens = input.len() / n;
    cx.pool.run_mut(&mut work, |_, (first, rows)| {
        let n_rows = rows.len() / n;
        let mine = View::new(&input[*first..], n_tokens, n_rows, n).transposed();
        let others = View::new(input, n_tokens, *first + n_rows, n);
        product(Into::Add, ViewMut::new(rows, n_rows, *first + n_rows, n), mine, others);
    });
}

/// Copies what is below the diagonal to above it.
fn mirror(sums: &mut [f32], n: usize) {
    for row in 0..n {
        for col in 0..row {
            sums[col * n + row] = sums[row * n + col];
        }
    }
}
