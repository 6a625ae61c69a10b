//! The steps: prices, a plan, a file, what it loses; and again, until that is within the budget.

use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use lossy_compress::feedback::FeedbackError;
use lossy_compress::kept::Kept;
use lossy_compress::network::output_matrix;
use lossy_compress::plan::{Assignment, Item, OutOfReach, frontier};
use lossy_compress::prices::{Parted, PriceError, Priced, Pricing};
use lossy_compress::quantize::{How, Plan, Planned, QuantizeError};
use lossy_compress::statistics::MomentsByName;
use lossy_engine::{ModelSource, Progress};
use lossy_eval::divergence::Estimate;
use lossy_eval::{Budget, Certificate, Loss, Report, SettingFigures};

use super::budget::{Allowance, Choices, Types, Within, types};
use super::card::{self, Point, thinned, types_by_kind};
use super::measured::{Measuring, figures};
use super::outputs::{first, told, write_text};
use super::{CompressArgs, kl_of, with_extension};
use super::{picture, teach};
use crate::args::NamedTokens;
use crate::commands::measure::command_line;
use crate::directories;
use crate::loaded::in_file;
use crate::loss::file_name;
use crate::observer::{Bar, Watcher};
use crate::outcome::Outcome;
use crate::terminal::note;
use crate::units::bytes;

/// What is built to be measured.
const CANDIDATE: &str = "candidate.gguf";
/// Times that a file is built and measured until its loss is within the budget.
const N_ROUNDS: usize = 3;
/// A loss of so much of the budget is near enough.
const NEAR: f64 = 0.95;
/// Nats measured for a nat predicted, at least and at most.
const SLOPES: (f64, f64) = (0.3, 3.0);

/// A compression under way.
pub struct Job<'a> {
    pub args: &'a CompressArgs,
    pub path: &'a Path,
    pub source: &'a ModelSource,
    pub choices: &'a Choices<'a>,
    pub kept: &'a Kept,
    pub parted: &'a Parted<'a>,
}

/// A file that was built and measured.
struct Round {
    types: Types,
    assignment: Assignment,
    report: Report,
}

impl Round {
    /// With the exact cache.
    fn weights(&self) -> Loss {
        figures(&self.report).first().map(of).unwrap_or_default()
    }

    /// With the cache that will be used.
    fn total(&self) -> Loss {
        figures(&self.report).last().map(of).unwrap_or_default()
    }

    /// What was measured over what was predicted.
    fn scale(&self) -> f64 {
        let predicted = self.assignment.loss();
        if predicted > 0.0 { self.weights().kl.value / predicted } else { 1.0 }
    }
}

fn of(figures: &SettingFigures) -> Loss {
    Loss::of(&figures.summary)
}

