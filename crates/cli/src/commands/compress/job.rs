//! The steps: prices, a plan, a file, what it loses; and what lies beside it.

use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use lossy_compress::feedback::FeedbackError;
use lossy_compress::kept::Kept;
use lossy_compress::network::output_matrix;
use lossy_compress::plan::frontier;
use lossy_compress::prices::{Parted, PriceError, Priced, Pricing};
use lossy_compress::quantize::{How, Plan, Planned, QuantizeError};
use lossy_compress::statistics::MomentsByName;
use lossy_engine::{ModelSource, Progress};
use lossy_eval::Certificate;
use lossy_kernels::memory::give_back;

use super::budget::{Allowance, Choices};
use super::card::{self, Point, thinned, types_by_kind};
use super::faster::Goal;
use super::measured::{Measuring, figures};
use super::outputs::{told, write_text};
use super::rounds::{Ground, Round, of};
use super::speed::Clock;
use super::{CompressArgs, picture, teach, with_extension};
use crate::args::NamedTokens;
use crate::commands::measure::command_line;
use crate::loaded::in_file;
use crate::loss::file_name;
use crate::observer::{Bar, Watcher};
use crate::outcome::Outcome;
use crate::terminal::note;
use crate::units::bytes;
use crate::{directories, new_model};

/// A compression under way.
pub struct Job<'a> {
    pub args: &'a CompressArgs,
    pub path: &'a Path,
    /// MODEL, beside which everything is measured
    pub original: &'a ModelSource,
    /// what types are chosen for: MODEL, or what is left of its layers
    pub source: &'a ModelSource,
    pub choices: &'a Choices<'a>,
    pub kept: &'a Kept,
    pub parted: &'a Parted<'a>,
    /// a speed that is wanted
    pub goal: Option<Goal>,
    pub clock: &'a Clock,
}

