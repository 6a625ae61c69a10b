//! `lossy prune`

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use clap::{ArgGroup, Args};
use lossy_compress::calibration::Split;
use lossy_compress::network::check;
use lossy_compress::prune::steps::{Event, Share, Texts, narrow_mlps, remove_layers};
use lossy_compress::prune::write::{Plan, Provenance};
use lossy_compress::prune::{PruneError, Pruned};
use lossy_compress::recipe::dtype_named;
use lossy_engine::Progress;
use lossy_kernels::{Compute, Isa};
use lossy_quant::DType;

use crate::args::{CalibrationText, Threads};
use crate::loaded::{in_file, open};
use crate::observer::Bar;
use crate::outcome::Outcome;
use crate::terminal::note;
use crate::units::{bytes, grouped, parameters};
use crate::{hub, interrupt, new_model};

/// Leaves out layers, or channels of the MLPs, that predictions need least, and says what each step loses
///
/// Losses are the KL divergence from MODEL, in nats. Layers are chosen by measuring the model without each of them; MLP channels by what
/// is left after the others made up for them. Fewer bits lose far less for the same bytes: prune for speed, or when bits are used up.
#[derive(Args, Debug)]
#[command(group = ArgGroup::new("what").required(true).multiple(true))]
#[command(after_help = "Examples:
  lossy prune model-f16.gguf smaller.gguf --layers 2
  lossy prune model-f16.gguf smaller.gguf --mlp 10%
  lossy prune model-f16.gguf smaller.gguf --max-loss kl=0.2")]
pub struct PruneArgs {
    /// GGUF file, Hugging Face directory, user/repo:quant of the hub, or an alias
    #[arg(value_name = "MODEL")]
    model: String,

    /// The new file; it appears when it is whole
    #[arg(value_name = "OUT")]
    out: PathBuf,

    /// Leaves out the N layers that cost least, one after another
    #[arg(long, value_name = "N", group = "what", conflicts_with = "prune_layers")]
    layers: Option<usize>,

    /// Leaves out these layers, counted from 0
    #[arg(long, value_name = "LIST", group = "what", value_delimiter = ',', conflicts_with = "max_loss")]
    prune_layers: Vec<usize>,

    /// Leaves out a share of the channels of every MLP, such as 10%, after layers
    #[arg(long, value_name = "SHARE", group = "what", value_parser = share)]
    mlp: Option<f64>,

    /// The most that may be lost, kl=N: fewer layers or channels than asked for, or, alone, as many layers as that allows. Measured
    /// on text that chose nothing
    #[arg(long, value_name = "BUDGET", group = "what", value_parser = max_kl)]
    max_loss: Option<f64>,

    /// Another type for the MLPs' down matrices, which are refitted and so encoded again [default: their own]
    #[arg(long, value_name = "TYPE", requires = "mlp", value_parser = dtype)]
    down_type: Option<DType>,

    #[command(flatten)]
    text: CalibrationText,

    #[command(flatten)]
    threads: Threads,
}

fn share(text: &str) -> Result<f64, String> {
    let percent = text.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
    match percent {
        Some(percent) if (0.0..100.0).contains(&percent) => Ok(percent / 100.0),
        _ => Err("expected a share from 0% to below 100%, such as 10%".to_string()),
    }
}

fn max_kl(text: &str) -> Result<f64, String> {
    let limit = text.strip_prefix("kl=").and_then(|number| number.parse::<f64>().ok());
    match limit {
        Some(limit) if limit.is_finite() && limit > 0.0 => Ok(limit),
        _ => Err("expected kl=N, a mean divergence in nats above 0, such as kl=0.2".to_string()),
    }
}

fn dtype(name: &str) -> Result<DType, String> {
    dtype_named(name).map_err(|error| error.to_string())
}

