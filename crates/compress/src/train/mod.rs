//! Distillation: what is trained of a student is moved until it predicts what its teacher predicts.
//!
//! The loss is `KL(teacher ‖ student)` over the whole vocabulary, the optimizer Adam (arXiv 1412.6980) without the decay of
//! weights; the gradient of all values together is cut to a length of 1. Learning rates rise for five steps, then fall in a
//! straight line. Text that is held out decides: what is kept is the state that it found best, the first one included, so a
//! student never becomes worse on it. Windows are computed apart and summed in their order, so the same input gives the same
//! numbers at any number of threads.
//!
//! In memory are one block of teacher and student each, the residual stream before every block of a step's windows, the
//! teacher's last hidden states of all windows that were used, and [`BYTES_PER_NUMBER`] for each number that is trained.

mod gradients;
mod state;
#[cfg(test)]
mod tests;

use lossy_kernels::{Compute, Isa};
use serde::{Deserialize, Serialize};

use self::gradients::gradients;
use self::state::State;
use crate::calibration::Split;
use crate::kept::{Kept, KeptError};
use crate::lessons::Lessons;
use crate::student::Student;
use crate::weights::{WeightError, WeightSource};

/// How a student is trained.
#[derive(Clone, Copy, Debug)]
pub struct TrainOptions {
    /// steps; `None`: [`Next::Steps`] will tell
    pub n_steps: Option<usize>,
    /// windows of a step
    pub batch: usize,
    /// the highest learning rate
    pub rate: f64,
    /// steps between looks at the text that is held out
    pub look: usize,
    /// looks without a better state after which it ends
    pub patience: usize,
    /// threads
    pub n_threads: usize,
}

impl Default for TrainOptions {
    fn default() -> TrainOptions {
        TrainOptions { n_steps: Some(60), batch: 4, rate: 1e-3, look: 10, patience: 3, n_threads: 1 }
    }
}

/// How far a student is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrainProgress {
    /// steps that are done
    pub step: usize,
    /// of how many, if that is known
    pub n_steps: Option<usize>,
    /// mean divergence of the last step's windows, nats a token; `None` before the first
    pub kl: Option<f64>,
    /// mean divergence of the text that is held out, where it was looked at now
    pub held_out: Option<f64>,
}

/// What comes after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// the next one
    GoOn,
    /// the next one, with so many in all. Said after at most [`WARM_UP`] steps, it is as if it had been so from the beginning:
    /// whoever has a clock can plan when it is known how long a step takes
    Steps(usize),
    /// the end: what is kept is the best state so far
    Stop,
    /// the end for now: a training that is [kept](train_kept) goes on with the last look at the text that is held out
    Pause,
}

/// What training came to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trained {
    /// divergence of the held-out text before, nats a token
    pub before: f64,
    /// and after
    pub after: f64,
    /// steps that were done
    pub n_steps: usize,
    /// the step whose state was kept; 0: nothing was better than the beginning
    pub best_step: usize,
}

/// Why a student cannot be trained.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// a teacher with another vocabulary
    #[error(
        "the teacher has a vocabulary of {teacher} tokens, the student one of {student}: take the model it was made from"
    )]
    Vocabulary {
        /// the teacher's tokens
        teacher: usize,
        /// the student's
        student: usize,
    },
    /// nothing to train on, or to decide by
    #[error(
        "there are {n_windows} windows to train on and {n_held_out} held out: at least one of each is needed"
    )]
    NoText {
        /// windows to train on
        n_windows: usize,
        /// windows that are held out
        n_held_out: usize,
    },
    /// a model that cannot be computed
    #[error(transparent)]
    Weights(#[from] WeightError),
    /// a state that cannot be kept
    #[error(transparent)]
    Kept(#[from] KeptError),
}

/// Where a training is kept, so that it can go on.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'a> {
    /// the folder
    pub kept: &'a Kept,
    /// a name that another student, text, rate or number of steps would not have
    pub name: &'a str,
}

/// Memory for each number that is trained: itself, the best one, Adam's two means, and the sum of its gradients in float64.
pub const BYTES_PER_NUMBER: u64 = 24;
/// Steps in which learning rates rise.
pub const WARM_UP: usize = 5;
/// The last steps' share of the highest rate.
const LEAST_RATE: f64 = 0.05;

