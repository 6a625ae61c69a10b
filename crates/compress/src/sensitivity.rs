//! What a change of one tensor costs, in nats, before anything is quantized.
//!
//! A matrix `W` becomes `W + ΔW`. To second order the divergence of the predictions is
//!
//! ```text
//! KL ≈ ½ · E_window [ ( Σ_t g_t · ΔW x_t )² ] / tokens     x the matrix's input, g = ∂ Σ ln p(token) / ∂ (W x)
//!    ≈ ½ · E_t      [ (     g_t · ΔW x_t )² ]
//! ```
//!
//! where the tokens are *drawn from the model's own predictions* (not the text's): then `E[g gᵀ]` is Fisher's information,
//! and no measurement of a candidate is needed. `g_t` has the losses of all later tokens too, which `W x_t` takes part in.
//!
//! The first line is exact to second order, but has one number for each window. The second has one for each token, and leaves out
//! that changes at several tokens meet in one prediction: it is right for what a token does to its own residual stream, and too low
//! for keys and values, where tokens that are alike add up ([`Price`] has both). One backward pass over some 2,000 tokens serves
//! every candidate of every tensor.
//!
//! ```text
//! Sensitivities::new     forward through all layers; back, keeping the gradient of the residual stream behind each of them
//!     .next_layer        forward once more, the gradients of one layer's seven matrices on the way
//! ```
//!
//! So layers come from the first to the last, as statistics do. In memory are one block, and for each layer the residual stream
//! of the windows or its gradient.

use lossy_eval::Random;
use lossy_kernels::dense::{Into, View, ViewMut, product};
use lossy_kernels::{Compute, Isa};

use crate::block::{Block, Gradient, Projection};
use crate::network::{Head, Network, log_probability_backward, sample};
use crate::weights::{WeightError, WeightSource};

/// Tokens of a window.
pub const WINDOW: usize = 256;

/// What a change costs, nats a token.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Price {
    /// tokens taken one by one: `½ · E_t [(g_t · ΔW x_t)²]`
    pub by_token: f64,
    /// windows taken whole, a noisier number: `½ · E_window [(Σ_t g_t · ΔW x_t)²] / tokens`
    pub by_window: f64,
}

impl std::ops::AddAssign for Price {
    fn add_assign(&mut self, other: Price) {
        self.by_token += other.by_token;
        self.by_window += other.by_window;
    }
}

/// Of what a change does to every token's gradient: `moved[t] = g_t · ΔW x_t`, the windows one after another.
pub(crate) fn price_of(moved: &[f64], n_window: usize) -> Price {
    let n_tokens = moved.len().max(1) as f64;
    let windows = moved.chunks(n_window.max(1)).map(|window| window.iter().sum::<f64>().powi(2));
    Price {
        by_token: 0.5 * moved.iter().map(|moved| moved * moved).sum::<f64>() / n_tokens,
        by_window: 0.5 * windows.sum::<f64>() / n_tokens,
    }
}

/// Inputs and output gradients of one matrix, window after window.
#[derive(Clone, Debug)]
pub struct Sensitivity {
    /// layer, from 0
    pub layer: usize,
    /// which matrix
    pub projection: Projection,
    n_in: usize,
    n_out: usize,
    n_window: usize,
    /// `[n_tokens, n_in]`
    inputs: Vec<f32>,
    /// `[n_tokens, n_out]`
    gradients: Vec<f32>,
}

impl Sensitivity {
    /// The price of `candidate` in place of `weight`, both `[n_out, n_in]`.
    ///
    /// # Panics
    /// A matrix is of another shape.
    pub fn price(&self, weight: &[f32], candidate: &[f32]) -> Price {
        assert!(weight.len() == self.n_in * self.n_out && candidate.len() == weight.len());
        let change: Vec<f32> = candidate.iter().zip(weight).map(|(new, old)| new - old).collect();
        let change = View::rows(&change, self.n_in).transposed();
        let n_tokens = self.inputs.len() / self.n_in;
        let mut moved = vec![0.0; self.gradients.len()];
        let out = ViewMut::rows(&mut moved, self.n_out);
        product(Into::Set, out, View::rows(&self.inputs, self.n_in), change);
        let rows = moved.chunks_exact(self.n_out).zip(self.gradients.chunks_exact(self.n_out));
        let moved: Vec<f64> =
            rows.map(|(moved, gradient)| f64::from(crate::real::dot(moved, gradient))).collect();
        debug_assert_eq!(moved.len(), n_tokens);
        price_of(&moved, self.n_window)
    }
}

/// Rows of logits that are in memory at once.
pub(crate) const ROWS: usize = 64;

/// Gives the sensitivities of every matrix to `each`, seven of a layer at a time, from the first layer to the last.
/// `seed` draws the tokens.
///
/// # Errors
/// A weight cannot be read, a token is not in the vocabulary, or `each` fails.
pub fn collect<E: From<WeightError>>(
    source: &dyn WeightSource,
    windows: &[&[u32]],
    seed: u64,
    n_threads: usize,
    each: &mut dyn FnMut(Vec<Sensitivity>) -> Result<(), E>,
) -> Result<(), E> {
    let mut all = Sensitivities::new(source, windows, seed, n_threads)?;
    for layer in 0..source.info().n_layers {
        let block = Block::load(source, layer)?;
        each(all.next_layer(&block))?;
    }
    Ok(())
}

/// Sensitivities layer by layer, when they are asked for.
pub struct Sensitivities<'a> {
    network: Network<'a, f32>,
    cx: Compute,
    works: Vec<Work>,
    layer: usize,
}

