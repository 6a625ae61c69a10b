//! The subcommands, one file each. One more is one more file, one variant and one arm.

mod ask;
mod bench;
mod cache;
mod calibrate;
mod completions;
mod compress;
mod distill;
mod imatrix;
mod inspect;
mod list;
mod logits;
mod measure;
mod prune;
mod pull;
mod quantize;
mod run;
mod serve;
mod tokenize;

use anyhow::Result;
use clap::Subcommand;

use crate::outcome::Outcome;

/// What to do.
#[derive(Subcommand, Debug)]
pub enum Command {
    Run(Box<run::RunArgs>),
    Serve(Box<serve::ServeArgs>),
    Ask(Box<ask::AskArgs>),
    Cache(cache::CacheArgs),
    Pull(pull::PullArgs),
    List(list::ListArgs),
    Inspect(inspect::InspectArgs),
    Tokenize(tokenize::TokenizeArgs),
    Logits(logits::LogitsArgs),
    Measure(measure::MeasureArgs),
    Calibrate(calibrate::CalibrateArgs),
    Imatrix(imatrix::ImatrixArgs),
    Quantize(Box<quantize::QuantizeArgs>),
    Compress(Box<compress::CompressArgs>),
    Prune(prune::PruneArgs),
    Distill(distill::DistillArgs),
    Bench(bench::BenchArgs),
    Completions(completions::CompletionsArgs),
}

impl Command {
    /// Does it.
    pub fn run(self) -> Result<Outcome> {
        match self {
            Command::Run(args) => run::run(*args),
            Command::Serve(args) => serve::run(*args),
            Command::Ask(args) => ask::run(*args),
            Command::Cache(args) => cache::run(args),
            Command::Pull(args) => pull::run(args),
            Command::List(args) => list::run(args),
            Command::Inspect(args) => inspect::run(args),
            Command::Tokenize(args) => tokenize::run(args),
            Command::Logits(args) => logits::run(args),
            Command::Measure(args) => measure::run(args),
            Command::Calibrate(args) => calibrate::run(args),
            Command::Imatrix(args) => imatrix::run(args),
            Command::Quantize(args) => quantize::run(*args),
            Command::Compress(args) => compress::run(*args),
            Command::Prune(args) => prune::run(args),
            Command::Distill(args) => distill::run(args),
            Command::Bench(args) => bench::run(args),
            Command::Completions(args) => completions::run(args),
        }
    }
}
