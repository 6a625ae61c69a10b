//! `lossy quantize`

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, bail};
use clap::Args;
use lossy_compress::estimate::{self, Machine, Shapes};
use lossy_compress::imatrix::Imatrix;
use lossy_compress::quantize::{How, MomentsOf, Options, Plan, Planned, Provenance, QuantizeError, Written};
use lossy_compress::recipe::{Changes, NamedType, RECIPES, Recipe, dtype_named};
use lossy_compress::statistics::{MomentsByName, windows};
use lossy_engine::{ModelSource, Progress};
use lossy_formats::Escaped;
use lossy_quant::DType;

use crate::args::{CalibrationText, Threads};
use crate::loaded::{in_file, open};
use crate::observer::Bar;
use crate::outcome::Outcome;
use crate::output::Output;
use crate::terminal::note;
use crate::units::{bytes, grouped, parameters};
use crate::{estimated, hub, interrupt, new_model, usage_error};

/// Writes a model with its weights in fewer bits, as a GGUF file that llama.cpp reads too
///
/// TYPE is a recipe, in the names of llama.cpp and with its choices: q4_k_m gives most matrices 4 bits and some 6. Rows whose
/// length 256 does not divide cannot have K types; what they get instead is told, and --no-fallback makes it an error.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  lossy quantize model-f16.gguf model-q4_k_m.gguf q4_k_m --imatrix model.imatrix.gguf
  lossy quantize model-f16.gguf small.gguf q3_k_m --tensor-type 'ffn_down=q5_k' --dry-run")]
pub struct QuantizeArgs {
    /// GGUF file (of a split one any part), Hugging Face directory, user/repo:quant of the hub, or an alias
    #[arg(value_name = "MODEL")]
    model: String,

    /// The new file; it appears when it is whole
    #[arg(value_name = "OUT")]
    out: PathBuf,

    /// Recipe
    #[arg(value_name = "TYPE", value_parser = recipe, help = format!("Recipe: {}", recipe_names()))]
    recipe: Recipe,

    /// What the model's inputs look like: a file of llama-imatrix. Errors then count by the mean square of the input
    #[arg(long, value_name = "FILE")]
    imatrix: Option<PathBuf>,

    /// Carry the error of every column to the columns after it (GPTQ), so that outputs change least: the same types and bytes, a
    /// third less loss. Reads a text through the model; --imatrix is not needed then
    #[arg(long)]
    feedback: bool,

    #[command(flatten)]
    text: CalibrationText,

    /// Another type for the tensors whose names match a regular expression; the first that matches counts
    #[arg(long, value_name = "PATTERN=TYPE", value_parser = named_type)]
    tensor_type: Vec<NamedType>,

    /// Another type for the token embedding
    #[arg(long, value_name = "TYPE", value_parser = dtype)]
    token_embedding_type: Option<DType>,

    /// Another type for the output matrix
    #[arg(long, value_name = "TYPE", value_parser = dtype)]
    output_tensor_type: Option<DType>,

    /// The recipe's most frequent type for all matrices
    #[arg(long)]
    pure: bool,

    /// Only say what would be: types, bytes, bits, and, estimated, memory and time. Reads headers and no weights
    #[arg(long)]
    dry_run: bool,

    /// Fail if a row's length does not allow the type that it should have
    #[arg(long)]
    no_fallback: bool,

    /// As many files as MODEL has, named OUT-00001-of-00003.gguf and so on
    #[arg(long)]
    keep_split: bool,

    #[command(flatten)]
    threads: Threads,
}

fn recipe(name: &str) -> Result<Recipe, String> {
    Recipe::named(name).map_err(|error| error.to_string())
}

fn recipe_names() -> String {
    RECIPES.map(Recipe::name).join(", ")
}

fn dtype(name: &str) -> Result<DType, String> {
    dtype_named(name).map_err(|error| error.to_string())
}

fn named_type(text: &str) -> Result<NamedType, String> {
    NamedType::parse(text).map_err(|error| error.to_string())
}

