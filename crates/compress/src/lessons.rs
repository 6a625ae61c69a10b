//! What a teacher says of some windows: its last hidden states, computed once, when they are first needed.
//!
//! Hidden states are `n_embd` numbers a token where logits are `n_vocab`, and the teacher's head makes the one of the other.

use lossy_kernels::Compute;

use crate::network::{Head, Network, divergence_backward};
use crate::weights::{WeightError, WeightSource};

/// Windows that are computed at once: a bound on memory, and not on the number of threads.
const GROUP: usize = 8;
/// Rows of logits that are in memory at once, of teacher and student each.
const ROWS: usize = 64;

/// Windows, and a teacher's hidden states behind its last layer for those that were asked for.
pub struct Lessons<'a> {
    teacher: &'a dyn WeightSource,
    windows: Vec<&'a [u32]>,
    hidden: Vec<Option<Vec<f32>>>,
}

impl<'a> Lessons<'a> {
    /// Nothing is computed yet.
    pub fn new(teacher: &'a dyn WeightSource, windows: &[&'a [u32]]) -> Lessons<'a> {
        Lessons { teacher, windows: windows.to_vec(), hidden: vec![None; windows.len()] }
    }

    /// How many windows there are.
    pub fn n_windows(&self) -> usize {
        self.windows.len()
    }

    /// All windows.
    pub fn windows(&self) -> &[&'a [u32]] {
        &self.windows
    }

    /// Computes the hidden states of windows that have none yet.
    ///
    /// # Errors
    /// A weight cannot be read, or a token is not in the vocabulary.
    pub fn fill(&mut self, cx: &Compute, which: &[usize]) -> Result<(), WeightError> {
        let mut missing: Vec<usize> =
            which.iter().copied().filter(|&window| self.hidden[window].is_none()).collect();
        missing.sort_unstable();
        missing.dedup();
        for group in missing.chunks(GROUP) {
            let windows: Vec<&[u32]> = group.iter().map(|&window| self.windows[window]).collect();
            let states = last_states(cx, self.teacher, &windows)?;
            for (&window, state) in group.iter().zip(states) {
                self.hidden[window] = Some(state);
            }
        }
        Ok(())
    }

    /// The hidden states of a window, `[n_tokens, n_embd]`.
    ///
    /// # Panics
    /// They were not computed.
    pub(crate) fn hidden(&self, window: usize) -> &[f32] {
        self.hidden[window].as_deref().expect("the window was filled")
    }

    /// What makes logits of hidden states.
    ///
    /// # Errors
    /// A weight cannot be read.
    pub(crate) fn head(&self) -> Result<Head<f32>, WeightError> {
        Network::new(self.teacher, 1)?.head()
    }

    /// The mean divergence of a student from the teacher over all windows, nats a token.
    ///
    /// # Errors
    /// A weight cannot be read, or a token is not in the vocabulary.
    pub fn divergence(&mut self, cx: &Compute, student: &dyn WeightSource) -> Result<f64, WeightError> {
        let all: Vec<usize> = (0..self.n_windows()).collect();
        self.fill(cx, &all)?;
        let (ours, theirs) = (Network::new(student, 1)?.head()?, self.head()?);
        let mut sum = 0.0;
        for group in all.chunks(GROUP) {
            let windows: Vec<&[u32]> = group.iter().map(|&window| self.windows[window]).collect();
            let states = last_states(cx, student, &windows)?;
            let mut works: Vec<(usize, Vec<f32>, f64)> =
                group.iter().zip(states).map(|(&window, state)| (window, state, 0.0)).collect();
            cx.pool.run_mut(&mut works, |_, (window, state, kl)| {
                let n_tokens = self.windows[*window].len();
                for (x, teacher) in rows_of_both(n_tokens, state, self.hidden(*window)) {
                    *kl += compare(&theirs.logits(teacher), &mut ours.logits(x), ours.n_vocab());
                }
            });
            sum += works.iter().map(|(_, _, kl)| kl).sum::<f64>();
        }
        Ok(sum / self.n_tokens().max(1) as f64)
    }

    /// Tokens of all windows.
    pub fn n_tokens(&self) -> usize {
        self.windows.iter().map(|window| window.len()).sum()
    }
}

/// The residual stream behind the last block, window by window.
fn last_states(
    cx: &Compute,
    source: &dyn WeightSource,
    windows: &[&[u32]],
) -> Result<Vec<Vec<f32>>, WeightError> {
    let n_tokens = windows.iter().map(|window| window.len()).max().unwrap_or(0);
    let network = Network::<f32>::new(source, n_tokens)?;
    let mut states = windows.iter().map(|window| network.embed(window)).collect::<Result<Vec<_>, _>>()?;
    for layer in 0..network.info().n_layers {
        let block = network.block(layer)?;
        cx.pool.run_mut(&mut states, |_, state| drop(block.forward(network.rotations(), state)));
    }
    Ok(states)
}

/// Some tokens after another of the hidden states of two models, so that few rows of logits are in memory.
pub(crate) fn rows_of_both<'a>(
    n_tokens: usize,
    ours: &'a [f32],
    theirs: &'a [f32],
) -> impl Iterator<Item = (&'a [f32], &'a [f32])> {
    let rows = |states: &'a [f32]| states.chunks(ROWS * (states.len() / n_tokens.max(1)).max(1));
    rows(ours).zip(rows(theirs))
}

/// Replaces rows of logits by the gradients of their divergence from a teacher's, and returns the sum of that.
pub(crate) fn compare(teacher: &[f32], logits: &mut [f32], n_vocab: usize) -> f64 {
    let rows = teacher.chunks_exact(n_vocab).zip(logits.chunks_exact_mut(n_vocab));
    rows.map(|(teacher, logits)| divergence_backward(teacher, logits)).sum()
}
