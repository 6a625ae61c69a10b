//! A whole model for windows of tokens: embedding, blocks, head, and the way back.
//!
//! Weights are in memory for one block of layers at a time, or for the head. Windows are independent of each other, and each
//! is computed by one thread from beginning to end, so results have the same bits at any number of threads.

use lossy_engine::{ModelInfo, ModelSource, PositionScheme};
use lossy_kernels::dense::{Into, View, ViewMut};

use crate::block::{Block, Rotations, read, rms_norm, rms_norm_backward};
use crate::real::Real;
use crate::weights::{WeightError, WeightSource};

/// The matrix of embeddings.
pub const EMBEDDING: &str = "token_embd.weight";
/// The weight of the norm before the head.
pub const OUTPUT_NORM: &str = "output_norm.weight";
const OUTPUT: &str = "output.weight";

/// A model whose parts are all computed here.
pub struct Network<'a, F> {
    source: &'a dyn WeightSource,
    rotations: Rotations<F>,
    n_tokens: usize,
}

/// Whether all that a model has is computed here: its tensors, and the keys of its configuration.
///
/// # Errors
/// It has something that is not, by name.
pub fn check(source: &ModelSource) -> Result<(), WeightError> {
    Ok(source.check()?)
}

/// The name of the matrix that makes logits: the embedding where the model has none of its own.
pub fn output_matrix(source: &dyn WeightSource) -> &'static str {
    if source.shape(OUTPUT).is_some() { OUTPUT } else { EMBEDDING }
}

impl<'a, F: Real> Network<'a, F> {
    /// For windows of at most `n_tokens`.
    ///
    /// # Errors
    /// The model's own positions do not reach that far.
    pub fn new(source: &'a dyn WeightSource, n_tokens: usize) -> Result<Network<'a, F>, WeightError> {
        let info = source.info();
        let positions = PositionScheme::linear().resolve(info.trained(), n_tokens, false)?;
        let (mut cos, mut sin) = (Vec::new(), Vec::new());
        for position in 0..n_tokens {
            positions.rope().push(position, &mut cos, &mut sin);
        }
        let rotations = Rotations::new(&cos, &sin, info.head_dim, source.is_interleaved());
        Ok(Network { source, rotations, n_tokens })
    }

    /// Shapes and constants.
    pub fn info(&self) -> &'a ModelInfo {
        self.source.info()
    }

    /// The rotations of a window's positions.
    pub fn rotations(&self) -> &Rotations<F> {
        &self.rotations
    }

    /// The embedding of a window, `[n_tokens, n_embd]`.
    ///
    /// # Errors
    /// A token is not in the vocabulary.
    ///
    /// # Panics
    /// The window is longer than those of this network.
    pub fn embed(&self, tokens: &[u32]) -> Result<Vec<F>, WeightError> {
        assert!(tokens.len() <= self.n_tokens, "a window of {} tokens, not {}", tokens.len(), self.n_tokens);
        let mut x = Vec::with_capacity(tokens.len() * self.info().n_embd);
        for &token in tokens {
            let row = self.source.row(EMBEDDING, token as usize)?;
            x.extend(row.into_iter().map(|value| F::of(f64::from(value))));
        }
        Ok(x)
    }

    /// The weights of a layer.
    ///
    /// # Errors
    /// One of them cannot be read.
    pub fn block(&self, layer: usize) -> Result<Block<F>, WeightError> {
        Block::load(self.source, layer)
    }

    /// The norm and the matrix that make logits, which is the embedding where the model has none of its own.
    ///
    /// # Errors
    /// One of them cannot be read.
    pub fn head(&self) -> Result<Head<F>, WeightError> {
        let info = self.info();
        let output = output_matrix(self.source);
        let head = Head {
            norm: read(self.source, OUTPUT_NORM, &[info.n_embd])?,
            output: read(self.source, output, &[info.n_vocab, info.n_embd])?,
            eps: F::of(f64::from(info.rms_eps)),
        };
        self.source.release();
        Ok(head)
    }

    /// Logits after every token of a window, `[n_tokens, n_vocab]`.
    ///
    /// # Errors
    /// A weight cannot be read, or a token is not in the vocabulary.
    pub fn logits(&self, tokens: &[u32]) -> Result<Vec<F>, WeightError> {
        let mut x = self.embed(tokens)?;
        for layer in 0..self.info().n_layers {
            self.block(layer)?.forward(&self.rotations, &mut x);
        }
        Ok(self.head()?.logits(&x))
    }
}

