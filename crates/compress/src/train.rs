//! Distillation inside the format: the student's norms, biases and factors of blocks are moved until it predicts what its
//! teacher predicts.
//!
//! The loss is `KL(teacher ‖ student)` over the whole vocabulary, the optimizer Adam (arXiv 1412.6980) without the decay of
//! weights; the gradient of all values together is cut to a length of 1. Learning rates rise for five steps, then fall in a
//! straight line. Text that is held out decides: what is kept is the state that it found best, the first one included, so a
//! student never becomes worse on it. Windows are computed apart and summed in their order, so the same input gives the same
//! numbers at any number of threads.
//!
//! In memory are one block of teacher and student each, the residual stream before every block of a step's windows, the
//! teacher's last hidden states of all windows that were used, and two numbers for each that is trained.

use lossy_kernels::dense::{Into, View, ViewMut, product};
use lossy_kernels::{Compute, Isa};

use crate::block::Gradient;
use crate::lessons::{Lessons, compare, rows_of_both};
use crate::network::{Head, Network, OUTPUT_NORM};
use crate::student::Student;
use crate::weights::{WeightError, WeightSource};

/// How a student is trained.
#[derive(Clone, Copy, Debug)]
pub struct TrainOptions {
    /// steps at most
    pub n_steps: usize,
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
        TrainOptions { n_steps: 60, batch: 4, rate: 1e-3, look: 10, patience: 3, n_threads: 1 }
    }
}

/// How far a student is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrainProgress {
    /// steps that are done
    pub step: usize,
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
}

/// What training came to.
#[derive(Clone, Copy, Debug, PartialEq)]
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
}

const BETAS: (f64, f64) = (0.9, 0.98);
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
    windows: &[&[u32]],
    held_out: &[&[u32]],
    options: &TrainOptions,
    see: &mut dyn FnMut(TrainProgress) -> Next,
) -> Result<Trained, TrainError> {
    let [ours, theirs] = [student.info().n_vocab, teacher.info().n_vocab];
    if ours != theirs {
        return Err(TrainError::Vocabulary { teacher: theirs, student: ours });
    }
    if windows.is_empty() || held_out.is_empty() {
        return Err(TrainError::NoText { n_windows: windows.len(), n_held_out: held_out.len() });
    }
    let cx = Compute::with_isa(options.n_threads, Isa::best());
    let (mut lessons, mut held_out) = (Lessons::new(teacher, windows), Lessons::new(teacher, held_out));
    let before = held_out.divergence(&cx, &student.as_written())?;
    let mut result = Trained { before, after: before, n_steps: 0, best_step: 0 };
    let mut best: Vec<Vec<f32>> = student.parameters().map(<[f32]>::to_vec).collect();
    let mut moments: Vec<[Vec<f32>; 2]> =
        best.iter().map(|values| [vec![0.0; values.len()], vec![0.0; values.len()]]).collect();
    let mut n_steps = options.n_steps;
    let mut next = see(TrainProgress { step: 0, kl: None, held_out: Some(before) });
    loop {
        match next {
            Next::GoOn => {}
            Next::Steps(n) => n_steps = n,
            Next::Stop => break,
        }
        if result.n_steps >= n_steps {
            break;
        }
        let step = result.n_steps;
        let batch: Vec<usize> =
            (0..options.batch).map(|i| (step * options.batch + i) % windows.len()).collect();
        lessons.fill(&cx, &batch)?;
        let (kl, gradients) = gradients(&cx, student, &lessons, &batch)?;
        adam(student, &mut moments, &gradients, step, rate(step, n_steps) * options.rate);
        result.n_steps += 1;
        let is_due = result.n_steps.is_multiple_of(options.look) || result.n_steps == n_steps;
        let found = is_due.then(|| held_out.divergence(&cx, &student.as_written())).transpose()?;
        next = see(TrainProgress { step: result.n_steps, kl: Some(kl), held_out: found });
        match found {
            Some(kl) if kl < result.after => {
                (result.after, result.best_step) = (kl, result.n_steps);
                best = student.parameters().map(<[f32]>::to_vec).collect();
            }
            Some(_) if result.n_steps - result.best_step >= options.look * options.patience => break,
            _ => {}
        }
    }
    student.parameters_mut().zip(&best).for_each(|(values, best)| values.copy_from_slice(best));
    Ok(result)
}