/// Prunes.
pub fn run(args: PruneArgs) -> Result<Outcome> {
    let path = hub::resolve(&args.model)?;
    let source = new_model::as_gguf(open(&path)?, &path, Some(&args.out))?;
    let file = new_model::gguf_of(&source);
    check(&source).map_err(in_file(&path))?;
    let whole = Pruned::new(&source);
    let before = Plan::new(&whole, Provenance::default())?;
    new_model::check(&args.out, before.layout(), file, "MODEL", 0)?;
    let text = args.text.tokens(&source)?;
    let split = Split::of(&text.tokens)?;
    let mut texts = Texts::new(&source, &split);
    interrupt::listen(interrupt::Second::Ends);
    let start = Instant::now();
    let mut model = whole.clone();
    let kl = match args.prune(&mut model, &mut texts) {
        Err(PruneError::Stopped) => return Ok(Outcome::Interrupted),
        kl => kl.map_err(in_file(&path))?,
    };
    let plan = Plan::new(&model, Provenance { kl })?;
    plan.write(&args.out)?;
    if let Some(mlps) = model.mlps() {
        let mut types: Vec<&str> = mlps.iter().map(|mlp| mlp.dtype.name()).collect();
        types.sort_unstable();
        types.dedup();
        note(&format!(
            "down matrices were refitted and encoded again ({}); all other weights are copies, bit for bit",
            types.join(", ")
        ));
    }
    let [old, new] = [&before, &plan].map(Plan::bytes_per_token);
    note(&format!(
        "{}: {} instead of {}, {} parameters instead of {}; a token reads {} instead of {}, and takes about {:.0} % of the time; {}in {:.1} s",
        args.out.display(),
        bytes(plan.layout().file_bytes()),
        bytes(file.file_bytes()),
        parameters(plan.n_params()),
        parameters(before.n_params()),
        bytes(new),
        bytes(old),
        100.0 * new as f64 / old as f64,
        kl.map_or(String::new(), |kl| format!(
            "KL {kl:.4} on {} tokens that chose nothing; ",
            grouped(texts.n_tokens().1 as u64)
        )),
        start.elapsed().as_secs_f64()
    ));
    Ok(Outcome::Done)
}

impl PruneArgs {
    /// The loss on text that chose nothing, if anything was left out.
    fn prune(&self, model: &mut Pruned<'_>, texts: &mut Texts<'_>) -> Result<Option<f64>, PruneError> {
        let cx = Compute::with_isa(self.threads.count(), Isa::best());
        let mut kl = None;
        if !self.prune_layers.is_empty() {
            model.remove(&self.prune_layers)?;
            let found = texts.divergence(&cx, model)?;
            note(&format!("without layers {}: KL {found:.4}", listed(&self.prune_layers)));
            kl = Some(found);
        }
        let alone = self.max_loss.is_some() && self.mlp.is_none();
        let n = self.layers.or_else(|| alone.then(|| model.layers().len() - 1));
        if let Some(n) = n.filter(|n| *n > 0) {
            let bar = Bar::start("looking for the layer that costs least", "Ctrl-C ends, and writes nothing");
            let removed = remove_layers(&cx, model, n, self.max_loss, texts, &mut |event| see(&bar, event))?;
            kl = removed.last().map(|removal| removal.held_out);
        }
        if let Some(share) = self.mlp {
            let bar = Bar::start("refitting MLPs", "Ctrl-C ends, and writes nothing");
            let how = Share { share, dtype: self.down_type, n_threads: self.threads.count() };
            let found = narrow_mlps(&cx, model, how, self.max_loss, texts, &mut |event| see(&bar, event))?;
            kl = found.or(kl);
        }
        Ok(kl)
    }
}

/// `3, 7`
pub fn listed(layers: &[usize]) -> String {
    layers.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
}

/// Shows what happens.
pub fn see(bar: &Bar, event: Event) -> ControlFlow<()> {
    match event {
        Event::Progress(n_done, n_total) => return bar.set(Progress::new(n_done, n_total)),
        Event::Removed(found) => bar.note(&format!(
            "layer {} goes: KL {:.4} ({:.4} on the text that it was chosen on)",
            found.layer, found.held_out, found.chosen
        )),
        Event::TooDear(found) => bar.note(&format!(
            "layer {} would be next, and stays: KL {:.4} without it",
            found.layer, found.held_out
        )),
        Event::Width { width, kl } => bar.note(&format!("MLPs of {width} channels: KL {kl:.4}")),
    }
    interrupt::go_on()
}
