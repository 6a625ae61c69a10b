//! `lossy compress`

mod budget;
mod card;
mod measured;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::{ArgGroup, Args};
use lossy_compress::kept::{JobKey, Kept};
use lossy_compress::network::check;
use lossy_compress::plan::{Assignment, Item, OutOfReach, frontier};
use lossy_compress::prices::{Parted, PriceError, Priced, Pricing, part, priced_matrices};
use lossy_compress::quantize::{How, Plan, QuantizeError};
use lossy_compress::statistics::MomentsByName;
use lossy_engine::{KvScheme, ModelSource, Progress};
use lossy_eval::{Budget, Certificate, Loss, Report, SettingFigures};
use lossy_formats::AtomicFile;

use self::budget::{Allowance, Choices, Types, Within, types};
use self::card::{Point, thinned, types_by_kind};
use self::measured::{Measuring, figures};
use super::quantize::{check_out, gguf_of};
use crate::args::{CalibrationText, NamedTokens};
use crate::loaded::{in_file, open};
use crate::loss::file_name;
use crate::observer::{Bar, Watcher};
use crate::outcome::Outcome;
use crate::output::Output;
use crate::terminal::note;
use crate::units::{bytes, grouped, parse_bytes};
use crate::{directories, hub, interrupt, version};

/// Times that a file is built and measured until its loss is within the budget.
const N_ROUNDS: usize = 3;
/// A loss of so much of the budget is near enough.
const NEAR: f64 = 0.95;

/// Makes the smallest file within a budget, or the best of a size, and measures what it loses
///
/// Types are chosen tensor by tensor by what each loses, and weights are rounded with error feedback. The new file is an ordinary
/// GGUF that llama.cpp runs too. Beside it are OUT.md, a model card, and OUT.json, with all figures; `lossy measure OUT
/// --reference-model MODEL` gives the same ones.
#[derive(Args, Debug)]
#[command(group(ArgGroup::new("budget").required(true).args(["max_size", "max_bits", "max_loss"])), after_help = "Examples:
  lossy compress model-f16.gguf -o small.gguf --max-size 70M
  lossy compress model-f16.gguf -o small.gguf --max-loss kl=0.05 --kv k2v2")]
pub struct CompressArgs {
    /// GGUF file (of a split one any part), user/repo:quant of the hub, or an alias
    #[arg(value_name = "MODEL")]
    model: String,

    /// The new file; it appears when it is whole
    #[arg(short = 'o', long, value_name = "OUT")]
    output: PathBuf,

    /// Most bytes of the file, such as 70M or 1.5GiB; units are binary
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    max_size: Option<usize>,

    /// Most bits for each weight, all tensors together
    #[arg(long, value_name = "BITS", value_parser = bits)]
    max_bits: Option<f64>,

    /// Most loss: kl=N, nats beside MODEL on the bundled text, with one standard error added
    #[arg(long, value_name = "BUDGET", value_parser = kl_budget)]
    max_loss: Option<Budget>,

    /// How keys and values will be stored, such as k2v2: its loss counts too, and both are in the report
    #[arg(long, value_name = "SCHEME")]
    kv: Option<KvScheme>,

    #[command(flatten)]
    text: CalibrationText,

    /// Goes on with what an ended run has left in OUT.partial; the file is the same
    #[arg(long)]
    resume: bool,

    /// Only say between which sizes the file can be, and what making it would take. Reads headers and no weights; which types pay is
    /// known only when the weights were read
    #[arg(long)]
    dry_run: bool,

    /// Threads: they change no byte of the result [default: the machine's cores]
    #[arg(short = 't', long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

fn bits(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(bits) if (0.0..=32.0).contains(&bits) => Ok(bits),
        _ => Err("expected bits for each weight, such as 4.5".to_string()),
    }
}

fn kl_budget(text: &str) -> Result<Budget, String> {
    let budget: Budget = text.parse()?;
    match kl_of(&budget) {
        Some(kl) if kl > 0.0 => Ok(budget),
        _ => Err("types are planned by KL: expected kl=N with N above 0, such as kl=0.05".to_string()),
    }
}

fn kl_of(budget: &Budget) -> Option<f64> {
    budget.to_string().strip_prefix("kl=")?.parse().ok()
}