/// Moves what `student` trains. `see` is told of every step, and decides what comes next.
///
/// What is measured on the text that is held out is the student [as its file will have it](Student::as_written).
///
/// # Errors
/// The vocabularies differ, there is no text, or a weight cannot be read.
pub fn train(
    student: &mut Student<'_>,
    teacher: &dyn WeightSource,
    text: &Split<'_>,
    options: &TrainOptions,
    see: &mut dyn FnMut(TrainProgress) -> Next,
) -> Result<Trained, TrainError> {
    train_from(student, teacher, text, options, None, see)
}

/// The same, kept after every look at the text that is held out; what was kept before goes on, with the same numbers in the end.
///
/// # Errors
/// As [`train`]; or a state cannot be kept.
pub fn train_kept(
    student: &mut Student<'_>,
    teacher: &dyn WeightSource,
    text: &Split<'_>,
    options: &TrainOptions,
    piece: Piece<'_>,
    see: &mut dyn FnMut(TrainProgress) -> Next,
) -> Result<Trained, TrainError> {
    train_from(student, teacher, text, options, Some(piece), see)
}

fn train_from(
    student: &mut Student<'_>,
    teacher: &dyn WeightSource,
    text: &Split<'_>,
    options: &TrainOptions,
    piece: Option<Piece<'_>>,
    see: &mut dyn FnMut(TrainProgress) -> Next,
) -> Result<Trained, TrainError> {
    let [ours, theirs] = [student.info().n_vocab, teacher.info().n_vocab];
    if ours != theirs {
        return Err(TrainError::Vocabulary { teacher: theirs, student: ours });
    }
    let Split { open: windows, held_out } = text;
    if windows.is_empty() || held_out.is_empty() {
        return Err(TrainError::NoText { n_windows: windows.len(), n_held_out: held_out.len() });
    }
    let cx = Compute::with_isa(options.n_threads, Isa::best());
    let (mut lessons, mut held_out) = (Lessons::new(teacher, windows), Lessons::new(teacher, held_out));
    let kept = piece.and_then(|piece| State::from_bytes(&piece.kept.get(piece.name)?, student));
    let (mut state, mut found) = match kept {
        Some(state) => (state, None),
        None => {
            let before = held_out.divergence(&cx, &student.as_written())?;
            (State::new(student, options.n_steps, before), Some(before))
        }
    };
    let mut kl = None;
    loop {
        let progress =
            TrainProgress { step: state.trained.n_steps, n_steps: state.n_steps, kl, held_out: found };
        let next = see(progress);
        state.look(student, found, options);
        match next {
            Next::GoOn | Next::Pause => {}
            Next::Steps(n) => state.n_steps = Some(n),
            Next::Stop => state.is_over = true,
        }
        if let Some(piece) = piece.filter(|_| found.is_some() || state.is_over) {
            piece.kept.put(piece.name, &state.to_bytes(student))?;
        }
        let step = state.trained.n_steps;
        let n_steps = state.n_steps.unwrap_or(usize::MAX);
        if next == Next::Pause || state.is_over || step >= n_steps {
            break;
        }
        let batch: Vec<usize> =
            (0..options.batch).map(|i| (step * options.batch + i) % windows.len()).collect();
        lessons.fill(&cx, &batch)?;
        let (mean, gradients) = gradients(&cx, student, &lessons, &batch)?;
        state.step(student, &gradients, rate(step, n_steps) * options.rate);
        kl = Some(mean);
        let is_due = state.trained.n_steps.is_multiple_of(options.look) || state.trained.n_steps == n_steps;
        found = is_due.then(|| held_out.divergence(&cx, &student.as_written())).transpose()?;
    }
    Ok(state.end(student))
}

/// The learning rate of a step, as a part of the highest.
fn rate(step: usize, n_steps: usize) -> f64 {
    let warm = ((step + 1) as f64 / WARM_UP as f64).min(1.0);
    // Falls from the end of the warm-up on, which is therefore the same whatever the number of steps.
    let (done, all) = (step.saturating_sub(WARM_UP) as f64, n_steps.saturating_sub(WARM_UP).max(1) as f64);
    warm * (1.0 - done / all).max(LEAST_RATE)
}

/// The mean divergence of a student from its teacher, nats a token.
///
/// # Errors
/// A weight cannot be read, or a token is not in the vocabulary.
pub fn divergence(
    cx: &Compute,
    student: &dyn WeightSource,
    teacher: &dyn WeightSource,
    windows: &[&[u32]],
) -> Result<f64, WeightError> {
    Lessons::new(teacher, windows).divergence(cx, student)
}
