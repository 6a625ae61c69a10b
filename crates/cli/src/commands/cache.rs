//! `lossy cache`

use std::io::Write;
use std::path::PathBuf;
use std::time::SystemTime;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use lossy_engine::prefix_cache::{NoScope, PrefixCache, Scope};
use serde_json::json;

use crate::outcome::Outcome;
use crate::output::Output;
use crate::terminal::note;
use crate::units;

/// Lists or erases the documents that a server keeps on the disk
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  lossy cache list --cache-dir ~/documents.kv
  lossy cache purge --cache-dir ~/documents.kv")]
pub struct CacheArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Lists them: a line for each scope, which is a key of the server together with a request's cache_salt
    List {
        #[command(flatten)]
        place: Place,
        /// Prints an array of {scope, pages, tokens, bytes, last_used}
        #[arg(long)]
        json: bool,
    },
    /// Erases them
    Purge {
        #[command(flatten)]
        place: Place,
        /// Only those of a scope, as `lossy cache list` prints it
        #[arg(long, value_name = "SCOPE", value_parser = |text: &str| text.parse::<Scope>().map_err(|error: NoScope| error.to_string()))]
        scope: Option<Scope>,
    },
}

#[derive(Args, Debug)]
struct Place {
    /// The directory that `lossy serve` was given
    #[arg(long, value_name = "DIR", env = "LOSSY_CACHE_DIR")]
    cache_dir: PathBuf,
}

/// Lists or erases.
pub fn run(args: CacheArgs) -> Result<Outcome> {
    match args.action {
        Action::List { place, json } => list(&place, json),
        Action::Purge { place, scope } => purge(&place, scope),
    }
}

fn list(place: &Place, json: bool) -> Result<Outcome> {
    let directory = &place.cache_dir;
    let scopes = PrefixCache::list_directory(directory)
        .with_context(|| format!("--cache-dir {}", directory.display()))?;
    if json {
        let value =
            |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let scopes: Vec<_> = scopes
            .iter()
            .map(|usage| {
                json!({
                    "scope": usage.scope.to_string(), "pages": usage.n_pages, "tokens": usage.n_tokens,
                    "bytes": usage.bytes, "last_used": value(usage.last_used)
                })
            })
            .collect();
        writeln!(Output::json(), "{}", serde_json::to_string_pretty(&scopes)?)?;
        return Ok(Outcome::Done);
    }
    if scopes.is_empty() {
        note(&format!("no documents in {}", directory.display()));
        return Ok(Outcome::Done);
    }
    let mut out = Output::text();
    writeln!(out, "{:64}  {:>10}  {:>8}  LAST USED", "SCOPE", "TOKENS", "SIZE")?;
    for usage in scopes {
        let (tokens, size) = (units::grouped(usage.n_tokens as u64), units::bytes(usage.bytes));
        let ago = usage.last_used.elapsed().unwrap_or_default().as_secs();
        let ago = match ago {
            0..60 => "just now".to_string(),
            60..3600 => format!("{} min ago", ago / 60),
            3600..172_800 => format!("{} h ago", ago / 3600),
            _ => format!("{} days ago", ago / 86_400),
        };
        writeln!(out, "{}  {tokens:>10}  {size:>8}  {ago}", usage.scope)?;
    }
    Ok(Outcome::Done)
}

fn purge(place: &Place, scope: Option<Scope>) -> Result<Outcome> {
    let directory = &place.cache_dir;
    let count = || -> Result<u64> {
        let scopes = PrefixCache::list_directory(directory)?;
        let chosen = scopes.iter().filter(|usage| scope.is_none_or(|scope| scope == usage.scope));
        Ok(chosen.map(|usage| usage.bytes).sum())
    };
    let named = || format!("--cache-dir {}", directory.display());
    let before = count().with_context(named)?;
    PrefixCache::purge_directory(directory, scope.as_ref()).with_context(named)?;
    note(&format!("erased {} in {}", units::bytes(before.saturating_sub(count()?)), directory.display()));
    Ok(Outcome::Done)
}
