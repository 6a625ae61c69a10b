//! A short measurement of what a setting costs on this model, where no certificate says it.
//!
//! At most a minute, on bundled text; how much of it depends on the speed of the model. What comes of it is saved as a
//! certificate, beside those of longer measurements.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use lossy_engine::{Logits, Progress};
use lossy_tokenizer::Tokenizer;

use crate::divergence::{ReferenceRun, SavedPrediction};
use crate::{
    Budget, Certificate, Certificates, EvalError, LEAST_PREDICTIONS, Measurable, Meter, Note, Observer,
    Setting, Stage, Text, WindowOptions, Windows, cheapest,
};

/// A probe takes at most this time.
pub const PROBE_PATIENCE: Duration = Duration::from_secs(60);
/// The chunk of a meter that probes: what a slow model has measured when the time is over ends with a chunk.
pub const PROBE_CHUNK: usize = 128;
/// A model that reads fewer in the time is not measured: nothing would come of it.
const LEAST_TOKENS: usize = 384;
/// Contexts that are tried, longest first, and how many of them.
const PLANS: [(usize, usize); 3] = [(1024, 2), (1024, 1), (512, 1)];

/// Measures in a minute what a setting costs, or which one a budget allows.
pub struct Probe<'a, L> {
    meter: &'a mut Meter<L>,
    tokenizer: &'a Tokenizer,
    certificates: &'a Certificates,
    /// what repeats the measurement of a setting on so many tokens
    command: &'a dyn Fn(&Setting, usize) -> String,
    patience: Duration,
    /// what the reference has read, and its predictions
    read: Option<(Windows, Vec<SavedPrediction>)>,
}

/// What a budget allows on a model.
#[derive(Clone, Debug, PartialEq)]
pub enum Allowed {
    /// the setting of fewest bits within the budget
    Found {
        /// what is known of it
        certificate: Box<Certificate>,
        /// Whether no mixture can be cheaper: a [search](crate::Search) with this budget chose it, or it is the lowest rung of
        /// the ladder.
        is_cheapest: bool,
    },
    /// no rung of the ladder is within the budget
    Nothing,
    /// the context has too few predictions for a certificate
    TooShort,
    /// the time was over before a setting was found
    OutOfTime,
    /// the observer stopped it before a setting was found
    Stopped,
}

impl<'a, L: Measurable> Probe<'a, L> {
    /// On bundled text. `command` gives the command that repeats the measurement of a setting on so many tokens.
    pub fn new(
        meter: &'a mut Meter<L>,
        tokenizer: &'a Tokenizer,
        certificates: &'a Certificates,
        command: &'a dyn Fn(&Setting, usize) -> String,
    ) -> Probe<'a, L> {
        Probe { meter, tokenizer, certificates, command, patience: PROBE_PATIENCE, read: None }
    }

    /// Whether a whole context has too few predictions for a certificate.
    pub fn is_too_short(&self) -> bool {
        let n_ctx = self.meter.n_ctx();
        n_ctx.saturating_sub(1 + WindowOptions::new(n_ctx).skip) < LEAST_PREDICTIONS
    }

    /// What is known of a setting without a measurement.
    pub fn known(&self, setting: &Setting) -> Option<Certificate> {
        let name = setting.to_string();
        self.all_known().into_iter().find(|certificate| certificate.setting == name)
    }

    fn all_known(&self) -> Vec<Certificate> {
        self.certificates.known(self.meter, self.meter.n_ctx())
    }

    /// The setting of fewest bits within a budget. Rungs of the ladder without a certificate are measured first, cheapest
    /// first, until one is within.
    ///
    /// # Errors
    /// The model cannot be measured.
    pub fn within(&mut self, budget: &Budget, observer: &mut dyn Observer) -> Result<Allowed, EvalError> {
        if self.is_too_short() {
            return Ok(Allowed::TooShort);
        }
        let mut known = self.all_known();
        let searched: Vec<Certificate> =
            known.iter().filter(|certificate| certificate.budget.as_ref() == Some(budget)).cloned().collect();
        if let Some(certificate) = cheapest(&searched, budget) {
            return Ok(Allowed::Found { certificate: Box::new(certificate.clone()), is_cheapest: true });
        }
        let mut until = Until::new(self.patience, observer);
        let ladder = Setting::ladder();
        for rung in ladder.iter().filter(|rung| !rung.kv.is_exact()) {
            let name = rung.to_string();
            let is_rung = |certificate: &&Certificate| certificate.setting == name;
            if !known.iter().any(|certificate| is_rung(&certificate)) {
                known.extend(self.measure_until(rung, &mut until)?);
                if until.is_stopped {
                    return Ok(Allowed::Stopped);
                }
            }
            match known.iter().find(is_rung) {
                None => return Ok(Allowed::OutOfTime),
                Some(certificate) if budget.allows_loss(&certificate.loss) => break,
                Some(_) => {}
            }
        }
        Ok(match cheapest(&known, budget) {
            Some(certificate) => Allowed::Found {
                is_cheapest: ladder.first().is_some_and(|rung| rung.to_string() == certificate.setting),
                certificate: Box::new(certificate.clone()),
            },
            None => Allowed::Nothing,
        })
    }

    /// Measures a setting. `None`: the time was over, or the observer stopped it, before there was enough for a certificate.
    ///
    /// # Errors
    /// The setting does not fit the model, or the reference fails.
    pub fn measure(
        &mut self,
        setting: &Setting,
        observer: &mut dyn Observer,
    ) -> Result<Option<Certificate>, EvalError> {
        self.measure_until(setting, &mut Until::new(self.patience, observer))
    }

    /// The first measurement runs the reference, the others compare with its predictions.
    fn measure_until(
        &mut self,
        setting: &Setting,
        until: &mut Until<'_>,
    ) -> Result<Option<Certificate>, EvalError> {
        until.observer.note(&Note::Probing(setting));
        // Calibration takes a time of its own.
        until.pause();
        match self.meter.set(std::slice::from_ref(setting), until) {
            Err(EvalError::Stopped) => return Ok(None),
            set => set?,
        }
        until.resume();
        let stage = Stage::Probe(setting);
        let (windows, measurement) = match &self.read {
            Some((windows, predictions)) => {
                let reference = ReferenceRun::Saved(predictions);
                (windows.clone(), self.meter.measure_as(&stage, windows, reference, until)?)
            }
            None => {
                let Some(windows) = self.plan(until.left())? else { return Ok(None) };
                let mut predictions = Vec::new();
                let reference = ReferenceRun::Save(&mut predictions);
                let measurement = self.meter.measure_as(&stage, &windows, reference, until)?;
                if measurement.is_complete {
                    self.read = Some((windows.clone(), predictions));
                }
                (windows, measurement)
            }
        };
        let mut report = self.meter.report();
        report.is_complete = measurement.is_complete;
        report.command = (self.command)(setting, windows.n_ctx());
        report.divergence.push(measurement);
        let saved = self.certificates.save_all(&report, until.observer);
        Ok(saved.into_iter().map(|saved| saved.certificate).next())
    }

    /// As much text as two lanes can read in the time, by how long the reference takes for a chunk; `None`: too little.
    fn plan(&mut self, patience: Duration) -> Result<Option<Windows>, EvalError> {
        let texts = Text::bundled(self.tokenizer)?;
        let n_most = self.meter.n_ctx();
        let tokens = texts
            .first()
            .map_or(&[][..], |text| &text.tokens[..PROBE_CHUNK.min(text.tokens.len()).min(n_most)]);
        let lanes = self.meter.lanes();
        let mut sequence = lanes.start(0)?;
        let began = Instant::now();
        lanes.forward(0, &mut sequence, tokens, Logits::None)?;
        let seconds = began.elapsed().as_secs_f64() / tokens.len().max(1) as f64;
        // Half of the time for each lane; a part of it goes to logits and comparisons.
        let n_tokens = (0.4 * patience.as_secs_f64() / seconds) as usize;
        let Some((n_ctx, n_windows)) = choose(n_tokens, n_most) else { return Ok(None) };
        let options = WindowOptions::new(n_ctx);
        let max_scored = Some(n_windows * (n_ctx - 1 - options.skip));
        Windows::cut(&texts, &WindowOptions { max_scored, ..options }).map(Some)
    }
}