/// The learning rate of a step, as a part of the highest.
fn rate(step: usize, n_steps: usize) -> f64 {
    let warm = ((step + 1) as f64 / WARM_UP as f64).min(1.0);
    // Falls from the end of the warm-up on, which is therefore the same whatever the number of steps.
    let (done, all) = (step.saturating_sub(WARM_UP) as f64, n_steps.saturating_sub(WARM_UP).max(1) as f64);
    warm * (1.0 - done / all).max(LEAST_RATE)
}

fn adam(
    student: &mut Student<'_>,
    moments: &mut [[Vec<f32>; 2]],
    gradients: &[Vec<f64>],
    step: usize,
    rate: f64,
) {
    let length = gradients.iter().flatten().map(|g| g * g).sum::<f64>().sqrt();
    let cut = (1.0 / length).min(1.0);
    let bias = |beta: f64| 1.0 - beta.powi(step as i32 + 1);
    let (mean_bias, square_bias) = (bias(BETAS.0), bias(BETAS.1));
    for ((values, [means, squares]), gradients) in student.parameters_mut().zip(moments).zip(gradients) {
        for (((value, mean), square), gradient) in values.iter_mut().zip(means).zip(squares).zip(gradients) {
            let gradient = gradient * cut;
            *mean = (BETAS.0 * f64::from(*mean) + (1.0 - BETAS.0) * gradient) as f32;
            *square = (BETAS.1 * f64::from(*square) + (1.0 - BETAS.1) * gradient * gradient) as f32;
            let way = f64::from(*mean) / mean_bias / ((f64::from(*square) / square_bias).sqrt() + 1e-8);
            *value -= (rate * way) as f32;
        }
    }
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

/// One window on its way.
struct Work<'a> {
    /// the teacher's last hidden states
    teacher: &'a [f32],
    n_tokens: usize,
    /// the student's residual stream before each block, and behind the last
    inputs: Vec<Vec<f32>>,
    d_x: Vec<f32>,
    d_norm: Vec<f32>,
    kl: f64,
    /// gradients of what a block trains, by name
    found: Vec<(String, Vec<f32>)>,
}

/// The student's way forward, the divergence of its predictions, and the gradient of its last hidden states.
fn forward<'a>(
    cx: &Compute,
    network: &Network<'_, f32>,
    lessons: &'a Lessons<'_>,
    batch: &[usize],
) -> Result<Vec<Work<'a>>, WeightError> {
    let start = |&window: &usize| {
        let tokens = lessons.windows()[window];
        Ok(Work {
            teacher: lessons.hidden(window),
            n_tokens: tokens.len(),
            inputs: vec![network.embed(tokens)?],
            d_x: Vec::new(),
            d_norm: vec![0.0; network.info().n_embd],
            kl: 0.0,
            found: Vec::new(),
        })
    };
    let mut works = batch.iter().map(start).collect::<Result<Vec<Work<'_>>, WeightError>>()?;
    for layer in 0..network.info().n_layers {
        let block = network.block(layer)?;
        cx.pool.run_mut(&mut works, |_, work| {
            let mut x = work.inputs[layer].clone();
            block.forward(network.rotations(), &mut x);
            work.inputs.push(x);
        });
    }
    let (ours, theirs) = (network.head()?, lessons.head()?);
    cx.pool.run_mut(&mut works, |_, work| work.compare(&ours, &theirs));
    Ok(works)
}

impl Work<'_> {
    fn compare(&mut self, ours: &Head<f32>, theirs: &Head<f32>) {
        let last = self.inputs.pop().unwrap_or_default();
        for (x, teacher) in rows_of_both(self.n_tokens, &last, self.teacher) {
            let mut logits = ours.logits(x);
            self.kl += compare(&theirs.logits(teacher), &mut logits, ours.n_vocab());
            self.d_x.extend(ours.backward(x, &logits, &mut self.d_norm));
        }
    }
}