/// Quantizes.
pub fn run(args: QuantizeArgs) -> Result<Outcome> {
    if args.text.is_given() && !args.feedback {
        return Err(usage_error("-f is the text of --feedback: give that too, or leave -f out").into());
    }
    let path = hub::resolve(&args.model)?;
    let model = new_model::as_gguf(open(&path)?, &path, (!args.dry_run).then_some(&args.out))?;
    let source = new_model::gguf_of(&model);
    let imatrix =
        args.imatrix.as_deref().map(|file| Imatrix::open(file).map_err(in_file(file))).transpose()?;
    let options = args.options(imatrix.as_ref());
    let plan = Plan::new(source, &options).map_err(in_file(&path))?;
    if let Some(imatrix) = &imatrix {
        imatrix.check(plan.weighted_matrices()).map_err(in_file(args.imatrix.as_deref().unwrap_or(&path)))?;
    }
    if args.no_fallback {
        refuse_fallbacks(&plan)?;
    }
    if args.dry_run {
        print(&args, &model, &plan)?;
        return Ok(Outcome::Done);
    }
    new_model::check(&args.out, plan.layout(), source, "MODEL", 0)?;
    let text = match args.feedback {
        true => {
            lossy_compress::network::check(&model).map_err(in_file(&path))?;
            Some(args.text.tokens(&model)?.tokens)
        }
        false => None,
    };
    let windows = text.as_deref().map(windows).transpose()?;
    interrupt::listen(interrupt::Second::Ends);
    plan.check_weights().map_err(in_file(&path))?;
    let mut moments = windows
        .map(|windows| MomentsByName::new(&model, &windows, args.threads.count()))
        .transpose()
        .map_err(in_file(&path))?;
    write(&args, &plan, imatrix.as_ref(), moments.as_mut())
}

impl QuantizeArgs {
    fn options(&self, imatrix: Option<&Imatrix>) -> Options {
        let file = self.imatrix.as_deref().unwrap_or(Path::new(""));
        Options {
            recipe: self.recipe,
            changes: Changes {
                is_pure: self.pure,
                token_embedding: self.token_embedding_type,
                output: self.output_tensor_type,
                by_name: self.tensor_type.clone(),
                has_imatrix: imatrix.is_some(),
            },
            keeps_split: self.keep_split,
            provenance: imatrix.map(|imatrix| Provenance::of(imatrix, file)),
            has_feedback: self.feedback,
            program: format!("lossy {}", env!("CARGO_PKG_VERSION")),
        }
    }
}

fn write(
    args: &QuantizeArgs,
    plan: &Plan<'_>,
    imatrix: Option<&Imatrix>,
    moments: Option<&mut MomentsByName<'_>>,
) -> Result<Outcome> {
    let start = Instant::now();
    let bar = Bar::start(&format!("quantizing to {}", args.recipe.name()), "Ctrl-C ends");
    let mut by_name = moments.map(|moments| |name: &str| moments.of(name));
    let mut how = How {
        imatrix,
        moments: by_name.as_mut().map(|of| of as &mut MomentsOf<'_>),
        n_threads: args.threads.count(),
        progress: &mut |n_done, n_total| bar.set(Progress::new(n_done as usize, n_total as usize)),
    };
    let written = plan.write(&args.out, &mut how);
    drop(bar);
    let written = match written {
        Err(QuantizeError::Stopped) => return Ok(Outcome::Interrupted),
        written => written?,
    };
    for line in remarks(plan, &written) {
        note(&line);
    }
    note(&format!("{}, in {:.1} s", summary(&args.out, plan), start.elapsed().as_secs_f64()));
    Ok(Outcome::Done)
}

fn fallbacks<'a, 'b>(plan: &'a Plan<'b>) -> impl Iterator<Item = (&'a Planned<'b>, DType)> {
    plan.tensors().iter().filter_map(|tensor| Some((tensor, tensor.choice.fallback_from?)))
}

fn refuse_fallbacks(plan: &Plan<'_>) -> Result<()> {
    let Some((first, wanted)) = fallbacks(plan).next() else { return Ok(()) };
    let n_cols = first.source.shape.last().copied().unwrap_or(1);
    bail!(
        "{} of {} tensors cannot have their type: {} has rows of {n_cols} values, which are not whole blocks of {} ({wanted}), and \
         would become {}. Without --no-fallback they do; --tensor-type chooses others",
        fallbacks(plan).count(),
        plan.tensors().len(),
        first.source.name,
        wanted.block_len(),
        first.choice.dtype
    )
}

/// `30 × Q4_K → Q5_0`, for all pairs.
fn fallbacks_by_type(plan: &Plan<'_>) -> String {
    let mut pairs = BTreeMap::new();
    for (tensor, wanted) in fallbacks(plan) {
        *pairs.entry((wanted, tensor.choice.dtype)).or_insert(0) += 1;
    }
    let pairs: Vec<String> = pairs.iter().map(|((from, to), n)| format!("{n} × {from} → {to}")).collect();
    pairs.join(", ")
}

/// What is not as one might think.
fn remarks(plan: &Plan<'_>, written: &Written) -> Vec<String> {
    let mut lines = Vec::new();
    let is_requantized = |tensor: &&Planned<'_>| {
        tensor.choice.is_quantized
            && tensor.source.dtype.block_len() > 1
            && tensor.source.dtype != tensor.choice.dtype
    };
    let n_requantized = plan.tensors().iter().filter(is_requantized).count();
    if n_requantized > 0 {
        lines.push(format!(
            "{n_requantized} matrices were quantized before, and were read as they are: both errors add up"
        ));
    }
    if written.n_copied > 0 {
        lines.push(format!("{} matrices had their type already, and were copied", written.n_copied));
    }
    let fallen = fallbacks_by_type(plan);
    if !fallen.is_empty() {
        lines.push(format!("rows are not whole blocks of the type that they should have: {fallen}"));
    }
    if !written.without_feedback.is_empty() {
        let names = Escaped(written.without_feedback.join(", ")).to_string();
        lines
            .push(format!("no error was carried on in {names}: the text says nothing of what they multiply"));
    }
    if !written.unseen.is_empty() {
        let names = Escaped(written.unseen.join(", ")).to_string();
        lines.push(format!("the imatrix saw no input of {names}: there all errors count the same"));
    }
    lines
}

