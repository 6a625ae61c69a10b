//! `lossy measure`

mod format;
mod reference_file;
mod reference_model;
mod task_list;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use lossy_engine::{ActivationKind, CacheOptions, Engine, EngineOptions, PositionScheme};
use lossy_eval::divergence::{ReferenceRun, SavedPrediction, SavedReference};
use lossy_eval::tasks::{Task, TaskOptions};
use lossy_eval::{
    Budget, EngineLanes, EvalError, Measurement, Meter, MeterOptions, NamedEngine, Observer, Report, Search,
    Setting, Text, WindowOptions, Windows, long_enough,
};
use lossy_tokenizer::Tokenizer;

use crate::args::{Activations, CalibrationArgs, Lengths, Listed, ModelArgs, UnreadArgs};
use crate::loaded::{in_file, open};
use crate::loss::file_name;
use crate::observer::Watcher;
use crate::outcome::Outcome;
use crate::terminal::{Spinner, note};
use crate::{directories, hub, instructions, interrupt, text_file, version};
use reference_model::OtherModel;
use task_list::{Tasks, task_list};

/// Tokens of a window or a task where nothing else is said.
pub const N_CTX: usize = 2048;
/// Predictions that count where nothing else is said.
pub const N_SCORED: usize = 4096;
/// Tokens that are processed at once where nothing else is said.
pub const CHUNK: usize = 512;

/// Measures what a setting costs: how far a model's predictions are from its own with an exact cache
///
/// Model and reference are shown the same text, and their predictions of every next token are compared: KL divergence in
/// nats, change of the probability of the token that follows, share of the same most likely token, perplexity. With --task
/// both are asked questions whose answers are known. With --reference-model the reference is another model: then it is what its
/// weights cost.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  lossy measure smollm2 --kv k2v2
  lossy measure smollm2 --kv q8,kivi2,k2v2:residual=256 -f my.txt -c 2048,8192 -o report.html
  lossy measure smollm2 --max-loss kl=0.02
  lossy measure smollm2 --kv k3v3 -f my.txt -c 8192 --reference my.reference
  lossy measure small.gguf --reference-model original-f16.gguf
  lossy measure smollm2 --positions self-extend,adaptive -c 16384 --task multi-passkey
  lossy measure smollm2 --kv k2v2,k3v3 --reference-positions self-extend -c 16384 --task multi-passkey
  lossy measure smollm2 --kv k2v2 --task passkey,niah --lengths 2048,7500 --samples 32")]
pub struct MeasureArgs {
    #[command(flatten)]
    model: ModelArgs,

    /// Ways to store keys and values, between commas; may be given several times. Without any, --task asks the model with
    /// an exact cache, and so does --reference-model
    #[arg(long, value_name = "SCHEME", required_unless_present_any = ["max_loss", "positions", "tasks", "reference_model"])]
    kv: Vec<Listed<Setting>>,

    /// Position maps, between commas; each is measured with each --kv. The reference then has the model's own positions,
    /// beyond the trained context too
    #[arg(long, value_name = "MAP", conflicts_with = "max_loss")]
    positions: Vec<Listed<PositionScheme>>,

    /// Position map of the reference, and of every setting without one of its own: what KV schemes cost with this map, or,
    /// for a --task without --kv, what the model finds with it [default: auto; with --positions linear]
    #[arg(long, value_name = "MAP", conflicts_with = "max_loss")]
    reference_positions: Option<PositionScheme>,

    /// Model to compare with, such as the one that MODEL was quantized from: the reference is its predictions with an exact
    /// cache. It must have the same vocabulary
    #[arg(long, value_name = "MODEL", conflicts_with = "max_loss")]
    reference_model: Option<String>,

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
    #[arg(long, value_name = "N", default_value_t = N_SCORED)]
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

    #[command(flatten)]
    unread: UnreadArgs,

    /// Activations of reference and settings; with f32 the reference's cache is f32 too
    #[arg(long, value_enum, default_value_t = Activations::Q8)]
    activations: Activations,

    /// Tokens that are processed at once
    #[arg(short = 'b', long, value_name = "N", default_value_t = CHUNK as u32, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    batch_size: u32,

    /// Threads [default: the machine's cores]
    #[arg(short = 't', long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,

    /// Format of the result: text, md, json, or a file whose name ends with .html (a page) or .svg (the picture of bits and
    /// loss)
    #[arg(short = 'o', long, value_name = "FORMAT", default_value = "text")]
    output: format::Format,
}

