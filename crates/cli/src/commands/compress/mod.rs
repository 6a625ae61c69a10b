//! `lossy compress`

mod budget;
mod card;
mod faster;
mod job;
mod measured;
mod outputs;
mod picture;
mod rounds;
mod speed;
mod teach;
#[cfg(test)]
mod tests;

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{ArgGroup, Args};
use lossy_compress::estimate::{self, Machine, Shapes};
use lossy_compress::kept::{JobKey, Kept, short_hash};
use lossy_compress::network::check;
use lossy_compress::prices::{Parted, part, priced_matrices};
use lossy_engine::{KvScheme, ModelSource};
use lossy_eval::Budget;
use lossy_formats::AtomicFile;
use lossy_quant::DType;

use self::budget::{Allowance, Choices, Types};
use self::faster::{Found, Look};
use self::job::Job;
use crate::args::{CalibrationText, Threads};
use crate::commands::measure::N_SCORED;
use crate::loaded::{in_file, open};
use crate::outcome::Outcome;
use crate::output::Output;
use crate::terminal::note;
use crate::training::{Amount, minutes, positive};
use crate::units::{bytes, grouped, parse_bytes};
use crate::{estimated, hub, interrupt, new_model, version};

/// Makes the smallest file within a budget, or the best of a size or a speed, and measures what it loses
///
/// Types are chosen tensor by tensor by what each loses, and weights are rounded with error feedback. The new file is an ordinary
/// GGUF that llama.cpp runs too. Beside it are OUT.md, a model card with a picture (OUT.svg), and OUT.json, with all figures; `lossy
/// measure OUT --reference-model MODEL` gives the same ones.
#[derive(Args, Debug)]
#[command(group(ArgGroup::new("budget").required(true).multiple(true).args(["max_size", "max_bits", "max_loss", "min_speed"])), after_help = "Examples:
  lossy compress model-f16.gguf -o small.gguf --max-size 70M
  lossy compress model-f16.gguf -o small.gguf --max-bits 3.5 --minutes 20
  lossy compress model-f16.gguf -o small.gguf --max-loss kl=0.05 --kv k2v2
  lossy compress model-f16.gguf -o small.gguf --min-speed 80")]
pub struct CompressArgs {
    /// GGUF file (of a split one any part), Hugging Face directory, user/repo:quant of the hub, or an alias
    #[arg(value_name = "MODEL")]
    model: String,

    /// The new file; it appears when it is whole
    #[arg(short = 'o', long, value_name = "OUT")]
    output: PathBuf,

    /// Most bytes of the file, such as 70M or 1.5GiB; units are binary
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes, conflicts_with_all = ["max_bits", "max_loss"])]
    max_size: Option<usize>,

    /// Most bits for each weight, all tensors together
    #[arg(long, value_name = "BITS", value_parser = bits, conflicts_with = "max_loss")]
    max_bits: Option<f64>,

    /// Most loss: kl=N, nats beside MODEL on the bundled text, with one standard error added
    #[arg(long, value_name = "BUDGET", value_parser = kl_budget)]
    max_loss: Option<Budget>,

    /// Fewest tokens that OUT decodes in a second, one after another on this machine with --threads: measured, beside MODEL. Fewer bits
    /// come first; layers are left out only where the smallest types are too slow, and the report says which. Alone, or with --max-size,
    /// --max-bits or --max-loss
    #[arg(long, value_name = "N", value_parser = tokens_per_second)]
    min_speed: Option<f64>,

    /// How keys and values will be stored, such as k2v2: its loss counts too, and both are in the report
    #[arg(long, value_name = "SCHEME")]
    kv: Option<KvScheme>,

    /// As many files as MODEL has, named OUT-00001-of-00003.gguf and so on
    #[arg(long)]
    keep_split: bool,

    #[command(flatten)]
    text: CalibrationText,

    /// Trains norms, biases and the scales of blocks for about so long when the types are chosen, as `lossy distill` does; 0: not at all.
    /// How many steps fit depends on the machine: --steps makes the same file everywhere
    #[arg(long, value_name = "N", default_value_t = 0.0, value_parser = minutes_or_none, conflicts_with = "steps")]
    minutes: f64,

    /// Trains so many steps of 1,024 tokens instead
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    steps: Option<u32>,

    /// Goes on with what an ended run has left in OUT.partial; the file is the same
    #[arg(long)]
    resume: bool,

    /// Only say between which sizes the file can be, and what memory and time making it would take, estimated. Reads headers and no weights; which types pay is
    /// known only when the weights were read
    #[arg(long)]
    dry_run: bool,

    #[command(flatten)]
    threads: Threads,
}

