//! `lossy measure`

mod certificates;
mod format;
pub mod list;
mod meter;
mod mixtures;
pub mod probe;
pub mod progress;
mod reference_file;
mod settings;
mod texts;

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use lossy_engine::{CacheOptions, Engine, EngineOptions, PositionScheme};
use lossy_eval::divergence::{KeptReference, KeptRow, ReferenceRun};
use lossy_eval::tasks::{self, Task, TaskOptions};
use lossy_eval::{
    Budget, Choice, EvalError, Measurement, Report, Setting, Text, Window, WindowOptions, windows,
};

use self::format::Format;
use self::list::{Lengths, Listed};
use self::meter::{Meter, Reading};
use self::progress::Bar;
use crate::args::{Activations, CalibrationArgs, ModelArgs};
use crate::hub;
use crate::interrupt;
use crate::loaded::{in_file, open};
use crate::outcome::Outcome;
use crate::terminal::{Spinner, note};

/// Tokens of a window or a task where nothing else is said.
const N_CTX: usize = 2048;

/// Measures what a setting costs: how far a model's predictions are from its own with an exact cache
///
/// Model and reference are shown the same text, and their predictions of every next token are compared: KL divergence in
/// nats, change of the probability of the token that follows, share of the same most likely token, perplexity. With --task
/// both are asked questions whose answers are known.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  lossy measure smollm2 --kv k2v2
  lossy measure smollm2 --kv q8,kivi2,k2v2:residual=256 -f my.txt -c 2048,8192 -o report.html
  lossy measure smollm2 --max-loss kl=0.02
  lossy measure smollm2 --kv k3v3 -f my.txt -c 8192 --reference my.reference
  lossy measure smollm2 --positions self-extend,adaptive -c 16384 --task multi-passkey
  lossy measure smollm2 --kv k2v2,k3v3 --reference-positions self-extend -c 16384 --task multi-passkey
  lossy measure smollm2 --kv k2v2 --task passkey,niah --lengths 2048,7500 --samples 32")]
pub struct MeasureArgs {
    #[command(flatten)]
    model: ModelArgs,

    /// Ways to store keys and values, between commas; may be given several times. Without any, --task asks the model with
    /// an exact cache
    #[arg(long, value_name = "SCHEME", required_unless_present_any = ["max_loss", "positions", "tasks"])]
    kv: Vec<Listed<Setting>>,

    /// Position maps, between commas; each is measured with each --kv. The reference then has the model's own positions,
    /// beyond the trained context too
    #[arg(long, value_name = "MAP", conflicts_with = "max_loss")]
    positions: Vec<Listed<PositionScheme>>,

    /// Position map of the reference, and of every setting without one of its own: what KV schemes cost with this map, or,
    /// for a --task without --kv, what the model finds with it [default: auto; with --positions linear]
    #[arg(long, value_name = "MAP", conflicts_with = "max_loss")]
    reference_positions: Option<PositionScheme>,

    /// Finds the setting of fewest bits within a budget: kl=N, top=N or ppl=N. Without --kv it chooses from a list, and
    /// then tries the mixtures of the best and the next cheaper one, layer by layer
    #[arg(long, value_name = "BUDGET", conflicts_with_all = ["tasks", "calibrate"])]
    max_loss: Option<Budget>,

    /// Keeps the reference's predictions in FILE, and takes them from there the next time: other
    /// settings then cost no run of the reference
    #[arg(long, visible_alias = "kl-divergence-base", value_name = "FILE", conflicts_with = "tasks")]
    reference: Option<PathBuf>,

    /// File with text; may be given several times [default: the bundled prose, code and dialogue]
    #[arg(short = 'f', long = "file", value_name = "FILE", conflicts_with = "tasks")]
    files: Vec<PathBuf>,

    /// Context lengths, each measured on windows of that many tokens [default: 2048, or the model's if it is shorter]
    #[arg(short = 'c', long, visible_alias = "lengths", value_name = "N")]
    ctx_size: Option<Lengths>,

    /// Predictions that count, in all windows of one length together; 0: all of the text
    #[arg(long, value_name = "N", default_value_t = 4096)]
    tokens: usize,

    /// Predictions at the beginning of each window that do not count [default: 256, or half of a short window's]
    #[arg(long, value_name = "N")]
    skip: Option<usize>,