/// One window.
struct Work {
    /// the residual stream before the next layer; behind the last, what makes logits
    state: Vec<f32>,
    /// gradient of the residual stream before each layer, and behind the last
    gradients: Vec<Vec<f32>>,
    /// a layer's matrices with their inputs and output gradients
    seen: Vec<(Projection, Vec<f32>, Vec<f32>)>,
}

impl<'a> Sensitivities<'a> {
    /// Goes forward through all layers, and back. Windows are of one length.
    ///
    /// # Errors
    /// A weight cannot be read, or a token is not in the vocabulary.
    pub fn new(
        source: &'a dyn WeightSource,
        windows: &[&[u32]],
        seed: u64,
        n_threads: usize,
    ) -> Result<Sensitivities<'a>, WeightError> {
        let n_tokens = windows.iter().map(|window| window.len()).max().unwrap_or(0);
        let network = Network::<f32>::new(source, n_tokens)?;
        let cx = Compute::with_isa(n_threads, Isa::best());
        let n_layers = network.info().n_layers;
        let embedded: Vec<Vec<f32>> =
            windows.iter().map(|window| network.embed(window)).collect::<Result<_, WeightError>>()?;
        // The residual stream before each layer, and behind the last.
        let mut streams: Vec<Vec<Vec<f32>>> = embedded.iter().map(|x| vec![x.clone()]).collect();
        for layer in 0..n_layers {
            let block = network.block(layer)?;
            cx.pool.run_mut(&mut streams, |_, stream| {
                let mut x = stream[layer].clone();
                block.forward(network.rotations(), &mut x);
                stream.push(x);
            });
        }
        let head = network.head()?;
        let n_embd = network.info().n_embd;
        cx.pool.run_mut(&mut streams, |index, stream| {
            let last = stream.pop().unwrap_or_default();
            stream.push(drawn_gradient(&head, &last, n_embd, seed, index));
        });
        drop(head);
        // From the end each stream gives way to its gradient.
        for layer in (0..n_layers).rev() {
            let block = network.block(layer)?;
            cx.pool.run_mut(&mut streams, |_, stream| {
                let mut d_x = stream[layer + 1].clone();
                let x = &stream[layer];
                let tape = block.forward(network.rotations(), &mut x.clone());
                block.backward(network.rotations(), x, tape, &mut d_x, &mut |_| {});
                stream[layer] = d_x;
            });
        }
        let work = |(state, gradients)| Work { state, gradients, seen: Vec::new() };
        let works = embedded.into_iter().zip(streams).map(work).collect();
        Ok(Sensitivities { network, cx, works, layer: 0 })
    }

    /// Of the next layer, whose weights these are.
    ///
    /// # Panics
    /// After the last layer.
    pub fn next_layer(&mut self, block: &Block<f32>) -> Vec<Sensitivity> {
        let (layer, network) = (self.layer, &self.network);
        assert!(layer < network.info().n_layers, "there are no more layers");
        self.cx.pool.run_mut(&mut self.works, |_, work| {
            let Work { state, gradients, seen } = work;
            let x = state.clone();
            let tape = block.forward(network.rotations(), state);
            seen.clear();
            let mut d_x = std::mem::take(&mut gradients[layer + 1]);
            block.backward(network.rotations(), &x, tape, &mut d_x, &mut |found| {
                if let Gradient::Output { projection, input, gradient } = found {
                    seen.push((projection, input.to_vec(), gradient.to_vec()));
                }
            });
        });
        self.layer += 1;
        Projection::ALL.map(|projection| gather(network, layer, projection, &self.works)).into()
    }

    /// The gradient of every token's embedding, `[n_tokens, n_embd]`, window after window.
    pub fn embedding_gradients(&self) -> impl Iterator<Item = &[f32]> {
        self.works.iter().map(|work| &work.gradients[0][..])
    }

    /// What makes logits behind the last layer, `[n_tokens, n_embd]`, window after window.
    ///
    /// # Panics
    /// Before the last layer.
    pub fn last_states(&self) -> impl Iterator<Item = &[f32]> {
        assert_eq!(self.layer, self.network.info().n_layers, "layers are left");
        self.works.iter().map(|work| &work.state[..])
    }
}

/// Draws a token at every position, and takes the gradient of the sum of their log-probabilities behind the last layer.
fn drawn_gradient(head: &Head<f32>, last: &[f32], n_embd: usize, seed: u64, index: usize) -> Vec<f32> {
    let mut random = Random::new(seed, index as u64);
    let mut d_norm = vec![0.0; n_embd];
    let mut d_x = Vec::with_capacity(last.len());
    for x in last.chunks(ROWS * n_embd) {
        let mut logits = head.logits(x);
        let n_vocab = logits.len() / (x.len() / n_embd);
        for logits in logits.chunks_exact_mut(n_vocab) {
            let token = sample(logits, random.unit());
            log_probability_backward(token, logits);
        }
        d_x.extend(head.backward(x, &logits, &mut d_norm));
    }
    d_x
}

fn gather(network: &Network<'_, f32>, layer: usize, projection: Projection, works: &[Work]) -> Sensitivity {
    let [n_out, n_in] = projection.shape(network.info());
    let n_window = works.first().map_or(0, |work| work.state.len() / network.info().n_embd);
    let (inputs, gradients) = (Vec::new(), Vec::new());
    let mut found = Sensitivity { layer, projection, n_in, n_out, n_window, inputs, gradients };
    for (_, input, gradient) in works.iter().flat_map(|work| &work.seen).filter(|seen| seen.0 == projection) {
        found.inputs.extend(input);
        found.gradients.extend(gradient);
    }
    found
}
