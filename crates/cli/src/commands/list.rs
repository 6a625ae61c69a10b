//! `lossy list`

use std::io::Write;

use anyhow::Result;
use clap::Args;
use lossy_formats::Escaped;

use crate::hub::{self, DEFAULT_MODEL, HubEnvironment};
use crate::outcome::Outcome;
use crate::output::Output;
use crate::terminal::note;
use crate::units;

/// Lists the models on this machine
#[derive(Args, Debug)]
#[command(after_help = "Example:
  lossy list --json")]
pub struct ListArgs {
    /// Prints an array of {name, quant, bytes, path}
    #[arg(long)]
    json: bool,
}

/// Lists.
pub fn run(args: ListArgs) -> Result<Outcome> {
    let environment = HubEnvironment::from_env()?;
    let models = hub::installed(&environment);
    if args.json {
        writeln!(Output::json(), "{}", serde_json::to_string_pretty(&models)?)?;
        return Ok(Outcome::Done);
    }
    if models.is_empty() {
        note(&format!("no models in {} yet; try: lossy pull {DEFAULT_MODEL}", environment.cache.display()));
        return Ok(Outcome::Done);
    }
    let mut out = Output::text();
    let width = |column: fn(&hub::InstalledModel) -> usize, title: &str| {
        models.iter().map(column).max().unwrap_or(0).max(title.len())
    };
    let (name, quant) = (width(|model| model.name.len(), "NAME"), width(|model| model.quant.len(), "QUANT"));
    writeln!(out, "{:name$}  {:quant$}  {:>8}  PATH", "NAME", "QUANT", "SIZE")?;
    for model in &models {
        let size = units::bytes(model.bytes);
        writeln!(
            out,
            "{:name$}  {:quant$}  {size:>8}  {}",
            Escaped(&model.name),
            Escaped(&model.quant),
            Escaped(model.path.display())
        )?;
    }
    Ok(Outcome::Done)
}
