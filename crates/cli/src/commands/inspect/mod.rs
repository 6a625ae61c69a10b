//! `lossy inspect`

mod report;
mod text;
mod value;

use std::path::Path;

use anyhow::Result;
use clap::Args;
use lossy_engine::ModelSource;
use lossy_formats::gguf::Gguf;

use crate::args::ModelArgs;
use crate::hub;
use crate::loaded::in_file;
use crate::outcome::Outcome;
use crate::output::Output;
use crate::terminal::note;
use report::Report;

/// Shows what is in a model file, and how much memory it takes to run
///
/// Reads no weights. A file of an architecture that cannot be computed is shown too, with a note.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  lossy inspect smollm2
  lossy inspect model.gguf -c 32768 --tensors
  lossy inspect model.gguf --json | jq .kv_bytes_per_token.f16")]
pub struct InspectArgs {
    #[command(flatten)]
    model: ModelArgs,

    /// Context in tokens for the memory estimate; 0: what the model was trained with
    #[arg(short = 'c', long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1 << 27))]
    ctx_size: u32,

    /// Lists every tensor with its type, shape and bytes
    #[arg(long)]
    tensors: bool,

    /// Prints one JSON object, with all metadata and tensors whole
    #[arg(long)]
    json: bool,
}

/// Shows.
pub fn run(args: InspectArgs) -> Result<Outcome> {
    let model = args.model.name().unwrap_or_else(|| hub::DEFAULT_MODEL.to_string());
    let path = hub::resolve(&model)?;
    let report = report(&path, args.ctx_size as usize)
        .map_err(in_file(&path))
        .map_err(|error| hub::with_mending(&path, error))?;
    let mut out = std::io::BufWriter::new(if args.json { Output::json() } else { Output::text() });
    if args.json {
        serde_json::to_writer_pretty(&mut out, &report).map_err(std::io::Error::from)?;
        std::io::Write::write_all(&mut out, b"\n")?;
    } else {
        text::write(&mut out, &report, args.tensors)?;
    }
    std::io::Write::flush(&mut out)?;
    Ok(Outcome::Done)
}

fn report(path: &Path, n_ctx: usize) -> Result<Report> {
    match ModelSource::open(path) {
        Ok(source) => Ok(match (source.gguf(), source.hf()) {
            (Some(gguf), _) => Report::of_gguf(path, gguf, Some((source.info(), n_ctx))),
            (_, Some(dir)) => Report::of_hf(path, dir, source.info(), n_ctx),
            (None, None) => unreachable!("a source is a GGUF file or a Hugging Face directory"),
        }),
        Err(error) if path.is_file() => {
            // It may be a good file of a model that is not known here.
            let gguf = Gguf::open(path)?;
            note(&format!("this model cannot be run: {error}"));
            Ok(Report::of_gguf(path, &gguf, None))
        }
        Err(error) => Err(error.into()),
    }
}