impl Job<'_> {
    /// Makes OUT and what lies beside it.
    pub fn run(&self, allowed: Option<&Allowance>, text: &NamedTokens) -> Result<Outcome> {
        let start = Instant::now();
        let Some(priced) = self.priced()? else { return Ok(Outcome::Interrupted) };
        let measuring = Measuring {
            original: self.path,
            kv: self.args.kv.as_ref(),
            n_threads: self.args.threads.count(),
        };
        let cache = match &self.args.kv {
            None => None,
            Some(_) => match measuring.cache_alone()? {
                None => return Ok(Outcome::Interrupted),
                Some(report) => figures(&report).first().map(of),
            },
        };
        let items = self.choices.items(&priced.prices);
        let ground = Ground { items, priced: &priced, measuring: &measuring, cache };
        let Some((round, speed)) = self.found(allowed, &ground)? else { return Ok(Outcome::Interrupted) };
        let plan = self.choices.plan(&round.types)?;
        let outs = plan.layout().paths(&self.args.output);
        let taught = match self.args.training() {
            None => None,
            Some(amount) => {
                // Of several rounds the best one need not be the last.
                let Some(file) = self.candidate(&round.types, &ground)? else {
                    return Ok(Outcome::Interrupted);
                };
                match self.teach(&file, &round.types, &round.total(), amount, &measuring, text)? {
                    None => return Ok(Outcome::Interrupted),
                    taught => taught,
                }
            }
        };
        let better = taught.as_ref().and_then(|taught| taught.better.as_ref());
        match better {
            Some((trained, _)) => teach::copy(trained, &outs)?,
            None => {
                if self.write(&plan, &self.args.output, &priced)?.is_none() {
                    return Ok(Outcome::Interrupted);
                }
            }
        }
        let report = better.map_or(&round.report, |(_, report)| report);
        let outcome = card::Outcome {
            training: taught.as_ref().map(|taught| taught.training.clone()),
            certificates: Certificate::all(report),
            report: report.clone(),
            bytes: outs.iter().map(|out| Ok(fs::metadata(out)?.len())).sum::<Result<u64>>()?,
            files: outs.iter().map(|out| file_name(out)).collect(),
            speed,
            ..self.outcome(&plan, &round, &ground, text)
        };
        write_text(&with_extension(&self.args.output, "json"), &serde_json::to_string_pretty(&outcome)?)?;
        let picture = with_extension(&self.args.output, "svg");
        let drawn = picture::picture(&outcome);
        if let Some(drawn) = &drawn {
            write_text(&picture, drawn)?;
        }
        let card = outcome.card(&plan, drawn.is_some().then(|| file_name(&picture)).as_deref());
        write_text(&with_extension(&self.args.output, "md"), &card)?;
        directories::certificates().save_all(report, &mut Watcher::new("Ctrl-C ends"));
        for (kind, types) in types_by_kind(&plan) {
            note(&format!("{kind}: {types}"));
        }
        if outcome.n_requantized > 0 {
            let n = outcome.n_requantized;
            note(&format!(
                "{n} matrices were quantized before, and were read as they are: both errors add up"
            ));
        }
        let loss = figures(report).last().map(of).unwrap_or_default();
        note(&format!(
            "{}: {}, {:.2} bits a weight, KL {:.4} ± {:.4}, same top token {:.1} %, in {:.0} s; {} says more",
            told(&outs),
            bytes(outcome.bytes),
            outcome.bits_per_weight,
            loss.kl.value,
            loss.kl.se,
            100.0 * loss.same_top.value,
            start.elapsed().as_secs_f64(),
            with_extension(&self.args.output, "md").display(),
        ));
        Ok(Outcome::Done)
    }

    /// `None`: Ctrl-C.
    pub(super) fn priced(&self) -> Result<Option<Priced>> {
        let bar = Bar::start("what every type of every tensor loses", "Ctrl-C ends");
        let pricing = Pricing::new(self.source, self.parted, self.kept, self.args.threads.count());
        let priced = pricing.run(&mut |n_done, n_total| bar.set(Progress::new(n_done, n_total)));
        // What comes next loads models.
        give_back();
        match priced {
            Err(PriceError::Stopped) => Ok(None),
            priced => Ok(Some(priced.map_err(in_file(self.path))?)),
        }
    }

    /// Writes a file, from finished pieces as far as there are any. `None`: Ctrl-C.
    pub(super) fn write(&self, plan: &Plan<'_>, out: &Path, priced: &Priced) -> Result<Option<()>> {
        let bar = Bar::start("writing", "Ctrl-C ends");
        let output = output_matrix(self.source);
        // Only where a piece is missing is anything computed again.
        let mut by_name: Option<MomentsByName<'_>> = None;
        let mut moments = |name: &str| {
            if name == output {
                return Ok(Some(priced.head_moments.clone()));
            }
            if by_name.is_none() {
                let new = MomentsByName::new(self.source, &self.parted.statistics, self.args.threads.count());
                by_name = Some(new.map_err(|error| FeedbackError::Source(Box::new(error)))?);
            }
            by_name.as_mut().map_or(Ok(None), |by_name| by_name.of(name))
        };
        let mut how = How {
            imatrix: None,
            moments: Some(&mut moments),
            n_threads: self.args.threads.count(),
            progress: &mut |n_done, n_total| bar.set(Progress::new(n_done as usize, n_total as usize)),
        };
        match plan.write_kept(out, &mut how, self.kept) {
            Err(QuantizeError::Stopped) => Ok(None),
            written => {
                let written = written?;
                if !written.without_feedback.is_empty() {
                    let names = written.without_feedback.join(", ");
                    note(&format!(
                        "no error was carried on in {names}: the text says nothing of what they multiply"
                    ));
                }
                Ok(Some(()))
            }
        }
    }

    fn outcome(
        &self,
        plan: &Plan<'_>,
        round: &Round,
        ground: &Ground<'_>,
        text: &NamedTokens,
    ) -> card::Outcome {
        let n_bytes = plan.layout().file_bytes();
        let n_values: usize = plan.tensors().iter().map(|tensor| tensor.source.n_values()).sum();
        let tensors: u64 = plan.tensors().iter().map(|tensor| tensor.bytes as u64).sum();
        let (chosen, scale) = (round.assignment.bytes(), round.scale());
        let point = |(bytes, kl): (u64, f64)| Point {
            bytes: n_bytes - chosen + bytes,
            bits_per_weight: 8.0 * (tensors - chosen + bytes) as f64 / n_values as f64,
            kl: (kl + round.of_layers) * scale,
        };
        let points: Vec<Point> = frontier(&ground.items).into_iter().map(point).collect();
        card::Outcome {
            command: command_line(),
            original: file_name(self.path),
            original_bytes: new_model::gguf_of(self.original).file_bytes(),
            bytes: n_bytes,
            files: Vec::new(),
            bits_per_weight: plan.bits_per_weight(),
            calibration: text.names.clone(),
            n_tokens: text.tokens.len(),
            n_requantized: n_requantized(plan),
            predicted: round.predicted(),
            factors: ground.priced.prices.factors(),
            scale,
            cache_kl: ground.cache.as_ref().map(|loss| loss.kl.value),
            types: round.types.iter().map(|(name, dtype)| (name.clone(), dtype.name().to_owned())).collect(),
            frontier: thinned(&points),
            training: None,
            speed: None,
            certificates: Certificate::all(&round.report),
            report: round.report.clone(),
        }
    }
}

/// Matrices that were quantized before and get another type now.
fn n_requantized(plan: &Plan<'_>) -> usize {
    let is_lossy = |tensor: &&Planned<'_>| {
        tensor.source.dtype.block_len() > 1 && tensor.choice.dtype != tensor.source.dtype
    };
    plan.tensors().iter().filter(is_lossy).count()
}