/// Compresses.
pub fn run(args: CompressArgs) -> Result<Outcome> {
    let path = hub::resolve(&args.model)?;
    let source = open(&path)?;
    let gguf = gguf_of(&source, &path, "compress")?;
    check(&source).map_err(in_file(&path))?;
    let choices = Choices { source: gguf, types: priced_matrices(&source).map_err(in_file(&path))? };
    let allowed = args.allowance();
    choices.check(&allowed)?;
    let largest = choices.plan(&Types::new())?;
    let folder = partial_folder(&args.output);
    if args.dry_run {
        dry_run(&choices, &allowed, &folder)?;
        return Ok(Outcome::Done);
    }
    // The candidate that is measured lies beside the pieces, and so does OUT in the end.
    check_out(&args.output, &largest, gguf, choices.piece_bytes() + largest.layout().file_bytes())?;
    for extension in ["md", "json"] {
        AtomicFile::check(&with_extension(&args.output, extension))?;
    }
    let text = args.text.tokens(&source)?;
    let parted = part(&text.tokens)?;
    interrupt::listen(interrupt::Second::Ends);
    largest.check_weights().map_err(in_file(&path))?;
    let key = JobKey {
        model: source.fingerprint().to_string(),
        text: JobKey::hash_of(&text.tokens),
        program: format!("lossy {}", version::short()),
    };
    let (kept, is_resumed) = Kept::open(&folder, &key, args.resume)?;
    if args.resume && !is_resumed {
        note(&format!("{} is not there: beginning anew", folder.display()));
    }
    let job =
        Job { args: &args, path: &path, source: &source, choices: &choices, kept: &kept, parted: &parted };
    match job.run(&allowed, &text) {
        Ok(Outcome::Done) => {
            kept.remove()?;
            Ok(Outcome::Done)
        }
        ended => {
            note(&format!("what is finished is kept in {}: --resume goes on with it", folder.display()));
            ended
        }
    }
}

impl CompressArgs {
    fn n_threads(&self) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        self.threads.map_or(cores, usize::from)
    }

    fn allowance(&self) -> Allowance {
        match (self.max_size, self.max_bits, &self.max_loss) {
            (Some(size), _, _) => Allowance::Size(size as u64),
            (_, Some(bits), _) => Allowance::Bits(bits),
            (_, _, Some(budget)) => Allowance::Loss(budget.clone()),
            _ => unreachable!("one of the three is required"),
        }
    }
}

/// `small.gguf.partial` beside `small.gguf`.
fn partial_folder(out: &Path) -> PathBuf {
    with_extension(out, "partial")
}

/// `small.gguf.md` of `small.gguf`.
fn with_extension(out: &Path, extension: &str) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(format!(".{extension}"));
    name.into()
}

fn dry_run(choices: &Choices<'_>, allowed: &Allowance, folder: &Path) -> Result<()> {
    let mut out = Output::text();
    for (name, types) in &choices.types {
        let list: Vec<&str> = types.iter().map(|dtype| dtype.name()).collect();
        writeln!(out, "{name:32}  {}", list.join(" "))?;
    }
    writeln!(out)?;
    for (what, types) in [("smallest types", choices.smallest()), ("MODEL's own types", Types::new())] {
        let plan = choices.plan(&types)?;
        let n = plan.layout().file_bytes();
        let bits = plan.bits_per_weight();
        writeln!(out, "{what}: {} ({} bytes), {bits:.3} bits a weight", bytes(n), grouped(n))?;
    }
    writeln!(
        out,
        "{} is between these. Which types pay is known when all weights and the calibration text were read; meanwhile \
         {} takes up to {}",
        allowed.option(),
        folder.display(),
        bytes(choices.piece_bytes())
    )?;
    Ok(())
}

