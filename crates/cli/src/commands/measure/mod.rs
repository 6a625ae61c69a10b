//! `lossy measure`

mod format;
pub mod list;
mod progress;
mod settings;
mod texts;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use lossy_engine::{EngineOptions, ModelSource};
use lossy_eval::divergence::{self, RunOptions};
use lossy_eval::tasks::{self, SettingScore, Task, TaskOptions};
use lossy_eval::{
    Budget, Measurement, ReferenceFigures, Report, SettingFigures, Text, WindowOptions, today, windows,
};
use lossy_tokenizer::Tokenizer;

use self::format::Format;
use self::list::{Lengths, SettingNames};
use self::progress::Bar;
use self::settings::{Loaded, Settings};
use super::Outcome;
use crate::args::{Activations, ModelArgs};
use crate::hub;
use crate::interrupt;
use crate::loaded::{in_file, open};
use crate::version;

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
  lossy measure smollm2 --kv k2v2 --task passkey,niah --lengths 2048,7500 --samples 32")]
pub struct MeasureArgs {
    #[command(flatten)]
    model: ModelArgs,

    /// Ways to store keys and values, between commas; may be given several times
    #[arg(long, value_name = "SCHEME", required_unless_present = "max_loss")]
    kv: Vec<SettingNames>,

    /// Finds the setting of fewest bits within a budget: kl=N, top=N or ppl=N. Without --kv it chooses from a list
    #[arg(long, value_name = "BUDGET", conflicts_with = "tasks")]
    max_loss: Option<Budget>,

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

    /// Asks questions instead: names of tasks between commas, or beginnings of names (niah)
    #[arg(long = "task", value_name = "NAME", value_parser = task_list)]
    tasks: Vec<Tasks>,

    /// Questions of each task and length
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    samples: u16,

    /// Of the random numbers that questions are made of
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// Activations of reference and settings; with f32 the reference's cache is f32 too
    #[arg(long, value_enum, default_value_t = Activations::Q8)]
    activations: Activations,

    /// Tokens that are processed at once
    #[arg(short = 'b', long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    batch_size: u32,

    /// Threads [default: the machine's cores]
    #[arg(short = 't', long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,

    /// Format of the result: text, md, json, or a file whose name ends with .html
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
    let names: Vec<String> = args.kv.iter().flat_map(|SettingNames(names)| names.clone()).collect();
    let settings = match names.is_empty() {
        true => Settings::candidates(args.activations)?,
        false => Settings::parse(&names, args.activations)?,
    };
    let model = args.model.name().unwrap_or_else(|| hub::DEFAULT_MODEL.to_string());
    let path = hub::resolve(&model)?;
    let source = open(&path)?;
    let tokenizer = source.tokenizer().map_err(in_file(&path))?;
    let texts = texts::read(&args.files, &tokenizer)?;
    let lengths = match &args.ctx_size {
        Some(Lengths(lengths)) => lengths.clone(),
        None => vec![N_CTX.min(source.info().n_ctx_train)],
    };
    let options = EngineOptions {
        n_threads: args.threads.map(usize::from),
        activations: args.activations.into(),
        n_ctx: lengths.iter().copied().max(),
        chunk: args.batch_size as usize,
        ..EngineOptions::default()
    };
    interrupt::listen(interrupt::Second::Ends);
    let loaded = settings.load(&source, &options).map_err(in_file(&path))?;
    let model = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    let mut meter = Meter { args: &args, model, loaded };
    let mut report = meter.report(&source);
    for n_ctx in lengths {
        if interrupt::is_asked() {
            report.is_complete = false;
            break;
        }
        if args.tasks.is_empty() {
            let measurement = meter.divergence(&texts, n_ctx)?;
            report.is_complete &= measurement.is_complete;
            report.divergence.push(measurement);
        }
        for task in args.tasks.iter().flat_map(|Tasks(tasks)| tasks) {
            let (scores, is_complete) = meter.task(task, &tokenizer, n_ctx)?;
            report.is_complete &= is_complete;
            report.tasks.extend(scores);
        }
    }
    report.choice = match (&args.max_loss, report.divergence.last()) {
        (Some(budget), Some(measurement)) => Some(budget.choose(&measurement.settings)),
        _ => None,
    };
    args.output.write(&report)?;
    Ok(if interrupt::is_asked() { Outcome::Interrupted } else { Outcome::Done })
}

