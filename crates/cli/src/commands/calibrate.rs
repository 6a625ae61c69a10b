//! `lossy calibrate`

use std::time::Instant;

use anyhow::Result;
use clap::Args;
use lossy_engine::{Engine, EngineOptions, RequestError, SettingError};

use crate::args::{CalibrationArgs, ModelArgs, UnreadArgs};
use crate::hub;
use crate::instructions;
use crate::interrupt;
use crate::loaded::{in_file, open};
use crate::observer::Bar;
use crate::outcome::Outcome;
use crate::terminal::{Spinner, note};
use crate::units::grouped;

/// Calibrates a model for the KV schemes that need it (k2v2 to k4v4), ahead of their first use
///
/// The model reads a text once, and what its keys, values and queries look like is kept: for each layer and head, means
/// and deviations. --calibrate with the same file in run, measure or bench finds it again.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  lossy calibrate smollm2
  lossy calibrate smollm2 --calibrate reports.txt && lossy run smollm2 --kv k2v2 --calibrate reports.txt -f new.txt")]
pub struct CalibrateArgs {
    #[command(flatten)]
    model: ModelArgs,

    #[command(flatten)]
    calibration: CalibrationArgs,

    #[command(flatten)]
    unread: UnreadArgs,

    /// Threads [default: the machine's cores]
    #[arg(short = 't', long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

/// Calibrates.
pub fn run(args: CalibrateArgs) -> Result<Outcome> {
    let model = args.model.name().unwrap_or_else(|| hub::DEFAULT_MODEL.to_string());
    let path = hub::resolve(&model)?;
    let source = open(&path)?;
    let options = EngineOptions {
        n_threads: args.threads.map(usize::from),
        unread: args.unread.unread(),
        isa: instructions::isa()?,
        ..EngineOptions::default()
    };
    let calibration = args.calibration.options()?;
    let spinner = Spinner::start("loading the model");
    let mut engine = Engine::load(&source, &options).map_err(in_file(&path))?;
    drop(spinner);
    interrupt::listen(interrupt::Second::Ends);
    let start = Instant::now();
    let bar = Bar::start(&format!("calibrating {model}"), "Ctrl-C ends");
    let calibrated = engine.calibration(&calibration, &mut |progress| bar.set(progress));
    drop(bar);
    let calibrated = match calibrated {
        Err(SettingError::Calibrating(RequestError::Stopped { .. })) => return Ok(Outcome::Interrupted),
        calibrated => calibrated.map_err(in_file(&path))?,
    };
    let text = match &args.calibration.calibrate {
        Some(path) => path.display().to_string(),
        None => "the bundled text".to_string(),
    };
    let place = match &calibrated.file {
        Some(file) => format!("saved in {}", file.display()),
        None => "but it could not be saved: is the cache directory writable?".to_string(),
    };
    note(&match calibrated.n_tokens {
        Some(n_tokens) => format!(
            "{model} is calibrated on {} tokens of {text}, in {:.1} s; {place}",
            grouped(n_tokens as u64),
            start.elapsed().as_secs_f64()
        ),
        None => format!("{model} was calibrated on {text} before; {place}"),
    });
    Ok(Outcome::Done)
}