/// The last norm and the output matrix.
#[derive(Clone, Debug)]
pub struct Head<F> {
    norm: Vec<F>,
    output: Vec<F>,
    eps: F,
}

impl<F: Real> Head<F> {
    /// What the output matrix multiplies, of hidden states `[n_tokens, n_embd]`.
    pub fn normed(&self, x: &[F]) -> Vec<F> {
        let mut normed = vec![F::default(); x.len()];
        rms_norm(x, &self.norm, self.eps, &mut normed);
        normed
    }

    /// Logits of a token.
    pub fn n_vocab(&self) -> usize {
        self.output.len() / self.norm.len()
    }

    /// Logits `[n_tokens, n_vocab]` of hidden states `[n_tokens, n_embd]`.
    pub fn logits(&self, x: &[F]) -> Vec<F> {
        let n_embd = self.norm.len();
        let normed = self.normed(x);
        let n_vocab = self.n_vocab();
        let mut logits = vec![F::default(); x.len() / n_embd * n_vocab];
        let output = View::rows(&self.output, n_embd).transposed();
        F::product(Into::Set, ViewMut::rows(&mut logits, n_vocab), View::rows(&normed, n_embd), output);
        logits
    }

    /// The gradient of hidden states from that of logits; adds to that of the norm's weight. The matrix is not trained.
    pub fn backward(&self, x: &[F], d_logits: &[F], d_norm: &mut [F]) -> Vec<F> {
        let n_embd = self.norm.len();
        let n_vocab = self.n_vocab();
        let mut d_normed = vec![F::default(); x.len()];
        let output = View::rows(&self.output, n_embd);
        F::product(Into::Set, ViewMut::rows(&mut d_normed, n_embd), View::rows(d_logits, n_vocab), output);
        let mut d_x = vec![F::default(); x.len()];
        rms_norm_backward(x, &self.norm, self.eps, &d_normed, &mut d_x, d_norm);
        d_x
    }
}

/// `ln Σ exp(logit)` of a row, in float64.
fn log_sum_exp<F: Real>(logits: &[F]) -> f64 {
    let largest = logits.iter().copied().fold(logits[0], |a, b| if b > a { b } else { a });
    // Runs in the narrow type, their sum in the wide one.
    let runs = logits
        .chunks(64)
        .map(|run| run.iter().fold(F::default(), |sum, &logit| sum + (logit - largest).exp()).wide());
    largest.wide() + runs.sum::<f64>().ln()
}

/// Replaces a row of logits by the gradient of `KL(teacher ‖ row)`, and returns that in nats.
///
/// # Panics
/// Lengths differ.
pub fn divergence_backward<F: Real>(teacher: &[F], logits: &mut [F]) -> f64 {
    assert_eq!(teacher.len(), logits.len(), "rows of logits of different lengths");
    let [normal_p, normal_q] = [log_sum_exp(teacher), log_sum_exp(logits)].map(F::of);
    let mut kl = 0.0;
    for (teacher, logits) in teacher.chunks(64).zip(logits.chunks_mut(64)) {
        let mut sum = F::default();
        for (&teacher, logit) in teacher.iter().zip(logits) {
            let (log_p, log_q) = (teacher - normal_p, *logit - normal_q);
            let p = log_p.exp();
            sum += p * (log_p - log_q);
            *logit = log_q.exp() - p;
        }
        kl += sum.wide();
    }
    kl
}

/// Replaces a row of logits by the gradient of the log-probability of `token`, and returns that.
///
/// # Panics
/// The row has no such token.
pub fn log_probability_backward<F: Real>(token: usize, logits: &mut [F]) -> f64 {
    let normal = log_sum_exp(logits);
    let found = logits[token].wide() - normal;
    let normal = F::of(normal);
    logits.iter_mut().for_each(|logit| *logit = F::default() - (*logit - normal).exp());
    logits[token] += F::ONE;
    found
}

/// The token that a row of logits gives for a number between 0 and 1: the first at which the sum of probabilities is above it.
pub fn sample<F: Real>(logits: &[F], unit: f64) -> usize {
    let normal = log_sum_exp(logits);
    let mut sum = 0.0;
    let found = logits.iter().position(|logit| {
        sum += (logit.wide() - normal).exp();
        sum > unit
    });
    found.unwrap_or(logits.len() - 1)
}