/// The model with all settings, ready to be measured.
struct Meter<'a> {
    args: &'a MeasureArgs,
    model: String,
    loaded: Loaded,
}

impl Meter<'_> {
    /// Without figures yet.
    fn report(&self, source: &ModelSource) -> Report {
        Report {
            version: version::short().to_string(),
            command: command_line(),
            date: today(),
            model: self.model.clone(),
            model_hash: source.fingerprint().iter().map(|byte| format!("{byte:02x}")).collect(),
            divergence: Vec::new(),
            tasks: Vec::new(),
            choice: None,
            is_complete: true,
        }
    }

    fn divergence(&mut self, texts: &[Text], n_ctx: usize) -> Result<Measurement> {
        let args = self.args;
        let window_options = WindowOptions {
            max_scored: (args.tokens > 0).then_some(args.tokens),
            skip: args.skip.unwrap_or(WindowOptions::new(n_ctx).skip),
            n_ctx,
        };
        let texts = texts::long_enough(texts, n_ctx, !args.files.is_empty());
        let windows = windows(&texts, &window_options)?;
        let n_threads = self.loaded.lanes.engine().n_threads();
        let bar = Bar::start(&format!("measuring at {n_ctx} tokens"));
        let run_options = RunOptions { chunk: args.batch_size as usize, n_threads };
        let divergence = divergence::run(&mut self.loaded.lanes, &windows, &run_options, &mut |progress| {
            bar.set(progress.n_done, progress.n_total)
        })?;
        drop(bar);
        Ok(Measurement {
            version: version::short().to_string(),
            command: command_line(),
            model: self.model.clone(),
            texts: texts.iter().take(windows.len()).map(|text| text.name.clone()).collect(),
            n_ctx,
            n_windows: windows.len(),
            n_scored_per_window: windows.first().map_or(0, |window| window.n_scored()),
            chunk: args.batch_size as usize,
            activations: args.activations.name().to_string(),
            n_threads,
            is_complete: divergence.is_complete,
            reference: ReferenceFigures::new(&self.loaded.reference, &divergence),
            settings: SettingFigures::all(&self.loaded.settings, &divergence),
        })
    }

    /// Scores of the reference and the settings, and whether all questions were asked.
    fn task(
        &mut self,
        task: &'static Task,
        tokenizer: &Tokenizer,
        n_tokens: usize,
    ) -> Result<(Vec<SettingScore>, bool)> {
        let args = self.args;
        let options = TaskOptions { n_tokens, n_samples: args.samples.into(), seed: args.seed };
        let cases = tasks::cases(task, tokenizer, &options)?;
        let bar = Bar::start(&format!("{} at {n_tokens} tokens", task.name));
        let lanes = &mut self.loaded.lanes;
        let run = tasks::run(lanes, tokenizer, task, &cases, args.batch_size as usize, &mut |progress| {
            bar.set(progress.n_done, progress.n_total)
        });
        let run = run.with_context(|| format!("{} at {n_tokens} tokens", task.name))?;
        let costs = std::iter::once(&self.loaded.reference).chain(&self.loaded.settings);
        let names: Vec<String> = costs.map(|cost| cost.setting.clone()).collect();
        Ok((tasks::scores(task.name, n_tokens, &names, &run), run.is_complete))
    }
}

/// What was typed, without the path of the program.
fn command_line() -> String {
    let args = std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned());
    std::iter::once("lossy".to_string()).chain(args).collect::<Vec<_>>().join(" ")
}
