//! `lossy measure`

mod list;
mod progress;
mod settings;

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use lossy_engine::{EngineOptions, ModelSource};
use lossy_eval::divergence::{self, RunOptions};
use lossy_eval::{BUNDLED, Measurement, ReferenceFigures, SettingFigures, Text, WindowOptions, windows};
use lossy_tokenizer::{EncodeOptions, Tokenizer};

use self::list::{Lengths, SettingNames};
use self::progress::Bar;
use self::settings::Settings;
use super::Outcome;
use crate::args::{Activations, ModelArgs};
use crate::hub;
use crate::interrupt;
use crate::output::Output;
use crate::terminal::Spinner;
use crate::version;

/// Tokens of a window where nothing else is said.
const N_CTX: usize = 2048;

/// Measures what a setting costs: how far a model's predictions are from its own with an exact cache
///
/// Model and reference are shown the same text, and their predictions of every next token are compared: KL divergence in
/// nats, change of the probability of the token that follows, share of the same most likely token, perplexity.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  lossy measure smollm2 --kv f16
  lossy measure smollm2 --kv q8,kivi2,k2v2:residual=128 -f my.txt -c 2048,8192 -o md")]
pub struct MeasureArgs {
    #[command(flatten)]
    model: ModelArgs,

    /// Ways to store keys and values, between commas; may be given several times
    #[arg(long, value_name = "SCHEME", required = true)]
    kv: Vec<SettingNames>,

    /// File with text; may be given several times [default: the bundled prose, code and dialogue]
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Context lengths, each measured on windows of that many tokens [default: 2048, or the model's if it is shorter]
    #[arg(short = 'c', long, value_name = "N")]
    ctx_size: Option<Lengths>,

    /// Predictions that count, in all windows of one length together; 0: all of the text
    #[arg(long, value_name = "N", default_value_t = 4096)]
    tokens: usize,

    /// Predictions at the beginning of each window that do not count [default: 256, or half of a short window's]
    #[arg(long, value_name = "N")]
    skip: Option<usize>,

    /// Activations of reference and settings; with f32 the reference's cache is f32 too
    #[arg(long, value_enum, default_value_t = Activations::Q8)]
    activations: Activations,

    /// Tokens that are processed at once
    #[arg(short = 'b', long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    batch_size: u32,

    /// Threads [default: the machine's cores]
    #[arg(short = 't', long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,

    /// Format of the result
    #[arg(short = 'o', long, value_enum, default_value_t = Format::Text)]
    output: Format,
}

/// `-o`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// the blocks of llama-perplexity, and tables
    Text,
    /// Markdown tables
    Md,
    /// one array, an object for each context length
    Json,
}

/// Measures.
pub fn run(args: MeasureArgs) -> Result<Outcome> {
    let names: Vec<String> = args.kv.iter().flat_map(|SettingNames(names)| names.clone()).collect();
    let settings = Settings::parse(&names, args.activations)?;
    let model = args.model.name().unwrap_or_else(|| hub::DEFAULT_MODEL.to_string());
    let path = hub::resolve(&model)?;
    let source = ModelSource::open(&path).with_context(|| path.display().to_string())?;
    let texts = read_texts(&args.files, &source.tokenizer()?)?;
    let n_ctx_train = source.info().n_ctx_train;
    let lengths = match &args.ctx_size {
        Some(Lengths(lengths)) => lengths.clone(),
        None => vec![N_CTX.min(n_ctx_train)],
    };
    let longest = lengths.iter().copied().max().unwrap_or(N_CTX);
    let options = EngineOptions {
        n_threads: args.threads.map(usize::from),
        activations: args.activations.into(),
        n_ctx: Some(longest),
        chunk: args.batch_size as usize,
        ..EngineOptions::default()
    };
    interrupt::listen(interrupt::Second::Ends);
    let spinner = Spinner::start("loading the model");
    let mut loaded = settings.load(&source, &options).with_context(|| path.display().to_string())?;
    drop(spinner);
    let mut measurements = Vec::new();
    for n_ctx in lengths {
        let window_options = WindowOptions {
            max_scored: (args.tokens > 0).then_some(args.tokens),
            skip: args.skip.unwrap_or(WindowOptions::new(n_ctx).skip),
            n_ctx,
        };
        let texts = long_enough(&texts, n_ctx, !args.files.is_empty());
        let windows = windows(&texts, &window_options)?;
        let bar = Bar::start(&format!("measuring at {n_ctx} tokens"));
        let run_options = RunOptions { chunk: options.chunk, n_threads: loaded.n_threads };
        let divergence = divergence::run(&mut loaded.lanes, &windows, &run_options, &mut |progress| {
            bar.set(progress.n_done, progress.n_total)
        })?;
        drop(bar);
        measurements.push(Measurement {
            version: version::short().to_string(),
            command: command_line(),
            model: path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned(),
            texts: texts.iter().take(windows.len()).map(|text| text.name.clone()).collect(),
            n_ctx,
            n_windows: windows.len(),
            n_scored_per_window: windows.first().map_or(0, |window| window.n_scored()),
            chunk: options.chunk,
            activations: if args.activations == Activations::F32 { "f32" } else { "q8" }.to_string(),
            n_threads: loaded.n_threads,
            is_complete: divergence.is_complete,
            reference: ReferenceFigures::new(&loaded.reference, &divergence),
            settings: SettingFigures::all(&loaded.settings, &divergence),
        });
        if interrupt::is_asked() {
            break;
        }
    }
    print(&measurements, args.output)?;
    Ok(if interrupt::is_asked() { Outcome::Interrupted } else { Outcome::Done })
}

fn print(measurements: &[Measurement], format: Format) -> Result<()> {
    let mut out = Output::lock();
    match format {
        Format::Json => writeln!(out, "{}", serde_json::to_string_pretty(measurements)?)?,
        Format::Text | Format::Md => {
            for (index, measurement) in measurements.iter().enumerate() {
                let text = if format == Format::Md { measurement.markdown() } else { measurement.text() };
                write!(out, "{}{text}", if index > 0 { "\n" } else { "" })?;
            }
        }
    }
    out.flush()?;
    Ok(())
}

/// The files, or what is bundled.
fn read_texts(files: &[PathBuf], tokenizer: &Tokenizer) -> Result<Vec<Text>> {
    let bos = tokenizer.bos().filter(|_| tokenizer.adds_bos());
    let text = |name: String, text: &str| -> Result<Text> {
        let tokens = tokenizer.encode(text, EncodeOptions { add_special: false, parse_special: false })?;
        Ok(Text { name, tokens, bos })
    };
    if files.is_empty() {
        return BUNDLED
            .iter()
            .map(|bundled| text(format!("bundled {}", bundled.name), bundled.text))
            .collect();
    }
    let file = |path: &PathBuf| {
        let content = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        text(path.display().to_string(), &content)
    };
    files.iter().map(file).collect()
}

/// Bundled texts that are too short are left out; a user's own text that is too short is an error, later.
fn long_enough(texts: &[Text], n_ctx: usize, are_users: bool) -> Vec<Text> {
    let longest = texts.iter().map(|text| text.tokens.len()).max().unwrap_or(0);
    let enough = |text: &&Text| are_users || text.tokens.len() >= n_ctx.min(longest);
    texts.iter().filter(enough).cloned().collect()
}

/// What was typed, without the path of the program.
fn command_line() -> String {
    let args = std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned());
    std::iter::once("lossy".to_string()).chain(args).collect::<Vec<_>>().join(" ")
}