impl Job<'_> {
    /// Makes OUT and what lies beside it.
    pub fn run(&self, allowed: &Allowance, text: &NamedTokens) -> Result<Outcome> {
        let start = Instant::now();
        let Some(priced) = self.priced()? else { return Ok(Outcome::Interrupted) };
        let items = self.choices.items(&priced.prices);
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
        let found = match allowed {
            Allowance::Loss(budget) => {
                self.within_loss(&items, &priced, &measuring, budget, cache.as_ref())?
            }
            Allowance::Bits(bits) => self.round(&items, &priced, &measuring, Within::Bits(*bits))?,
            Allowance::Size(most) => {
                let of_own = self.choices.plan(&Types::new())?.layout().file_bytes();
                self.round(&items, &priced, &measuring, Within::FileBytes { most: *most, of_own })?
            }
        };
        let Some(round) = found else { return Ok(Outcome::Interrupted) };
        let plan = self.choices.plan(&round.types)?;
        let outs = plan.layout().paths(&self.args.output);
        let taught = match self.args.training() {
            None => None,
            Some(amount) => {
                // Of several rounds the best one need not be the last.
                let file = self.kept.path(CANDIDATE);
                if self.write(&plan, &file, &priced)?.is_none() {
                    return Ok(Outcome::Interrupted);
                }
                match self.teach(
                    first(plan.layout(), &file).as_path(),
                    &round.types,
                    &round.total(),
                    amount,
                    &measuring,
                    text,
                )? {
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
            ..self.outcome(&plan, &round, &items, &priced, text, cache.as_ref())
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
    fn priced(&self) -> Result<Option<Priced>> {
        let bar = Bar::start("what every type of every tensor loses", "Ctrl-C ends");
        let pricing = Pricing::new(self.source, self.parted, self.kept, self.args.threads.count());
        let priced = pricing.run(&mut |n_done, n_total| bar.set(Progress::new(n_done, n_total)));
        match priced {
            Err(PriceError::Stopped) => Ok(None),
            priced => Ok(Some(priced.map_err(in_file(self.path))?)),
        }
    }

    /// Plans, builds and measures. `None`: Ctrl-C.
    fn round(
        &self,
        items: &[Item],
        priced: &Priced,
        measuring: &Measuring<'_>,
        within: Within,
    ) -> Result<Option<Round>> {
        let assignment = match self.choices.assign(items, within) {
            Err(OutOfReach::Loss { least }) => bail!("the largest types lose {least:.6} nats, which is more"),
            Err(OutOfReach::Bytes { least }) => bail!("the smallest types take {least} bytes, which is more"),
            Ok(assignment) => assignment,
        };
        let types = types(items, &assignment);
        let plan = self.choices.plan(&types)?;
        let file = self.kept.path(CANDIDATE);
        if self.write(&plan, &file, priced)?.is_none() {
            return Ok(None);
        }
        let name = file_name(&first(plan.layout(), &self.args.output));
        let report = measuring.model(&first(plan.layout(), &file), &name)?;
        let round = report.map(|report| Round { types, assignment, report });
        if let Some(round) = &round {
            let kl = round.weights().kl;
            note(&format!(
                "{}, {:.2} bits a weight: KL {:.4} predicted, {:.4} ± {:.4} measured",
                bytes(plan.layout().file_bytes()),
                plan.bits_per_weight(),
                round.assignment.loss(),
                kl.value,
                kl.se
            ));
        }
        Ok(round)
    }

    /// The smallest file within a loss, in a few rounds. What is measured is nearly a line in what is predicted: a floor, since
    /// rounded weights also meet other roundings of activations, and a slope. The first round takes the floor for 0.
    fn within_loss(
        &self,
        items: &[Item],
        priced: &Priced,
        measuring: &Measuring<'_>,
        budget: &Budget,
        cache: Option<&Loss>,
    ) -> Result<Option<Round>> {
        let most = kl_of(budget).unwrap_or_default();
        let of_cache = cache.map_or(0.0, |loss| loss.kl.value);
        if let Some(loss) = cache
            && !budget.allows_loss(loss)
        {
            let kv = self.args.kv.as_ref().map(ToString::to_string).unwrap_or_default();
            bail!(
                "--kv {kv} alone loses {:.4} ± {:.4} on this model, which is not within {budget}: nothing is left for the weights",
                loss.kl.value,
                loss.kl.se
            );
        }
        let mut best: Option<Round> = None;
        let mut target = most - of_cache;
        // Predicted for the weights, and measured with everything.
        let mut last: Option<(f64, Estimate)> = None;
        for _ in 0..N_ROUNDS {
            let within = Within::Nats(target);
            let Some(round) = self.round(items, priced, measuring, within)? else { return Ok(None) };
            let (predicted, kl) = (round.assignment.loss(), round.total().kl);
            let is_within = budget.allows_loss(&round.total());
            let is_near = is_within && kl.value + kl.se >= NEAR * most;
            let slope = match last {
                Some((before, measured)) if (before - predicted).abs() > 0.01 * predicted => {
                    ((measured.value - kl.value) / (before - predicted)).clamp(SLOPES.0, SLOPES.1)
                }
                _ => round.scale(),
            };
            last = Some((predicted, kl));
            // One that was not within is to end a little below.
            let aim = most * if is_within { 1.0 } else { 0.99 };
            let next = predicted + (aim - kl.se - kl.value) / slope;
            let is_smaller = |old: &Round| old.assignment.bytes() > round.assignment.bytes();
            let is_done = is_near || next <= 0.0 || (next - target).abs() < 1e-3 * target;
            if is_within && best.as_ref().is_none_or(is_smaller) {
                best = Some(round);
            }
            if is_done {
                break;
            }
            target = next;
        }
        let kl = last.map(|(_, kl)| kl).unwrap_or_default();
        best.map(Some).with_context(|| {
            format!(
                "no file within {budget} was found in {N_ROUNDS} rounds: the last one loses {:.4} ± {:.4}. Allow a little more, \
                 or name a size (--max-size)",
                kl.value, kl.se
            )
        })
    }

    /// Writes a file, from finished pieces as far as there are any. `None`: Ctrl-C.
    fn write(&self, plan: &Plan<'_>, out: &Path, priced: &Priced) -> Result<Option<()>> {
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
        items: &[Item],
        priced: &Priced,
        text: &NamedTokens,
        cache: Option<&Loss>,
    ) -> card::Outcome {
        let n_bytes = plan.layout().file_bytes();
        let n_values: usize = plan.tensors().iter().map(|tensor| tensor.source.n_values()).sum();
        let tensors: u64 = plan.tensors().iter().map(|tensor| tensor.bytes as u64).sum();
        let (chosen, scale) = (round.assignment.bytes(), round.scale());
        let point = |(bytes, kl): (u64, f64)| Point {
            bytes: n_bytes - chosen + bytes,
            bits_per_weight: 8.0 * (tensors - chosen + bytes) as f64 / n_values as f64,
            kl: kl * scale,
        };
        let points: Vec<Point> = frontier(items).into_iter().map(point).collect();
        card::Outcome {
            command: command_line(),
            original: file_name(self.path),
            original_bytes: self.choices.source.file_bytes(),
            bytes: n_bytes,
            files: Vec::new(),
            bits_per_weight: plan.bits_per_weight(),
            calibration: text.names.clone(),
            n_tokens: text.tokens.len(),
            n_requantized: n_requantized(plan),
            predicted: round.assignment.loss(),
            factors: priced.prices.factors(),
            scale,
            cache_kl: cache.map(|loss| loss.kl.value),
            types: round.types.iter().map(|(name, dtype)| (name.clone(), dtype.name().to_owned())).collect(),
            frontier: thinned(&points),
            training: None,
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
