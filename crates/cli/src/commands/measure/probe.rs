//! A short measurement where none is kept: what a setting costs on this model, and which setting a budget allows.
//!
//! At most a minute, on bundled text; how much of it depends on the speed of the model. What comes of it is kept as a
//! certificate, beside those that `lossy measure` makes.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use clap::ValueEnum;
use lossy_engine::{KvScheme, Logits};
use lossy_eval::divergence::{KeptRow, ReferenceRun};
use lossy_eval::{
    Budget, Certificate, LEAST_PREDICTIONS, Lanes, Setting, Text, Window, WindowOptions, cheapest, windows,
};

use super::certificates;
use super::meter::{Meter, Reading};
use super::progress::Bar;
use super::settings;
use super::texts;
use crate::args::Activations;
use crate::interrupt;
use crate::loaded::{self, in_file};
use crate::terminal::{self, Spinner, note};

/// A probe ends after this time, with what it has.
const PATIENCE: Duration = Duration::from_secs(60);
/// Tokens of a prefill chunk: what a slow model has measured when the time is over ends with a chunk.
const CHUNK: usize = 128;
/// A model that reads fewer in the time is not measured: nothing would come of it.
const LEAST_TOKENS: usize = 384;
/// Contexts that are tried, longest first, and how many of them.
const PLANS: [(usize, usize); 3] = [(1024, 2), (1024, 1), (512, 1)];

/// `--probe`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum When {
    /// where standard error is a terminal
    Auto,
    /// in any case
    Always,
    /// not at all
    Never,
}

/// A model that was loaded with an exact cache, and how it is run.
pub struct Probe<'a> {
    /// the model
    pub model: &'a mut loaded::Loaded,
    /// its file
    pub path: &'a Path,
    /// activations
    pub activations: Activations,
    /// what Ctrl-C does
    pub hint: &'static str,
    /// no lines
    pub is_quiet: bool,
}

