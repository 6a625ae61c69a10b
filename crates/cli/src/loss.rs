//! `--max-loss` and `--probe` of `lossy run`: what a KV scheme costs on this model, measured at its first use.

use std::path::Path;

use anyhow::{Result, anyhow, bail};
use clap::ValueEnum;
use lossy_engine::{CacheOptions, KvScheme};
use lossy_eval::{
    Allowed, Budget, Certificate, EvalError, Meter, MeterOptions, PROBE_CHUNK, PROBE_PATIENCE, Probe, Setting,
};

use crate::args::LossArgs;
use crate::interrupt;
use crate::loaded::{Loaded, in_file};
use crate::observer::Watcher;
use crate::outcome::Outcome;
use crate::terminal::{self, Spinner, note};
use crate::{directories, version};

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

/// A loaded model, and how it is run.
pub struct LossOf<'a> {
    /// the model
    pub model: &'a mut Loaded,
    /// its file
    pub path: &'a Path,
    /// no lines
    pub is_quiet: bool,
}

/// Fails if a budget is to choose the KV scheme, and one is named.
///
/// # Errors
/// A usage error that says so.
pub fn check_choice(max_loss: Option<&Budget>, options: &CacheOptions) -> Result<(), clap::Error> {
    match (max_loss, &options.kv) {
        (Some(budget), Some(scheme)) => Err(crate::usage_error(format!(
            "--max-loss {budget} chooses the KV scheme: leave out --kv {scheme} (or unset LOSSY_KV)"
        ))),
        _ => Ok(()),
    }
}

impl LossOf<'_> {
    /// Keeps within a budget if there is one; else says what the scheme costs, as far as `--probe` wants it. With statistics of the
    /// user's own text (`is_own`) nothing is known, and nothing would be kept.
    ///
    /// # Errors
    /// As [`keep_within`](LossOf::keep_within). Ctrl-C is none.
    pub fn settle(&mut self, wanted: &LossArgs, is_own: bool) -> Result<Outcome> {
        match &wanted.max_loss {
            Some(budget) => match self.keep_within(budget) {
                Err(error) if interrupt::is_asked() => {
                    note(&format!("{error:#}"));
                    return Ok(Outcome::Interrupted);
                }
                within => within?,
            },
            None if self.is_quiet || is_own => {}
            None => self.warn(wanted.probe),
        }
        Ok(Outcome::Done)
    }

    /// Stores new sequences in the scheme of fewest bits that stays within a budget. What is not known of the cheapest ones
    /// is measured first.
    ///
    /// # Errors
    /// None was found in a minute; or the model cannot be measured.
    pub fn keep_within(&mut self, budget: &Budget) -> Result<()> {
        let reference = Setting::from(self.model.engine.exact_scheme());
        let mut watcher = Watcher::new("Ctrl-C ends");
        if !self.is_quiet {
            watcher = watcher.announcing();
        }
        let allowed = self.probe(|probe| probe.within(budget, &mut watcher))?;
        drop(watcher);
        let hint = format!(
            "`lossy measure MODEL --max-loss {budget}` also tries mixtures of two schemes, layer by layer"
        );
        let (setting, line) = match allowed {
            Allowed::Found { certificate, is_cheapest } => {
                let hint = if is_cheapest { String::new() } else { format!("; {hint}") };
                let name = &certificate.setting;
                let setting: Setting = name.parse().map_err(|error| anyhow!("{name}: {error}"))?;
                (setting, format!("{}, within {budget}{hint}", certificate.line()))
            }
            Allowed::Nothing => {
                let line = format!(
                    "no KV scheme stays within {budget} on this model: the cache is {reference}; {hint}"
                );
                (reference, line)
            }
            Allowed::TooShort => {
                let n_ctx = self.model.cache.n_ctx();
                let line =
                    format!("{n_ctx} tokens are too few to measure a KV scheme on: the cache is {reference}");
                (reference, line)
            }
            Allowed::OutOfTime => bail!(
                "no KV scheme within {budget} was found in {} seconds: `lossy measure MODEL --max-loss {budget}` takes its \
                 time, or name a scheme with --kv",
                PROBE_PATIENCE.as_secs()
            ),
            Allowed::Stopped => bail!("stopped before a KV scheme within {budget} was found"),
        };
        if !self.is_quiet {
            note(&line);
        }
        self.prepare(&setting.kv)
    }

    /// Says what the lossy scheme of the model costs: from what is known, or from a measurement if `when` says so. That it
    /// cannot be measured is said, and is no error.
    pub fn warn(&mut self, when: When) {
        let setting = Setting::from(self.model.cache.kv().clone());
        if setting.kv.is_exact() || when == When::Never {
            return;
        }
        let may_measure = when == When::Always || terminal::is_drawn();
        let mut is_too_short = false;
        let known = self.probe(|probe| {
            is_too_short = probe.is_too_short();
            let mut watcher = Watcher::new("Ctrl-C skips it");
            match probe.known(&setting) {
                None if may_measure => probe.measure(&setting, &mut watcher),
                known => Ok(known),
            }
        });
        match known {
            Ok(Some(certificate)) => say(&certificate),
            Ok(None) if !may_measure => {}
            unknown => {
                if let Err(error) = unknown {
                    note(&format!("measuring {setting}: {error:#}"));
                }
                let why = match (interrupt::is_asked(), is_too_short) {
                    (true, _) => "",
                    (_, true) => ": the context is too short to measure it",
                    (_, false) => {
                        ": too little can be measured in a minute, and `lossy measure` takes its time"
                    }
                };
                note(&format!(
                    "what {setting} costs on this model is not known{why} (--probe never: no measurement)"
                ));
            }
        }
        interrupt::reset();
    }

    /// Does something with a probe.
    fn probe<T>(
        &mut self,
        work: impl FnOnce(&mut Probe<'_, lossy_eval::EngineLanes<'_>>) -> Result<T, EvalError>,
    ) -> Result<T> {
        let Loaded { engine, cache_options, tokenizer, .. } = &mut *self.model;
        let options = MeterOptions {
            version: version::short().to_string(),
            command: String::new(),
            model: file_name(self.path),
            chunk: PROBE_CHUNK,
            cache: cache_options.clone(),
        };
        let model = options.model.clone();
        // What was typed has a prompt, which is nobody's business.
        let command = |setting: &Setting, n_ctx: usize| {
            format!("lossy run {model} --kv {setting} -c {n_ctx} --probe always")
        };
        let certificates = directories::certificates();
        let mut meter = Meter::new(engine, options)?;
        let mut probe = Probe::new(&mut meter, tokenizer, &certificates, &command);
        Ok(work(&mut probe)?)
    }

    fn prepare(&mut self, scheme: &KvScheme) -> Result<()> {
        let spinner = Spinner::start("preparing the cache");
        self.model.set_kv(scheme, &spinner).map_err(in_file(self.path))
    }
}

fn say(certificate: &Certificate) {
    if certificate.is_bad() {
        note(&format!(
            "WARNING: {}: answers will differ noticeably from those with an exact cache. Try --max-loss kl=0.02",
            certificate.line()
        ));
    } else {
        note(&certificate.line());
    }
}

/// The name of a model's file in reports.
pub fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