fn minutes_or_none(text: &str) -> Result<f64, String> {
    if text.parse() == Ok(0.0) { Ok(0.0) } else { minutes(text) }
}

fn bits(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(bits) if (0.0..=32.0).contains(&bits) => Ok(bits),
        _ => Err("expected bits for each weight, such as 4.5".to_string()),
    }
}

fn tokens_per_second(text: &str) -> Result<f64, String> {
    positive(text, "tokens a second", 1e9)
}

fn kl_budget(text: &str) -> Result<Budget, String> {
    let budget: Budget = text.parse()?;
    match kl_of(&budget) {
        Some(kl) if kl > 0.0 => Ok(budget),
        _ => Err("types are planned by KL: expected kl=N with N above 0, such as kl=0.05".to_string()),
    }
}

fn kl_of(budget: &Budget) -> Option<f64> {
    budget.to_string().strip_prefix("kl=")?.parse().ok()
}

/// Compresses.
pub fn run(args: CompressArgs) -> Result<Outcome> {
    let path = hub::resolve(&args.model)?;
    let source = new_model::as_gguf(open(&path)?, &path, (!args.dry_run).then_some(&args.output))?;
    let gguf = new_model::gguf_of(&source);
    check(&source).map_err(in_file(&path))?;
    let choices = Choices {
        source: gguf,
        keeps_split: args.keep_split,
        types: priced_matrices(&source).map_err(in_file(&path))?,
    };
    if let Some(allowed) = args.allowance() {
        choices.check(&allowed)?;
    }
    let largest = choices.plan(&Types::new())?;
    let folder = partial_folder(&args.output);
    if args.dry_run {
        dry_run(&args, &source, &choices, &folder)?;
        return Ok(Outcome::Done);
    }
    // The candidate that is measured lies beside the pieces, a trained one too, what is left without some layers, and so does OUT in
    // the end.
    let n_more = 1 + u64::from(args.training().is_some()) + u64::from(args.min_speed.is_some());
    let more = choices.piece_bytes() + n_more * largest.layout().file_bytes();
    new_model::check(&args.output, largest.layout(), gguf, "MODEL", more)?;
    for extension in ["md", "json", "svg"] {
        AtomicFile::check(&with_extension(&args.output, extension))?;
    }
    let text = args.text.tokens(&source)?;
    let parted = part(&text.tokens)?;
    interrupt::listen(interrupt::Second::Ends);
    largest.check_weights().map_err(in_file(&path))?;
    let key = JobKey {
        model: source.fingerprint().to_string(),
        text: JobKey::hash_of(&text.tokens),
        program: format!("lossy {}", version::short()),
    };
    let (kept, is_resumed) = Kept::open(&folder, &key, args.resume)?;
    if args.resume && !is_resumed {
        note(&format!("{} is not there: beginning anew", folder.display()));
    }
    let look = Look {
        args: &args,
        path: &path,
        source: &source,
        choices: &choices,
        kept: &kept,
        text: &text,
        clock: &speed::times,
    };
    match look.run(&parted, &key) {
        Ok(Outcome::Done) => {
            kept.remove()?;
            Ok(Outcome::Done)
        }
        ended if kept.is_empty() => {
            kept.remove()?;
            ended
        }
        ended => {
            note(&format!("what is finished is kept in {}: --resume goes on with it", folder.display()));
            ended
        }
    }
}

