//! How long a model is trained, and what is seen of it.

use std::time::{Duration, Instant};

use lossy_compress::calibration::WINDOW;
use lossy_compress::train::{Next, TrainOptions, TrainProgress, Trained, WARM_UP};
use lossy_engine::Progress;

use crate::observer::Bar;
use crate::units::grouped;

/// How much of the time may be planned, and when training ends in any case, as parts of it.
const PLANNED: f64 = 0.97;
const END: f64 = 1.1;

/// How long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Amount {
    /// about; the first steps show how many fit
    Minutes(f64),
    /// as many, which make the same numbers on every machine
    Steps(usize),
}

impl Amount {
    /// Steps, if their number is known.
    pub fn steps(self) -> Option<usize> {
        match self {
            Amount::Minutes(_) => None,
            Amount::Steps(n) => Some(n),
        }
    }
}

/// From text, as an option's value.
pub fn minutes(text: &str) -> Result<f64, String> {
    positive(text, "minutes", 1e6)
}

/// A number above 0.
pub fn positive(text: &str, what: &str, most: f64) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value <= most => Ok(value),
        _ => Err(format!("expected {what} above 0, and at most {most}")),
    }
}

/// Time, and what is shown of training.
pub struct Clock {
    start: Instant,
    amount: Amount,
    /// when the first look was over, and the step that was done then
    ready: Option<(Instant, usize)>,
    /// steps between looks
    look: usize,
    n_steps: Option<usize>,
    /// what Ctrl-C means
    on_interrupt: Next,
    bar: Bar,
}

impl Clock {
    /// Begins; `on_interrupt`: what Ctrl-C means, which `hint` tells.
    pub fn start(amount: Amount, options: &TrainOptions, on_interrupt: Next, hint: &str) -> Clock {
        let bar = Bar::start("training", hint);
        let (start, look, n_steps) = (Instant::now(), options.look, amount.steps());
        Clock { start, amount, ready: None, look, n_steps, on_interrupt, bar }
    }

    /// What comes after a step.
    pub fn see(&mut self, progress: TrainProgress) -> Next {
        let TrainProgress { step, n_steps, held_out, .. } = progress;
        let (ready, first) = *self.ready.get_or_insert_with(|| (Instant::now(), step));
        self.n_steps = n_steps;
        if let Some(kl) = held_out {
            let of = n_steps.map_or(String::new(), |n| format!(" of {n}"));
            self.bar.note(&format!("step {step}{of}: KL {kl:.4} on the text that is held out"));
        } else if step == first {
            self.bar.note(&format!("training goes on behind step {step}"));
        }
        if self.bar.set(Progress::new(step, n_steps.unwrap_or(usize::MAX))).is_break() {
            return self.on_interrupt;
        }
        let Amount::Minutes(minutes) = self.amount else { return Next::GoOn };
        let limit = Duration::from_secs_f64(60.0 * minutes);
        if step > first && self.start.elapsed() > limit.mul_f64(END) {
            return Next::Stop;
        }
        if n_steps.is_none() && step == WARM_UP {
            let n_steps = self.plan(limit, ready);
            self.n_steps = Some(n_steps);
            return Next::Steps(n_steps);
        }
        Next::GoOn
    }

    /// The steps that fit into the time, by what the first ones took.
    fn plan(&self, limit: Duration, ready: Instant) -> usize {
        let per_step = ready.elapsed().as_secs_f64() / WARM_UP as f64;
        // The first look computed the teacher too, and later ones do not.
        let per_look = (ready - self.start).as_secs_f64() / 2.0;
        let left = limit.as_secs_f64() * PLANNED - self.start.elapsed().as_secs_f64() - per_look;
        let more = (left / (per_step + per_look / self.look as f64)).max(1.0);
        WARM_UP + more as usize
    }

    /// What there is to say about the number of steps, and what there was too little time for.
    pub fn told(&self, trained: Trained) -> Vec<String> {
        let mut lines = Vec::new();
        if self.amount.steps().is_none() {
            if trained.best_step == 0 && trained.n_steps < self.look.min(self.n_steps.unwrap_or(usize::MAX)) {
                lines.push(format!(
                    "the time was over after {} steps, before anything was measured: give more minutes",
                    trained.n_steps
                ));
            } else if let Some(n_steps) = self.n_steps {
                // What was stopped on the way has another course of rates than a training of so many steps.
                lines.push(format!(
                    "--steps {n_steps} in the place of --minutes goes the whole way again, step by step the same"
                ));
            }
        }
        lines
    }

    /// `10,240 tokens in 3.2 minutes, 53 a second`
    pub fn speed(&self, trained: Trained, batch: usize) -> String {
        let (ready, first) = self.ready.unwrap_or((self.start, 0));
        let n_tokens = trained.n_steps.saturating_sub(first) * batch * WINDOW;
        format!(
            "{} tokens in {:.1} minutes, {:.0} a second",
            grouped(n_tokens as u64),
            self.start.elapsed().as_secs_f64() / 60.0,
            n_tokens as f64 / ready.elapsed().as_secs_f64()
        )
    }
}