impl Probe<'_> {
    /// Stores new sequences in the scheme of fewest bits that stays within a budget. What is not known of the cheapest ones
    /// is measured first.
    ///
    /// # Errors
    /// None was found in a minute; or the model cannot be measured.
    pub fn within(&mut self, budget: &Budget) -> Result<()> {
        let reference = settings::reference(self.activations);
        if self.is_too_short() {
            let n_ctx = self.model.cache.n_ctx();
            self.note(&format!(
                "{n_ctx} tokens are too few to measure a KV scheme on: the cache is {reference}"
            ));
            return self.prepare(&reference.kv);
        }
        let mut known = self.known();
        // What was searched for with this budget needs no search.
        let chosen = known.iter().filter(|certificate| certificate.budget.as_ref() == Some(budget));
        let chosen: Vec<Certificate> = chosen.cloned().collect();
        let is_searched = cheapest(&chosen, budget).is_some();
        if is_searched {
            known = chosen;
        } else {
            self.search(budget, &mut known)?;
        }
        let setting: Setting = match cheapest(&known, budget) {
            Some(certificate) => {
                let hint = match is_searched || Some(&certificate.setting) == settings::cheapest().as_ref() {
                    true => String::new(),
                    false => format!("; {}", mixtures_hint(budget)),
                };
                self.note(&format!("{}, within {budget}{hint}", certificate.line()));
                certificate.setting.parse().map_err(|error| anyhow!("{}: {error}", certificate.setting))?
            }
            None => {
                let hint = mixtures_hint(budget);
                self.note(&format!(
                    "no KV scheme stays within {budget} on this model: the cache is {reference}; {hint}"
                ));
                reference
            }
        };
        self.prepare(&setting.kv)
    }

    /// Measures candidates that are not known, cheapest first, until one is within the budget.
    fn search(&mut self, budget: &Budget, known: &mut Vec<Certificate>) -> Result<()> {
        let reference = settings::reference(self.activations);
        let began = Instant::now();
        let mut reference_read = None;
        for candidate in settings::candidates() {
            let name = candidate.to_string();
            // The reference loses nothing.
            if candidate.kv.is_exact() || candidate == reference {
                continue;
            }
            if !known.iter().any(|certificate| certificate.setting == name) {
                if !terminal::is_drawn() {
                    self.note(&format!("measuring what {name} costs on this model (once)"));
                }
                let patience = PATIENCE.saturating_sub(began.elapsed());
                known.extend(self.measure(&candidate, patience, &mut reference_read)?);
                if interrupt::is_asked() {
                    bail!("stopped before a KV scheme within {budget} was found");
                }
                if !known.iter().any(|certificate| certificate.setting == name) {
                    bail!(
                        "no KV scheme within {budget} was found in {} seconds: `lossy measure MODEL --max-loss {budget}` \
                         takes its time, or name a scheme with --kv",
                        PATIENCE.as_secs()
                    );
                }
            }
            let is_it = |certificate: &&Certificate| certificate.setting == name;
            if known.iter().find(is_it).is_some_and(|certificate| budget.allows_loss(&certificate.loss)) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Says what the lossy scheme of the model costs: from what is known, or from a measurement if `when` says so. That it
    /// cannot be measured is said, and is no error.
    ///
    /// # Errors
    /// The scheme, which the engine had, cannot be prepared again.
    pub fn warn(&mut self, when: When) -> Result<()> {
        let setting = Setting::from(self.model.cache.kv().clone());
        if setting.kv.is_exact() || when == When::Never {
            return Ok(());
        }
        let name = setting.to_string();
        let mut known = self.known();
        known.retain(|certificate| certificate.setting == name);
        if known.is_empty() && (when == When::Always || terminal::is_drawn()) {
            match self.measure(&setting, PATIENCE, &mut None) {
                Ok(certificates) => known = certificates,
                Err(error) => note(&format!("measuring {name}: {error:#}")),
            }
            if known.is_empty() {
                let why = match (interrupt::is_asked(), self.is_too_short()) {
                    (true, _) => "",
                    (_, true) => ": the context is too short to measure it",
                    (_, false) => {
                        ": too little can be measured in a minute, and `lossy measure` takes its time"
                    }
                };
                note(&format!(
                    "what {name} costs on this model is not known{why} (--probe never: no measurement)"
                ));
            }
            interrupt::reset();
        }
        if let Some(certificate) = known.first() {
            match certificate.is_bad() {
                true => note(&format!(
                    "WARNING: {}: answers will be others than those of an exact cache. Try --max-loss kl=0.02",
                    certificate.line()
                )),
                false => note(&certificate.line()),
            }
        }
        Ok(())
    }

    fn known(&self) -> Vec<Certificate> {
        certificates::known(&self.model.source, self.activations, self.model.cache.n_ctx())
    }

    /// Whether a whole context has too few predictions for a certificate.
    fn is_too_short(&self) -> bool {
        let n_ctx = self.model.cache.n_ctx();
        n_ctx.saturating_sub(1 + WindowOptions::new(n_ctx).skip) < LEAST_PREDICTIONS
    }

    fn note(&self, text: &str) {
        if !self.is_quiet {
            note(text);
        }
    }

    fn prepare(&mut self, scheme: &KvScheme) -> Result<()> {
        let spinner = Spinner::start("preparing the cache");
        self.model.set_kv(scheme, &spinner).map_err(in_file(self.path))
    }

    /// The certificate of a setting, which is kept too; none if too little could be measured in the time. The first one runs
    /// the reference, the others compare with what is kept of it.
    fn measure(
        &mut self,
        setting: &Setting,
        patience: Duration,
        before: &mut Option<Read>,
    ) -> Result<Vec<Certificate>> {
        interrupt::listen(interrupt::Second::Ends);
        let texts = texts::read(&[], &self.model.tokenizer)?;
        let options = self.model.cache_options.clone();
        let mut meter = Meter::new(&mut self.model.engine, options, self.path, self.activations, CHUNK)?;
        match meter.set(std::slice::from_ref(setting)) {
            Err(_) if interrupt::is_asked() => return Ok(Vec::new()),
            is_set => is_set?,
        }
        let what = format!("measuring what {setting} costs on this model, once");
        let bar = Bar::with_hint(&what, self.hint);
        let began = Instant::now();
        let mut read = Read { windows: Vec::new(), rows: Vec::new() };
        let (windows, reference) = match before {
            Some(before) => (&before.windows, ReferenceRun::Kept(&before.rows)),
            None => {
                let Some(windows) = plan(&mut meter, &texts, patience)? else {
                    return Ok(Vec::new());
                };
                read.windows = windows;
                (&read.windows, ReferenceRun::Keep(&mut read.rows))
            }
        };
        let reading = Reading { texts: &texts, windows, reference };
        let measurement = meter.divergence(reading, &mut |progress| match began.elapsed() > patience {
            true => ControlFlow::Break(()),
            false => bar.set(progress.n_done, progress.n_total),
        })?;
        drop(bar);
        if before.is_none() && measurement.is_complete {
            *before = Some(read);
        }
        let mut report = meter.report();
        report.is_complete = measurement.is_complete;
        // What was typed has a prompt, which is nobody's business.
        report.command =
            format!("lossy run {} --kv {setting} -c {} --probe always", report.model, measurement.n_ctx);
        report.divergence.push(measurement);
        Ok(certificates::keep(&report).into_iter().map(|(certificate, _)| certificate).collect())
    }
}

/// What the reference has read.
struct Read {
    windows: Vec<Window>,
    /// its predictions
    rows: Vec<KeptRow>,
}

/// What a search in a minute leaves out: each layer of a scheme alone is a measurement.
fn mixtures_hint(budget: &Budget) -> String {
    format!("`lossy measure MODEL --max-loss {budget}` also tries mixtures of two schemes, layer by layer")
}

/// As much text as two lanes can read in the time, by how long the reference takes for a chunk; `None`: too little.
fn plan(meter: &mut Meter<'_>, texts: &[Text], patience: Duration) -> Result<Option<Vec<Window>>> {
    let n_most = meter.lanes().n_ctx();
    let tokens =
        texts.first().map_or(&[][..], |text| &text.tokens[..CHUNK.min(text.tokens.len()).min(n_most)]);
    let lanes = meter.lanes();
    let mut sequence = lanes.start(0)?;
    let began = Instant::now();
    lanes.forward(0, &mut sequence, tokens, Logits::None)?;
    let seconds = began.elapsed().as_secs_f64() / tokens.len().max(1) as f64;
    // Half of the time for each lane; a part of it goes to logits and comparisons.
    let n_tokens = (0.4 * patience.as_secs_f64() / seconds) as usize;
    let Some((n_ctx, n_windows)) = choose(n_tokens, n_most) else { return Ok(None) };
    let options = WindowOptions::new(n_ctx);
    let max_scored = n_windows * (n_ctx - 1 - options.skip);
    Ok(Some(windows(texts, &WindowOptions { max_scored: Some(max_scored), ..options })?))
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
