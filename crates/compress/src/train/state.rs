//! A training under way: Adam's means, the best numbers so far, and how far it is. What is kept of it goes on as if nothing had been.

use serde::{Deserialize, Serialize};

use super::{TrainOptions, Trained};
use crate::student::Student;

const BETAS: (f64, f64) = (0.9, 0.98);

/// Lists are in the order of the student's parameters.
pub(super) struct State {
    pub(super) n_steps: Option<usize>,
    pub(super) trained: Trained,
    pub(super) is_over: bool,
    best: Vec<Vec<f32>>,
    /// of gradients, and of their squares
    means: [Vec<Vec<f32>>; 2],
}

/// What begins the bytes of a state; the student's numbers follow, the best ones, and the two kinds of means.
#[derive(Serialize, Deserialize)]
struct Header {
    n_steps: Option<usize>,
    trained: Trained,
    is_over: bool,
}

/// Ends the header.
const END: u8 = b'\n';

impl State {
    pub(super) fn new(student: &Student<'_>, n_steps: Option<usize>, before: f64) -> State {
        let zeros = || student.parameters().map(|values| vec![0.0; values.len()]).collect();
        State {
            n_steps,
            trained: Trained { before, after: before, n_steps: 0, best_step: 0 },
            is_over: false,
            best: numbers(student),
            means: [zeros(), zeros()],
        }
    }

    /// Adam's step (arXiv 1412.6980), with the gradient of all values together cut to a length of 1.
    pub(super) fn step(&mut self, student: &mut Student<'_>, gradients: &[Vec<f64>], rate: f64) {
        let length = gradients.iter().flatten().map(|g| g * g).sum::<f64>().sqrt();
        let cut = (1.0 / length).min(1.0);
        let bias = |beta: f64| 1.0 - beta.powi(self.trained.n_steps as i32 + 1);
        let (mean_bias, square_bias) = (bias(BETAS.0), bias(BETAS.1));
        let [means, squares] = &mut self.means;
        let means = means.iter_mut().zip(squares);
        for ((values, (means, squares)), gradients) in student.parameters_mut().zip(means).zip(gradients) {
            for (((value, mean), square), gradient) in
                values.iter_mut().zip(means).zip(squares).zip(gradients)
            {
                let gradient = gradient * cut;
                *mean = (BETAS.0 * f64::from(*mean) + (1.0 - BETAS.0) * gradient) as f32;
                *square = (BETAS.1 * f64::from(*square) + (1.0 - BETAS.1) * gradient * gradient) as f32;
                let way = f64::from(*mean) / mean_bias / ((f64::from(*square) / square_bias).sqrt() + 1e-8);
                *value -= (rate * way) as f32;
            }
        }
        self.trained.n_steps += 1;
    }

    /// Takes what was found on the text that is held out: a better state is the best one, and too many that are not are the end.
    pub(super) fn look(&mut self, student: &Student<'_>, found: Option<f64>, options: &TrainOptions) {
        let trained = &mut self.trained;
        match found {
            Some(kl) if kl < trained.after => {
                (trained.after, trained.best_step) = (kl, trained.n_steps);
                self.best = numbers(student);
            }
            Some(_) if trained.n_steps - trained.best_step >= options.look * options.patience => {
                self.is_over = true;
            }
            _ => {}
        }
    }

    /// Gives the student its best numbers.
    pub(super) fn end(self, student: &mut Student<'_>) -> Trained {
        student.parameters_mut().zip(&self.best).for_each(|(values, best)| values.copy_from_slice(best));
        self.trained
    }

    pub(super) fn to_bytes(&self, student: &Student<'_>) -> Vec<u8> {
        let header = Header { n_steps: self.n_steps, trained: self.trained, is_over: self.is_over };
        let mut bytes = serde_json::to_vec(&header).expect("numbers are JSON");
        bytes.push(END);
        let lists = [&self.best, &self.means[0], &self.means[1]];
        for values in student.parameters().chain(lists.into_iter().flatten().map(Vec::as_slice)) {
            bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        }
        bytes
    }

    /// Reads what [`to_bytes`](State::to_bytes) wrote, and gives the student the numbers that it had. `None`: it is of another student.
    pub(super) fn from_bytes(bytes: &[u8], student: &mut Student<'_>) -> Option<State> {
        let at = bytes.iter().position(|&byte| byte == END)?;
        let Header { n_steps, trained, is_over } = serde_json::from_slice(&bytes[..at]).ok()?;
        let (words, rest) = bytes[at + 1..].as_chunks::<4>();
        if !rest.is_empty() || words.len() != 4 * student.n_values() {
            return None;
        }
        let mut all = words.iter().map(|word| f32::from_le_bytes(*word));
        student.parameters_mut().flatten().zip(&mut all).for_each(|(value, kept)| *value = kept);
        let mut list = || -> Vec<Vec<f32>> {
            student.parameters().map(|values| all.by_ref().take(values.len()).collect()).collect()
        };
        Some(State { n_steps, trained, is_over, best: list(), means: [list(), list()] })
    }
}

fn numbers(student: &Student<'_>) -> Vec<Vec<f32>> {
    student.parameters().map(<[f32]>::to_vec).collect()
}