    /// Position of each window's first token: what is measured should not depend on it
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1 << 27),
          conflicts_with_all = ["positions", "max_loss", "reference"])]
    start_position: u32,

    /// Asks questions instead: names of tasks between commas, or beginnings of names (niah)
    #[arg(long = "task", value_name = "NAME", value_parser = task_list)]
    tasks: Vec<Tasks>,

    /// Questions of each task and length
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    samples: u16,

    /// Seed of the generated questions
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    #[command(flatten)]
    calibration: CalibrationArgs,

    /// Activations of reference and settings; with f32 the reference's cache is f32 too
    #[arg(long, value_enum, default_value_t = Activations::Q8)]
    activations: Activations,

    /// Tokens that are processed at once
    #[arg(short = 'b', long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    batch_size: u32,

    /// Threads [default: the machine's cores]
    #[arg(short = 't', long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,

    /// Format of the result: text, md, json, or a file whose name ends with .html (a page) or .svg (the picture of bits and
    /// loss)
    #[arg(short = 'o', long, value_name = "FORMAT", default_value = "text")]
    output: Format,
}

/// Tasks that one word of the command line names.
#[derive(Clone)]
struct Tasks(Vec<&'static Task>);

impl std::fmt::Debug for Tasks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|task| task.name)).finish()
    }
}

fn task_list(text: &str) -> Result<Tasks, String> {
    let mut found = Vec::new();
    for name in text.split(',') {
        let named = tasks::find(name.trim());
        if named.is_empty() {
            let known: Vec<&str> = tasks::TASKS.iter().map(|task| task.name).collect();
            return Err(format!("no task is called `{name}`; there are {}", known.join(", ")));
        }
        found.extend(named);
    }
    Ok(Tasks(found))
}

/// Measures.
pub fn run(args: MeasureArgs) -> Result<Outcome> {
    let named = args.kv.iter().flat_map(|Listed(settings)| settings.clone()).collect();
    let positions: Vec<PositionScheme> =
        args.positions.iter().flat_map(|Listed(maps)| maps.clone()).collect();
    let own_positions = if positions.is_empty() { PositionScheme::auto() } else { PositionScheme::linear() };
    let settings = settings::with_positions(named, &positions, args.activations);
    if matches!(args.output, Format::Svg(_)) && !args.tasks.is_empty() {
        let message = "a picture of bits and loss has no tasks: give -o another format, such as report.html";
        return Err(crate::usage_error(message).into());
    }
    args.output.check()?;
    if let Some(path) = &args.reference {
        reference_file::check(path)?;
    }
    let model = args.model.name().unwrap_or_else(|| hub::DEFAULT_MODEL.to_string());
    let path = hub::resolve(&model)?;
    let source = open(&path)?;
    let tokenizer = source.tokenizer().map_err(in_file(&path))?;
    let texts = texts::read(&args.files, &tokenizer)?;
    let lengths = match &args.ctx_size {
        Some(Lengths(lengths)) => lengths.clone(),
        None => vec![N_CTX.min(source.info().n_ctx_train)],
    };
    for (option, is_given) in [("reference", args.reference.is_some()), ("max-loss", args.max_loss.is_some())]
    {
        if is_given && lengths.len() > 1 {
            let message = format!("--{option} is for one context length: give one number to -c");
            return Err(crate::usage_error(message).into());
        }
    }
    let options = EngineOptions {
        n_threads: args.threads.map(usize::from),
        activations: args.activations.into(),
        chunk: args.batch_size as usize,
        ..EngineOptions::default()
    };
    let cache_options = CacheOptions {
        n_ctx: lengths.iter().copied().max(),
        positions: args.reference_positions.clone().unwrap_or(own_positions),
        start_position: args.start_position as usize,
        beyond_trained: !positions.is_empty(),
        calibration: args.calibration.options()?,
        ..CacheOptions::default()
    };
    interrupt::listen(interrupt::Second::Ends);
    let spinner = Spinner::start("loading the model");
    let mut engine = Engine::load(&source, &options).map_err(in_file(&path))?;
    drop(spinner);
    let mut meter = Meter::new(&mut engine, cache_options, &path, args.activations, args.batch_size as usize)
        .map_err(in_file(&path))?;
    if args.reference_positions.is_some() {
        meter.name_reference_positions();
    }
    // A task without a setting is about the model alone.
    let is_set = match settings.is_empty() && args.max_loss.is_some() {
        true => meter.set_possible(&settings::candidates()),
        false => meter.set(&settings),
    };
    match is_set {
        Err(_) if interrupt::is_asked() => return Ok(Outcome::Interrupted),
        is_set => is_set.map_err(in_file(&path))?,
    }
    let mut report = meter.report();
    for &n_ctx in &lengths {
        if interrupt::is_asked() {
            report.is_complete = false;
            break;
        }
        if args.tasks.is_empty() {
            divergence(&args, &mut meter, &texts, n_ctx, &mut report)?;
        }
        for task in args.tasks.iter().flat_map(|Tasks(tasks)| tasks) {
            let options = TaskOptions { n_tokens: n_ctx, n_samples: args.samples.into(), seed: args.seed };
            match meter.task(task, &tokenizer, &options) {
                Ok((scores, is_complete)) => {
                    report.is_complete &= is_complete;
                    report.tasks.extend(scores);
                }
                // What was measured of other tasks and lengths is worth more than an error.
                Err(error) if is_too_long(&error) && args.has_several_tasks() => {
                    report.is_complete = false;
                    note(&format!("{error:#}: left out"));
                }
                Err(error) => return Err(error),
            }
        }
    }
    args.output.write(&report)?;
    // Nobody else has this calibration, and a certificate is of texts that begin at 0 and of the map that `run` would choose.
    let is_usual = args.start_position == 0 && args.reference_positions.is_none();
    let is_kept = args.calibration.calibrate.is_none() && is_usual;
    let kept = if is_kept { certificates::keep(&report) } else { Vec::new() };
    let chosen = kept.iter().find(|(certificate, _)| certificate.budget.is_some());
    if let Some((certificate, Some(file))) = chosen {
        note(&format!("{}: the certificate of {}", file.display(), certificate.setting));
    }
    Ok(if interrupt::is_asked() { Outcome::Interrupted } else { Outcome::Done })
}