fn summary(out: &Path, plan: &Plan<'_>) -> String {
    let layout = plan.layout();
    let files = match layout.n_parts() {
        1 => String::new(),
        n => format!(" in {n} files"),
    };
    format!(
        "{}: {}{files}, {:.2} bits a weight",
        out.display(),
        bytes(layout.file_bytes()),
        plan.bits_per_weight()
    )
}

/// The plan as a table.
fn print(args: &QuantizeArgs, model: &ModelSource, plan: &Plan<'_>) -> Result<()> {
    let mut out = Output::text();
    let widest = plan.tensors().iter().map(|tensor| tensor.source.name.len()).max().unwrap_or(0);
    for tensor in plan.tensors() {
        let source = &tensor.source;
        let shape: Vec<String> = source.shape.iter().map(usize::to_string).collect();
        let instead = match tensor.choice.fallback_from {
            Some(wanted) => format!("  instead of {wanted}"),
            None => String::new(),
        };
        writeln!(
            out,
            "{:widest$}  {:>14}  {:>6} → {:<6}  {:>14} bytes{instead}",
            source.name,
            shape.join(" × "),
            source.dtype.name(),
            tensor.choice.dtype.name(),
            grouped(tensor.bytes as u64)
        )?;
    }
    let mut by_type = BTreeMap::new();
    for tensor in plan.tensors() {
        let (n, values) = by_type.entry(tensor.choice.dtype).or_insert((0u64, 0u64));
        *n += 1;
        *values += tensor.source.n_values() as u64;
    }
    writeln!(out)?;
    for (dtype, (n, values)) in by_type {
        writeln!(out, "{:6}  {n:4} tensors  {:>9} weights", dtype.name(), parameters(values))?;
    }
    let fallen = fallbacks_by_type(plan);
    if !fallen.is_empty() {
        writeln!(out, "rows are not whole blocks of the type that they should have: {fallen}")?;
    }
    let n_bytes = plan.layout().file_bytes();
    writeln!(
        out,
        "the file: {} ({} bytes), {:.3} bits a weight",
        bytes(n_bytes),
        grouped(n_bytes),
        plan.bits_per_weight()
    )?;
    let is_rounded = |tensor: &&Planned<'_>| tensor.source.dtype != tensor.choice.dtype;
    let n_weights =
        plan.tensors().iter().filter(is_rounded).map(|tensor| tensor.source.n_values() as u64).sum();
    let n_tokens = args.feedback.then(|| args.text.n_tokens_about(model)).transpose()?;
    let machine = Machine::measure(args.threads.count());
    let stages = estimate::quantize(&Shapes::new(model.info()), n_weights, n_tokens, machine);
    estimated::print(&mut out, &stages, machine)
}
