//! `lossy imatrix`

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;
use lossy_compress::imatrix::Imatrix;
use lossy_compress::network::check;
use lossy_compress::statistics::{Collection, StatisticsOptions, WINDOW, windows};
use lossy_engine::Progress;
use lossy_formats::AtomicFile;

use crate::args::{CalibrationText, Threads};
use crate::loaded::{in_file, open};
use crate::observer::Bar;
use crate::outcome::Outcome;
use crate::terminal::note;
use crate::{hub, interrupt};

/// Writes the importances of a model's weights: the mean square of what each matrix multiplies
///
/// The file has the layout of llama-imatrix, and `lossy quantize --imatrix` and llama-quantize read it. The model is computed in
/// float32, one layer of weights at a time.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  lossy imatrix model-f16.gguf -o model.imatrix.gguf
  lossy imatrix model-f16.gguf -o model.imatrix.gguf -f letters.txt -f code.rs")]
pub struct ImatrixArgs {
    /// GGUF file, Hugging Face directory, user/repo:quant of the hub, or an alias
    #[arg(value_name = "MODEL")]
    model: String,

    /// The new file; it appears when it is whole
    #[arg(short = 'o', long, value_name = "OUT")]
    output: PathBuf,

    #[command(flatten)]
    text: CalibrationText,

    #[command(flatten)]
    threads: Threads,
}

/// Collects.
pub fn run(args: ImatrixArgs) -> Result<Outcome> {
    let path = hub::resolve(&args.model)?;
    let source = open(&path)?;
    check(&source).map_err(in_file(&path))?;
    AtomicFile::check(&args.output)?;
    let text = args.text.tokens(&source)?;
    let windows = windows(&text.tokens)?;
    interrupt::listen(interrupt::Second::Ends);
    let start = Instant::now();
    let options = StatisticsOptions { moments: false, n_threads: args.threads.count() };
    let bar = Bar::start(&format!("reading {} tokens", windows.len() * WINDOW), "Ctrl-C ends");
    let mut collection = Collection::new(&source, &windows, options).map_err(in_file(&path))?;
    let n_total = collection.n_layers();
    let mut imatrix = Imatrix {
        datasets: text.names,
        chunk_count: windows.len() as u32,
        chunk_size: WINDOW as u32,
        ..Imatrix::default()
    };
    while let Some(layer) = collection.next_layer().map_err(in_file(&path))? {
        let n_done = layer.layer + 1;
        imatrix.entries.extend(layer.matrices.into_iter().map(|matrix| matrix.into_entry()));
        if bar.set(Progress::new(n_done, n_total)).is_break() {
            return Ok(Outcome::Interrupted);
        }
    }
    drop(bar);
    imatrix.write(&args.output).with_context(|| format!("{}", args.output.display()))?;
    note(&format!(
        "{}: importances of {} matrices, from {} tokens, in {:.1} s",
        args.output.display(),
        imatrix.entries.len(),
        windows.len() * WINDOW,
        start.elapsed().as_secs_f64()
    ));
    Ok(Outcome::Done)
}