/// The mean divergence of some windows, and the gradient of all that is trained, in the order of the student's parameters.
fn gradients(
    cx: &Compute,
    student: &Student<'_>,
    lessons: &Lessons<'_>,
    batch: &[usize],
) -> Result<(f64, Vec<Vec<f64>>), WeightError> {
    let lengths = || batch.iter().map(|&window| lessons.windows()[window].len());
    let network = Network::<f32>::new(student, lengths().max().unwrap_or(0))?;
    let n_total = lengths().sum::<usize>() as f64;
    let mut works = forward(cx, &network, lessons, batch)?;
    let names: Vec<&String> = student.vectors.keys().chain(student.factors.keys()).collect();
    let mut sums: Vec<Vec<f64>> = student.parameters().map(|values| vec![0.0; values.len()]).collect();
    for work in &mut works {
        work.found.push((OUTPUT_NORM.to_owned(), std::mem::take(&mut work.d_norm)));
    }
    add(&names, &mut sums, &mut works, n_total);
    for layer in (0..network.info().n_layers).rev() {
        let block = network.block(layer)?;
        cx.pool.run_mut(&mut works, |_, work| {
            let Work { inputs, d_x, found, .. } = work;
            let x = inputs.pop().unwrap_or_default();
            let tape = block.forward(network.rotations(), &mut x.clone());
            block.backward(network.rotations(), &x, tape, d_x, &mut |gradient| match gradient {
                Gradient::Norm { norm, gradient } => found.push((norm.weight(layer), gradient.to_vec())),
                Gradient::Output { projection, input, gradient } => {
                    let [n_out, n_in] = projection.shape(network.info());
                    let name = projection.weight(layer);
                    let bias = projection.bias(layer);
                    if student.vectors.contains_key(&bias) {
                        found.push((bias, column_sums(gradient, n_out)));
                    }
                    if let Some(factors) = student.factors.get(&name) {
                        let mut d_weight = vec![0.0; n_out * n_in];
                        let d_y = View::rows(gradient, n_out).transposed();
                        product(Into::Set, ViewMut::rows(&mut d_weight, n_in), d_y, View::rows(input, n_in));
                        found.push((name, factors.gradient(block.weight(projection), &d_weight)));
                    }
                }
            });
        });
        add(&names, &mut sums, &mut works, n_total);
    }
    Ok((works.iter().map(|work| work.kl).sum::<f64>() / n_total, sums))
}

fn column_sums(rows: &[f32], n: usize) -> Vec<f32> {
    let mut sums = vec![0.0; n];
    for row in rows.chunks_exact(n) {
        sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
    }
    sums
}