impl Look<'_> {
    /// Makes OUT; where a speed is wanted, of what is left of the layers.
    fn run(&self, parted: &Parted<'_>, key: &JobKey) -> Result<Outcome> {
        let Look { args, path, source, choices, kept, text, clock } = *self;
        let allowed = args.allowance();
        let job = Job { args, path, original: source, source, choices, kept, parted, goal: None, clock };
        let Some(wanted) = args.min_speed else { return job.run(allowed.as_ref(), text) };
        let Some(Found { goal, pruned }) = self.find(wanted, allowed.as_ref())? else {
            return Ok(Outcome::Interrupted);
        };
        let Some(pruned) = pruned else {
            return Job { goal: Some(goal), ..job }.run(allowed.as_ref(), text);
        };
        // Its pieces are those of another model.
        let gone = goal.gone.as_ref().map_or(String::new(), |gone| gone.listed());
        let key = JobKey { model: pruned.fingerprint().to_string(), ..key.clone() };
        let (kept, _) = Kept::open(&kept.path(&format!("pruned.{}", short_hash(&gone))), &key, true)?;
        let choices = Choices {
            source: new_model::gguf_of(&pruned),
            keeps_split: false,
            types: priced_matrices(&pruned).map_err(in_file(path))?,
        };
        Job { source: &pruned, choices: &choices, kept: &kept, goal: Some(goal), ..job }
            .run(allowed.as_ref(), text)
    }
}

impl CompressArgs {
    /// How long is trained, if at all.
    fn training(&self) -> Option<Amount> {
        let minutes = Some(self.minutes).filter(|minutes| *minutes > 0.0).map(Amount::Minutes);
        self.steps.map(|n| Amount::Steps(n as usize)).or(minutes)
    }

    fn allowance(&self) -> Option<Allowance> {
        let size = self.max_size.map(|size| Allowance::Size(size as u64));
        let loss = self.max_loss.clone().map(Allowance::Loss);
        size.or(self.max_bits.map(Allowance::Bits)).or(loss)
    }

    /// The limits, as they were typed.
    fn limits(&self) -> String {
        let allowed = self.allowance().map(|allowed| allowed.option());
        let speed = self.min_speed.map(|speed| format!("--min-speed {speed}"));
        allowed.into_iter().chain(speed).collect::<Vec<_>>().join(" ")
    }
}

/// `small.gguf.partial` beside `small.gguf`.
fn partial_folder(out: &Path) -> PathBuf {
    with_extension(out, "partial")
}

/// `small.gguf.md` of `small.gguf`.
fn with_extension(out: &Path, extension: &str) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(format!(".{extension}"));
    name.into()
}

fn dry_run(args: &CompressArgs, source: &ModelSource, choices: &Choices<'_>, folder: &Path) -> Result<()> {
    let mut out = Output::text();
    for (name, types) in &choices.types {
        let list: Vec<&str> = types.iter().map(|dtype| dtype.name()).collect();
        writeln!(out, "{name:32}  {}", list.join(" "))?;
    }
    writeln!(out)?;
    for (what, types) in [("smallest types", choices.smallest()), ("MODEL's own types", Types::new())] {
        let plan = choices.plan(&types)?;
        let n = plan.layout().file_bytes();
        let bits = plan.bits_per_weight();
        writeln!(out, "{what}: {} ({} bytes), {bits:.3} bits a weight", bytes(n), grouped(n))?;
    }
    writeln!(
        out,
        "{} is between these. Which types pay is known when all weights and the calibration text were read; meanwhile \
         {} takes up to {}",
        args.limits(),
        folder.display(),
        bytes(choices.piece_bytes())
    )?;
    if args.min_speed.is_some() {
        writeln!(
            out,
            "How fast MODEL and its smallest types decode is measured when it begins. If layers have to go, finding them takes time \
             beside what is estimated here, and the file can be smaller."
        )?;
    }
    let matrices: Vec<(u64, Vec<DType>)> = choices
        .types
        .iter()
        .map(|(name, types)| (choices.source.tensor(name).map_or(0, |t| t.n_values() as u64), types.clone()))
        .collect();
    let work = estimate::Compress {
        matrices: &matrices,
        model_bytes: choices.source.file_bytes(),
        file_bytes: choices.plan(&Types::new())?.layout().file_bytes(),
        n_tokens: args.text.n_tokens_about(source)?,
        // As many tokens come before those that are predicted.
        n_measured: 2 * N_SCORED as u64,
        training: args.training().map(|amount| match amount {
            Amount::Minutes(minutes) => estimate::Training::Seconds(60.0 * minutes),
            Amount::Steps(n) => estimate::Training::Steps(n as u64),
        }),
    };
    let machine = Machine::measure(args.threads.count());
    estimated::print(&mut out, &work.stages(&Shapes::new(source.info()), machine), machine)
}