/// Ends a measurement when its time is over.
struct Until<'a> {
    observer: &'a mut dyn Observer,
    left: Duration,
    /// since when time passes; `None`: it does not
    since: Option<Instant>,
    /// whether the observer ended it before
    is_stopped: bool,
}

impl<'a> Until<'a> {
    fn new(patience: Duration, observer: &'a mut dyn Observer) -> Until<'a> {
        Until { observer, left: patience, since: Some(Instant::now()), is_stopped: false }
    }

    fn left(&self) -> Duration {
        self.left.saturating_sub(self.since.map_or(Duration::ZERO, |since| since.elapsed()))
    }

    fn pause(&mut self) {
        self.left = self.left();
        self.since = None;
    }

    fn resume(&mut self) {
        self.since = Some(Instant::now());
    }
}

impl Observer for Until<'_> {
    fn progress(&mut self, stage: &Stage<'_>, progress: Progress) -> ControlFlow<()> {
        let asked = self.observer.progress(stage, progress);
        self.is_stopped |= asked.is_break();
        if self.since.is_some() && self.left().is_zero() { ControlFlow::Break(()) } else { asked }
    }

    fn note(&mut self, note: &Note<'_>) {
        self.observer.note(note);
    }
}

/// Tokens of a window and how many of them, where a lane can read `n_tokens` and a context has at most `n_most`.
fn choose(n_tokens: usize, n_most: usize) -> Option<(usize, usize)> {
    let fits = |(n_ctx, n_windows): &(usize, usize)| n_ctx * n_windows <= n_tokens && *n_ctx <= n_most;
    let shortest = || (n_tokens >= LEAST_TOKENS).then_some((512.min(n_most), 1));
    PLANS.into_iter().find(fits).or_else(shortest)
}

#[cfg(test)]
mod tests {
    use super::choose;

    #[test]
    fn a_slow_model_reads_less_and_a_very_slow_one_nothing() {
        let found = [10_000, 2047, 800, 400, 300].map(|n_tokens| choose(n_tokens, 8192));
        assert_eq!(found, [Some((1024, 2)), Some((1024, 1)), Some((512, 1)), Some((512, 1)), None]);
        assert_eq!(choose(10_000, 600), Some((512, 1)));
        assert_eq!(choose(10_000, 100), Some((100, 1)));
    }
}