/// Measures.
pub fn run(args: MeasureArgs) -> Result<Outcome> {
    let positions: Vec<PositionScheme> =
        args.positions.iter().flat_map(|Listed(maps)| maps.clone()).collect();
    let own_positions = if positions.is_empty() { PositionScheme::auto() } else { PositionScheme::linear() };
    let settings = args.settings(&positions);
    if matches!(args.output, format::Format::Svg(_)) && !args.tasks.is_empty() {
        let message = "a picture of bits and loss has no tasks: give -o another format, such as report.html";
        return Err(crate::usage_error(message).into());
    }
    args.output.check()?;
    args.reference.as_deref().map_or(Ok(()), reference_file::check)?;
    let model = args.model.name().unwrap_or_else(|| hub::DEFAULT_MODEL.to_string());
    let path = hub::resolve(&model)?;
    let source = open(&path)?;
    let tokenizer = source.tokenizer().map_err(in_file(&path))?;
    let texts = args.texts(&tokenizer)?;
    let lengths = args.lengths(source.info().n_ctx_train)?;
    let options = EngineOptions {
        n_threads: args.threads.map(usize::from),
        isa: instructions::isa()?,
        activations: args.activations.into(),
        chunk: args.batch_size as usize,
        unread: args.unread.unread(),
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
    let mut other =
        args.reference_model.as_deref().map(|name| OtherModel::load(name, &options)).transpose()?;
    drop(spinner);
    let options = MeterOptions {
        version: version::short().to_string(),
        command: command_line(),
        model: file_name(&path),
        chunk: args.batch_size as usize,
        cache: cache_options,
    };
    let lanes = match &mut other {
        None => EngineLanes::new(&mut engine, options.cache.clone()),
        Some(other) => {
            let model = NamedEngine { engine: &mut engine, name: options.model.clone() };
            EngineLanes::against(model, other.named(), options.cache.clone())
        }
    };
    let meter = Meter::of(lanes.map_err(in_file(&path))?, options);
    let mut measuring = Measuring { args: &args, meter, watcher: Watcher::new("Ctrl-C: what there is") };
    if args.reference_positions.is_some() {
        measuring.meter.name_reference_positions();
    }
    let search = args.max_loss.clone().map(|budget| {
        if settings.is_empty() { Search::new(budget) } else { Search::among(budget, settings.clone()) }
    });
    let set = match &search {
        Some(search) => search.set(&mut measuring.meter, &mut measuring.watcher),
        // A task without a setting is about the model alone.
        None => measuring.meter.set(&settings, &mut measuring.watcher),
    };
    match set {
        Err(EvalError::Stopped) => return Ok(Outcome::Interrupted),
        set => set.map_err(in_file(&path))?,
    }
    let mut report = measuring.meter.report();
    for &n_ctx in &lengths {
        if interrupt::is_asked() {
            report.is_complete = false;
            break;
        }
        if args.tasks.is_empty() {
            measuring.divergence(&texts, n_ctx, search.as_ref(), &mut report)?;
        }
        for task in args.tasks.iter().flat_map(|Tasks(tasks)| tasks) {
            measuring.ask(task, &tokenizer, n_ctx, &mut report)?;
        }
    }
    let Measuring { mut watcher, .. } = measuring;
    args.output.write(&report)?;
    args.save_certificates(&report, &mut watcher);
    Ok(if interrupt::is_asked() { Outcome::Interrupted } else { Outcome::Done })
}

/// What was typed, without the path of the program.
pub fn command_line() -> String {
    let args = std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned());
    std::iter::once("lossy".to_string()).chain(args).collect::<Vec<_>>().join(" ")
}

impl MeasureArgs {
    /// Each scheme with each position map.
    fn settings(&self, positions: &[PositionScheme]) -> Vec<Setting> {
        let mut named: Vec<Setting> = self.kv.iter().flat_map(|Listed(settings)| settings.clone()).collect();
        if named.is_empty() && (!positions.is_empty() || self.reference_model.is_some()) {
            named.push(Setting::exact(ActivationKind::from(self.activations)));
        }
        named.iter().flat_map(|setting| setting.with_each(positions)).collect()
    }

    /// The user's files, or what is bundled.
    fn texts(&self, tokenizer: &Tokenizer) -> Result<Vec<Text>> {
        if self.files.is_empty() {
            return Ok(Text::bundled(tokenizer)?);
        }
        let read = |path: &PathBuf| -> Result<Text> {
            Ok(Text::new(&path.display().to_string(), &text_file::read(path)?, tokenizer)?)
        };
        self.files.iter().map(read).collect()
    }

    fn lengths(&self, n_ctx_train: usize) -> Result<Vec<usize>> {
        let lengths = match &self.ctx_size {
            Some(Lengths(lengths)) => lengths.clone(),
            None => vec![N_CTX.min(n_ctx_train)],
        };
        for (option, is_given) in
            [("reference", self.reference.is_some()), ("max-loss", self.max_loss.is_some())]
        {
            if is_given && lengths.len() > 1 {
                let message = format!("--{option} is for one context length: give one number to -c");
                return Err(crate::usage_error(message).into());
            }
        }
        Ok(lengths)
    }