fn is_too_long(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(EvalError::TaskTooLong { .. }))
}

impl MeasureArgs {
    fn has_several_tasks(&self) -> bool {
        let n_lengths = self.ctx_size.as_ref().map_or(1, |Lengths(lengths)| lengths.len());
        n_lengths * self.tasks.iter().map(|Tasks(tasks)| tasks.len()).sum::<usize>() > 1
    }
}

/// Adds the figures at one context length to the report, and what the budget allows.
fn divergence(
    args: &MeasureArgs,
    meter: &mut Meter<'_>,
    texts: &[Text],
    n_ctx: usize,
    report: &mut Report,
) -> Result<()> {
    let window_options = WindowOptions {
        max_scored: (args.tokens > 0).then_some(args.tokens),
        skip: args.skip.unwrap_or(WindowOptions::new(n_ctx).skip),
        n_ctx,
    };
    let texts = texts::long_enough(texts, n_ctx, !args.files.is_empty());
    let windows = windows(&texts, &window_options)?;
    let (mut measurement, rows) = against_reference(args, meter, &texts, &windows)?;
    if let Some(budget) = &args.max_loss {
        let kept = mixtures::Kept { windows: &windows, rows: &rows };
        let is_wanted = args.kv.is_empty() && measurement.is_complete;
        let sensitivity = match is_wanted {
            true => mixtures::refine(meter, budget, &kept, &mut measurement.settings)?,
            false => None,
        };
        report.choice = Some(Choice { sensitivity, ..budget.choose(&measurement.settings) });
    }
    report.is_complete &= measurement.is_complete && !interrupt::is_asked();
    report.divergence.push(measurement);
    Ok(())
}

/// The settings against the reference, which is run or was kept; and its predictions, if there is a use for them.
fn against_reference(
    args: &MeasureArgs,
    meter: &mut Meter<'_>,
    texts: &[Text],
    windows: &[Window],
) -> Result<(Measurement, Vec<KeptRow>)> {
    let origin = meter.origin(windows);
    let before = match &args.reference {
        Some(path) => reference_file::open(path, &origin)?,
        None => None,
    };
    let is_run = before.is_none();
    let mut rows = before.map(|before| before.rows).unwrap_or_default();
    let is_kept = args.reference.is_some() || (args.max_loss.is_some() && args.kv.is_empty());
    let reference = match (is_run, is_kept) {
        (false, _) => ReferenceRun::Kept(&rows),
        (true, true) => ReferenceRun::Keep(&mut rows),
        (true, false) => ReferenceRun::Run,
    };
    let bar = Bar::start(&format!("measuring at {} tokens", origin.what.n_ctx));
    let reading = Reading { texts, windows, reference };
    let measurement =
        meter.divergence(reading, &mut |progress| bar.set(progress.n_done, progress.n_total))?;
    drop(bar);
    if let Some(path) = &args.reference
        && is_run
    {
        let reference = KeptReference { origin, rows };
        match measurement.is_complete {
            true => {
                reference_file::keep(&reference, path)?;
                note(&format!("{}: the reference, {} predictions", path.display(), reference.rows.len()));
            }
            false => note(&format!("{}: not written, since it was stopped", path.display())),
        }
        rows = reference.rows;
    }
    Ok((measurement, rows))
}