/// Adds what windows found, in their order, and forgets it.
fn add(names: &[&String], sums: &mut [Vec<f64>], works: &mut [Work<'_>], n_total: f64) {
    for (name, gradient) in works.iter_mut().flat_map(|work| work.found.drain(..)) {
        if let Some(at) = names.iter().position(|known| **known == name) {
            sums[at].iter_mut().zip(&gradient).for_each(|(sum, &g)| *sum += f64::from(g) / n_total);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{Norm, Projection};
    use crate::student::Factors;
    use lossy_engine::ModelSource;
    use lossy_testkit::noise;

    const TOKENS: [u32; 12] = [1, 17, 42, 5, 63, 17, 30, 8, 2, 71, 3, 9];

    fn wide() -> (tempfile::TempDir, ModelSource) {
        let folder = tempfile::tempdir().unwrap();
        let source = ModelSource::open(&lossy_testkit::tiny_model::write_wide(folder.path())).unwrap();
        (folder, source)
    }

    /// A student whose norms, and factors of 32 columns, are off by some percent.
    fn damaged<'a>(source: &'a ModelSource) -> Student<'a> {
        let mut student = Student::new(source);
        for layer in 0..source.info().n_layers {
            for norm in [Norm::Attention, Norm::Mlp] {
                student.train_vector(&norm.weight(layer)).unwrap();
            }
            for projection in Projection::ALL {
                let [n_rows, n_cols] = projection.shape(source.info());
                student
                    .train_factors(&projection.weight(layer), Factors::uniform(n_rows, n_cols, 32))
                    .unwrap();
            }
        }
        student.train_vector(OUTPUT_NORM).unwrap();
        for (seed, values) in student.parameters_mut().enumerate() {
            values
                .iter_mut()
                .zip(noise(seed as u64, 1 << 14))
                .for_each(|(value, noise)| *value *= 1.0 + 0.1 * noise);
        }
        student
    }

    #[test]
    fn gradients_of_norms_and_factors_are_those_of_finite_differences() {
        let (_folder, source) = wide();
        let mut student = damaged(&source);
        let cx = Compute::with_isa(2, Isa::best());
        let windows = [&TOKENS[..7], &TOKENS[7..]];
        let mut lessons = Lessons::new(&source, &windows);
        lessons.fill(&cx, &[0, 1]).unwrap();
        let (kl, found) = gradients(&cx, &student, &lessons, &[0, 1]).unwrap();
        assert!((kl - divergence(&cx, &student, &source, &windows).unwrap()).abs() < 1e-6);
        for (at, gradient) in found.iter().enumerate() {
            let norm = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
            let mut move_by = |step: f64| {
                let values = student.parameters_mut().nth(at).unwrap();
                values.iter_mut().zip(gradient).for_each(|(value, g)| *value += (step * g / norm) as f32);
                divergence(&cx, &student, &source, &windows).unwrap()
            };
            let h = 1e-2;
            let wanted = (move_by(h) - move_by(-2.0 * h)) / (2.0 * h);
            move_by(h);
            assert!((norm / wanted - 1.0).abs() < 2e-2, "parameter {at}: {norm} is not {wanted}");
        }
    }

    #[test]
    fn a_damaged_student_becomes_like_its_teacher_with_the_same_bits_at_any_number_of_threads() {
        let (_folder, source) = wide();
        let tokens: Vec<u32> = (0..40 * 32).map(|i: u32| (i * i * 7 + i * 13 + i / 31) % 80).collect();
        let windows: Vec<&[u32]> = tokens.chunks(32).collect();
        let run = |n_threads| {
            let mut student = damaged(&source);
            let options = TrainOptions { n_steps: 40, rate: 1e-2, n_threads, ..TrainOptions::default() };
            let mut go_on = |_| Next::GoOn;
            let trained =
                train(&mut student, &source, &windows[4..], &windows[..4], &options, &mut go_on).unwrap();
            (trained, student.parameters().map(<[f32]>::to_vec).collect::<Vec<_>>())
        };
        let (trained, values) = run(1);
        println!("{trained:?}");
        assert!(trained.after < 0.5 * trained.before, "{trained:?}");
        assert_eq!((trained, values), run(3));
    }

    #[test]
    fn a_student_that_gets_worse_is_given_back_as_it_was() {
        let (_folder, source) = wide();
        let mut student = damaged(&source);
        let before: Vec<Vec<f32>> = student.parameters().map(<[f32]>::to_vec).collect();
        let options = TrainOptions { n_steps: 6, look: 1, rate: 30.0, ..TrainOptions::default() };
        let mut go_on = |_| Next::GoOn;
        let trained = train(&mut student, &source, &[&TOKENS], &[&TOKENS], &options, &mut go_on).unwrap();
        assert_eq!((trained.best_step, trained.n_steps, trained.before), (0, 3, trained.after));
        assert!(student.parameters().eq(before.iter().map(Vec::as_slice)));
    }

    #[test]
    fn no_text_is_an_error_with_the_numbers() {
        let (_folder, source) = wide();
        let mut go_on = |_| Next::GoOn;
        let error =
            train(&mut damaged(&source), &source, &[&TOKENS], &[], &TrainOptions::default(), &mut go_on)
                .unwrap_err();
        assert!(error.to_string().starts_with("there are 1 windows to train on and 0 held out"), "{error}");
    }
}