/// A compression under way.
struct Job<'a> {
    args: &'a CompressArgs,
    path: &'a Path,
    source: &'a ModelSource,
    choices: &'a Choices<'a>,
    kept: &'a Kept,
    parted: &'a Parted<'a>,
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
    fn run(&self, allowed: &Allowance, text: &NamedTokens) -> Result<Outcome> {
        let start = Instant::now();
        let Some(priced) = self.priced()? else { return Ok(Outcome::Interrupted) };
        let items = self.choices.items(&priced.prices);
        let measuring =
            Measuring { original: self.path, kv: self.args.kv.as_ref(), n_threads: self.args.n_threads() };
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
        if self.write(&plan, &self.args.output, &priced)?.is_none() {
            return Ok(Outcome::Interrupted);
        }
        let outcome = self.outcome(&plan, &round, &items, &priced, text, cache.as_ref());
        write_text(&with_extension(&self.args.output, "json"), &serde_json::to_string_pretty(&outcome)?)?;
        write_text(&with_extension(&self.args.output, "md"), &outcome.card(&plan))?;
        directories::certificates().save_all(&round.report, &mut Watcher::new("Ctrl-C ends"));
        for (kind, types) in types_by_kind(&plan) {
            note(&format!("{kind}: {types}"));
        }
        let loss = round.total();
        note(&format!(
            "{}: {}, {:.2} bits a weight, KL {:.4} ± {:.4}, same top token {:.1} %, in {:.0} s; {} says more",
            self.args.output.display(),
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
        let pricing = Pricing::new(self.source, self.parted, self.kept, self.args.n_threads());
        let priced = pricing.run(&mut |n_done, n_total| bar.set(Progress { n_done, n_total }));
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
        let file = self.kept.path("candidate.gguf");
        if self.write(&plan, &file, priced)?.is_none() {
            return Ok(None);
        }
        let report = measuring.model(&file, &file_name(&self.args.output))?;
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

    /// The smallest file within a loss, in a few rounds: each scales the prediction by what the last one measured.
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
        let mut last = None;
        for _ in 0..N_ROUNDS {
            let Some(round) = self.round(items, priced, measuring, Within::Nats(target))? else {
                return Ok(None);
            };
            let (total, weights) = (round.total(), round.weights());
            let is_within = budget.allows_loss(&total);
            let is_near = is_within && total.kl.value + total.kl.se >= NEAR * most;
            last = Some(total.kl);
            // What is left for the weights, in nats as they are predicted. A file that was not within gets a little less.
            let room = most - total.kl.se - (total.kl.value - weights.kl.value);
            let next = room * if is_within { 1.0 } else { 0.98 } / round.scale();
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
        let kl = last.unwrap_or_default();
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
        let output = lossy_compress::network::output_matrix(self.source);
        // Only where a piece is missing is anything computed again.
        let mut by_name: Option<MomentsByName<'_>> = None;
        let mut moments = |name: &str| {
            if name == output {
                return Ok(Some(priced.head_moments.clone()));
            }
            if by_name.is_none() {
                let new = MomentsByName::new(self.source, &self.parted.statistics, self.args.n_threads());
                by_name = Some(
                    new.map_err(|error| lossy_compress::feedback::FeedbackError::Source(Box::new(error)))?,
                );
            }
            by_name.as_mut().map_or(Ok(None), |by_name| by_name.of(name))
        };
        let mut how = How {
            imatrix: None,
            moments: Some(&mut moments),
            n_threads: self.args.n_threads(),
            progress: &mut |n_done, n_total| {
                bar.set(Progress { n_done: n_done as usize, n_total: n_total as usize })
            },
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
        let is_lossy = |tensor: &&lossy_compress::quantize::Planned<'_>| {
            tensor.choice.is_quantized && tensor.source.dtype.block_len() > 1
        };
        card::Outcome {
            command: super::measure::command_line(),
            original: file_name(self.path),
            original_bytes: self.choices.source.file_bytes(),
            bytes: n_bytes,
            bits_per_weight: plan.bits_per_weight(),
            calibration: text.names.clone(),
            n_tokens: text.tokens.len(),
            n_requantized: plan.tensors().iter().filter(is_lossy).count(),
            predicted: round.assignment.loss(),
            factors: priced.prices.factors(),
            scale,
            cache_kl: cache.map(|loss| loss.kl.value),
            types: round.types.iter().map(|(name, dtype)| (name.clone(), dtype.name().to_owned())).collect(),
            frontier: thinned(&points),
            certificates: Certificate::all(&round.report),
            report: round.report.clone(),
        }
    }
}

fn write_text(path: &Path, text: &str) -> Result<()> {
    let mut file = AtomicFile::create(path)?;
    file.write_all(text.as_bytes()).with_context(|| format!("writing {}", path.display()))?;
    Ok(file.commit()?)
}
