//! `lossy logits`

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use lossy_engine::{BatchItem, EngineOptions, Logits, RequestError};
use lossy_formats::AtomicFile;
use lossy_tokenizer::EncodeOptions;

use crate::args::{EngineArgs, ModelArgs, PromptArgs, TokenIds};
use crate::hub;
use crate::interrupt;
use crate::loaded::Loaded;
use crate::outcome::Outcome;
use crate::terminal::{Prefill, note};

/// Rows that are computed at once: 64 rows of a vocabulary of 150,000 are 38 MB.
const ROWS_AT_ONCE: usize = 64;

/// Writes a model's raw logits to a file, for whoever wants to check them
///
/// The file holds little-endian float32 numbers, [N, n_vocab]: one row after each of the last N tokens of the text.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  lossy logits smollm2 --ids 504,3575,282 --last 1 --activations f32 -o logits.f32")]
pub struct LogitsArgs {
    #[command(flatten)]
    model: ModelArgs,

    #[command(flatten)]
    prompt: PromptArgs,

    /// Token ids instead of a text, such as 1,2,3
    #[arg(long, value_name = "IDS", conflicts_with_all = ["prompt", "files"])]
    ids: Option<TokenIds>,

    /// Rows: those after the last N tokens [default: after every token]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    last: Option<u32>,

    /// The file to write
    #[arg(short = 'o', long, value_name = "FILE")]
    output: PathBuf,

    /// Reads the text of a control token, such as <|im_start|>, as plain text
    #[arg(long, visible_alias = "no-parse-special")]
    no_special: bool,

    /// Without the tokens that the model puts at the beginning or end of a text
    #[arg(long)]
    no_bos: bool,

    #[command(flatten)]
    engine: EngineArgs,
}

/// Writes them.
pub fn run(args: LogitsArgs) -> Result<Outcome> {
    let (options, cache_options) = (args.engine.engine_options()?, args.engine.cache_options()?);
    let model = args.model.name().unwrap_or_else(|| hub::DEFAULT_MODEL.to_string());
    let text = match args.ids {
        Some(_) => String::new(),
        None => args.prompt.read()?.context("give a text with -p, -f, on standard input, or --ids")?,
    };
    let path = hub::resolve(&model)?;
    let mut loaded = Loaded::open(&path, &options, cache_options)?;
    let ids = match args.ids {
        Some(TokenIds(ids)) => ids,
        None => {
            let encode = EncodeOptions { add_special: !args.no_bos, parse_special: !args.no_special };
            loaded.tokenizer.encode(&text, encode)?
        }
    };
    let n_rows = args.last.map_or(ids.len(), |last| last as usize);
    if n_rows > ids.len() {
        bail!("--last {n_rows} of a text with {} tokens", ids.len());
    }
    interrupt::listen(interrupt::Second::Ends);
    let Some(n_vocab) = write(&mut loaded, &options, &ids, n_rows, &args.output)? else {
        return Ok(Outcome::Interrupted);
    };
    note(&format!("{}: float32 [{n_rows}, {n_vocab}]", args.output.display()));
    Ok(Outcome::Done)
}

/// Writes the rows after the last `n_rows` of `ids`; the file appears whole or not at all. Returns the length of a row,
/// or `None` after Ctrl-C.
fn write(
    loaded: &mut Loaded,
    options: &EngineOptions,
    ids: &[u32],
    n_rows: usize,
    path: &Path,
) -> Result<Option<usize>> {
    let n_ctx = loaded.cache.n_ctx();
    if ids.len() > n_ctx {
        return Err(RequestError::TooLong { n_prompt: ids.len(), n_ctx }.into());
    }
    let file = AtomicFile::create(path)?;
    let mut writer = BufWriter::new(file);
    let (before, wanted) = ids.split_at(ids.len() - n_rows);
    let bar = Prefill::start(ids.len());
    let mut sequence = loaded.cache.sequence();
    if !before.is_empty() {
        let mut progress = |progress: lossy_engine::Progress| {
            bar.set(progress.n_done, progress.share_of_pages_read);
            interrupt::go_on()
        };
        match loaded.engine.prefill(&mut sequence, before, &mut progress) {
            Err(RequestError::Stopped { .. }) => return Ok(None),
            result => result?,
        };
    }
    for tokens in wanted.chunks(ROWS_AT_ONCE.min(options.chunk)) {
        if interrupt::is_asked() {
            return Ok(None);
        }
        let item = BatchItem { sequence: &mut sequence, tokens, logits: Logits::All };
        let rows = loaded.engine.forward(&mut [item])?;
        for value in rows.into_values() {
            writer.write_all(&value.to_le_bytes()).context("writing the logits")?;
        }
        bar.set(sequence.len(), sequence.share_of_pages_read());
    }
    let file = writer.into_inner().map_err(|error| error.into_error()).context("writing the logits")?;
    file.commit()?;
    Ok(Some(loaded.engine.n_vocab()))
}