    fn has_several_tasks(&self) -> bool {
        let n_lengths = self.ctx_size.as_ref().map_or(1, |Lengths(lengths)| lengths.len());
        n_lengths * self.tasks.iter().map(|Tasks(tasks)| tasks.len()).sum::<usize>() > 1
    }

    /// Saves a certificate of each setting that `run` could use.
    fn save_certificates(&self, report: &Report, observer: &mut dyn Observer) {
        // Nobody else has this calibration, and a certificate is of texts that begin at 0 and of the map that `run` would
        // choose.
        let is_usual = self.start_position == 0 && self.reference_positions.is_none();
        if self.calibration.calibrate.is_some() || !is_usual {
            return;
        }
        let saved = directories::certificates().save_all(report, observer);
        let chosen = saved.iter().find(|saved| saved.certificate.budget.is_some());
        if let Some((certificate, file)) =
            chosen.and_then(|saved| Some((&saved.certificate, saved.file.as_ref()?)))
        {
            note(&format!("{}: the certificate of {}", file.display(), certificate.setting));
        }
    }
}

/// A measurement under way.
struct Measuring<'a> {
    args: &'a MeasureArgs,
    meter: Meter<EngineLanes<'a>>,
    watcher: Watcher,
}

impl Measuring<'_> {
    /// Adds the figures at one context length to the report, and what the budget allows.
    fn divergence(
        &mut self,
        texts: &[Text],
        n_ctx: usize,
        search: Option<&Search>,
        report: &mut Report,
    ) -> Result<()> {
        let args = self.args;
        let options = WindowOptions {
            max_scored: (args.tokens > 0).then_some(args.tokens),
            skip: args.skip.unwrap_or(WindowOptions::new(n_ctx).skip),
            n_ctx,
        };
        // A user's own text that is too short is an error.
        let windows = if args.files.is_empty() {
            Windows::cut(&long_enough(texts, n_ctx), &options)?
        } else {
            Windows::cut(texts, &options)?
        };
        let is_used_again = search.is_some_and(Search::tries_mixtures);
        let (mut measurement, predictions) = self.against_reference(&windows, is_used_again)?;
        if let Some(search) = search {
            let found =
                search.choose(&mut self.meter, &windows, &predictions, measurement, &mut self.watcher)?;
            report.choice = Some(found.choice);
            report.is_complete &= found.is_complete;
            measurement = found.measurement;
        }
        report.is_complete &= measurement.is_complete;
        report.divergence.push(measurement);
        Ok(())
    }

    /// The settings against the reference, which is run or was saved; and its predictions, if there is a use for them.
    fn against_reference(
        &mut self,
        windows: &Windows,
        is_used_again: bool,
    ) -> Result<(Measurement, Vec<SavedPrediction>)> {
        let Some(path) = &self.args.reference else {
            let mut predictions = Vec::new();
            let reference =
                if is_used_again { ReferenceRun::Save(&mut predictions) } else { ReferenceRun::Run };
            return Ok((self.meter.measure(windows, reference, &mut self.watcher)?, predictions));
        };
        let origin = self.meter.origin(windows);
        if let Some(saved) = reference_file::load(path, &origin)? {
            let reference = ReferenceRun::Saved(&saved.predictions);
            return Ok((self.meter.measure(windows, reference, &mut self.watcher)?, saved.predictions));
        }
        let mut predictions = Vec::new();
        let reference = ReferenceRun::Save(&mut predictions);
        let measurement = self.meter.measure(windows, reference, &mut self.watcher)?;
        let reference = SavedReference { origin, predictions };
        if measurement.is_complete {
            reference_file::save(&reference, path)?;
            let n_predictions = reference.predictions.len();
            note(&format!("{}: the reference, {n_predictions} predictions", path.display()));
        } else {
            note(&format!("{}: not written, since it was stopped", path.display()));
        }
        Ok((measurement, reference.predictions))
    }

    /// Adds the scores of a task to the report.
    fn ask(
        &mut self,
        task: &'static Task,
        tokenizer: &Tokenizer,
        n_tokens: usize,
        report: &mut Report,
    ) -> Result<()> {
        let options = TaskOptions { n_tokens, n_samples: self.args.samples.into(), seed: self.args.seed };
        match self.meter.ask(task, tokenizer, &options, &mut self.watcher) {
            Ok(asked) => {
                report.is_complete &= asked.is_complete;
                report.tasks.extend(asked.scores);
            }
            // What was measured of other tasks and lengths is worth more than an error.
            Err(error @ EvalError::TaskTooLong { .. }) if self.args.has_several_tasks() => {
                report.is_complete = false;
                note(&format!("{error}: left out"));
            }
            Err(error @ EvalError::TaskTooLong { .. }) => return Err(error.into()),
            Err(error) => return Err(error).with_context(|| format!("{} at {n_tokens} tokens", task.name)),
        }
        Ok(())
    }
}
