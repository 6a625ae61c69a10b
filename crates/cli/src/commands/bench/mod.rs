//! `lossy bench`

mod cost;
mod format;
mod machine;
mod measure;
mod memory;
mod row;
pub mod statistics;
mod workload;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use lossy_engine::{Cache, CacheOptions, Engine, EngineOptions, KvScheme, ModelSource, PositionScheme};

use crate::args::{Activations, CacheArgs, CalibrationArgs, Listed, ModelArgs, UnreadArgs};
use crate::instructions;
use crate::loaded::{self, Loaded};
use crate::outcome::Outcome;
use crate::output::Output;
use crate::terminal::Spinner;
use crate::{hub, version};
use cost::ModelCost;
use format::{Format, Printer};
use measure::Bench;
use row::{Conditions, Memory, Row};
use workload::{DepthFill, Numbers, Pair, Workload};

/// Measures how fast a model runs, as llama-bench does
///
/// pp512 is a prompt of 512 tokens, of which the last one's logits are computed; tg128 is 128 tokens one by one. With
/// -d the cache holds that many tokens before, whose reading is not measured; --depth-fill copies saves most of it. Two
/// more columns say how much of the machine was used: of the read bandwidth and of the arithmetic peak, both measured first. Below
/// the table: the time to load the model, and the peak of resident memory (Linux) beside what the weights and the cache
/// need. Several KV schemes are measured in turns, so that what else the machine does meets all of them.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  lossy bench smollm2
  lossy bench -m model.gguf -p 512,2048 -n 128 -d 0,8192 -t 1,2 -r 5 -o jsonl
  lossy bench -p 0 -d 0,8192,32768 --depth-fill copies --positions linear --kv f16,q8,kivi2,k2v2

Numbers are lists (1,2,4) or ranges (first-last, first-last+step, first-last*factor).")]
pub struct BenchArgs {
    #[command(flatten)]
    model: ModelArgs,

    /// Prompts, in tokens; 0: none
    #[arg(short = 'p', long, value_name = "N", default_value = "512")]
    n_prompt: Numbers,

    /// Generations, in tokens; 0: none
    #[arg(short = 'n', long, value_name = "N", default_value = "128")]
    n_gen: Numbers,

    /// [-pg] A prompt and a generation after it, measured together; may be given several times
    #[arg(long, value_name = "PP,TG")]
    pg: Vec<Pair>,

    /// Context already in the cache, in tokens
    #[arg(short = 'd', long, value_name = "N", default_value = "0")]
    n_depth: Numbers,

    /// How to fill it
    #[arg(long, value_enum, default_value_t = DepthFill::Prefill)]
    depth_fill: DepthFill,

    /// Threads [default: the machine's cores]
    #[arg(short = 't', long, value_name = "N")]
    threads: Option<Numbers>,

    /// Tokens of a prompt that are processed at once
    #[arg(short = 'b', long, value_name = "N", default_value = "512")]
    batch_size: Numbers,

    /// How often each is measured
    #[arg(short = 'r', long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    repetitions: u32,

    /// Format of the table
    #[arg(short = 'o', long, value_enum, default_value_t = Format::Md)]
    output: Format,

    /// Activations
    #[arg(long, value_enum, default_value_t = Activations::Q8)]
    activations: Activations,

    /// How the KV cache is stored: one or several of f16, f32, q8, kivi2, k2v2, …, between commas, with parameters as in
    /// k2v2:sinks=8,residual=128 [default: f16, or f32 with --activations f32]
    #[arg(long, value_name = "SCHEME", env = "LOSSY_KV")]
    kv: Option<Listed<KvScheme>>,

    /// [-ctk] Type of the cached keys in llama.cpp's words; with -ctv: the same, or another of k2v2 to k4v4 [default: f16]
    #[arg(long, value_name = "TYPE", conflicts_with = "kv")]
    cache_type_k: Option<KvScheme>,

    /// [-ctv] Type of the cached values [default: f16]
    #[arg(long, value_name = "TYPE", conflicts_with = "kv")]
    cache_type_v: Option<KvScheme>,

    /// Position maps, between commas; each is measured with each KV scheme [default: auto]
    #[arg(long, value_name = "MAP")]
    positions: Option<Listed<PositionScheme>>,

    #[command(flatten)]
    calibration: CalibrationArgs,

    #[command(flatten)]
    unread: UnreadArgs,

    /// Measures the first run too
    #[arg(long)]
    no_warmup: bool,
}

/// The schemes to measure; none: the default.
fn schemes(args: &BenchArgs) -> Result<Vec<KvScheme>> {
    if let Some(Listed(schemes)) = &args.kv {
        return Ok(schemes.clone());
    }
    let (cache_type_k, cache_type_v) = (args.cache_type_k.clone(), args.cache_type_v.clone());
    let cache = CacheArgs { kv: None, cache_type_k, cache_type_v };
    Ok(cache.resolve()?.into_iter().collect())
}

/// Measures.
pub fn run(args: BenchArgs) -> Result<Outcome> {
    let schemes = schemes(&args)?;
    let workloads = workloads(&args);
    if workloads.is_empty() {
        return Err(crate::usage_error("nothing to measure: -p, -n and --pg are all 0").into());
    }
    let threads = match &args.threads {
        Some(Numbers(threads)) => threads.iter().map(|&n| Some(n)).collect(),
        None => vec![None],
    };
    if threads.contains(&Some(0)) || args.batch_size.0.contains(&0) {
        return Err(crate::usage_error("-t and -b are at least 1").into());
    }
    let model = args.model.name().unwrap_or_else(|| hub::DEFAULT_MODEL.to_string());
    let path = hub::resolve(&model)?;
    let source = loaded::open(&path)?;
    // Speed does not depend on what the model was trained for: `tg128 @ d8192` of a model trained on 8,192 is measured.
    let longest = workloads.iter().map(|workload| workload.n_tokens()).max().unwrap_or(0);
    let n_ctx = longest.max(source.info().n_ctx_train);
    let mut printer = Printer::new(args.output.out(), args.output);
    for &n_threads in &threads {
        for &chunk in &args.batch_size.0 {
            let options = EngineOptions {
                n_threads,
                isa: instructions::isa()?,
                activations: args.activations.into(),
                chunk,
                unread: args.unread.unread(),
                ..EngineOptions::default()
            };
            let cache_options = CacheOptions {
                n_ctx: Some(n_ctx),
                beyond_trained: true,
                calibration: args.calibration.options()?,
                ..CacheOptions::default()
            };
            let model = (&*path, &source);
            measure(&args, model, &options, &cache_options, &schemes, &workloads, &mut printer)?;
        }
    }
    printer.finish()?;
    Ok(Outcome::Done)
}

/// All workloads with some threads and chunks, in all schemes.
fn measure(
    args: &BenchArgs,
    (path, source): (&Path, &ModelSource),
    options: &EngineOptions,
    cache_options: &CacheOptions,
    schemes: &[KvScheme],
    workloads: &[Workload],
    printer: &mut Printer<Output>,
) -> Result<()> {
    memory::forget_peak();
    let start = Instant::now();
    let Loaded { mut engine, tokenizer, .. } = Loaded::open(path, options, cache_options.clone())?;
    let spinner = Spinner::start("measuring the machine");
    let default = [engine.exact_scheme()];
    let mut sequences = Vec::new();
    let mut caches = Vec::new();
    let schemes = if schemes.is_empty() { &default } else { schemes };
    let auto = [PositionScheme::auto()];
    let maps = args.positions.as_ref().map_or(&auto[..], |Listed(maps)| maps);
    for (scheme, map) in schemes.iter().flat_map(|scheme| maps.iter().map(move |map| (scheme, map))) {
        let cache_options =
            CacheOptions { kv: Some(scheme.clone()), positions: map.clone(), ..cache_options.clone() };
        let cache =
            loaded::make_cache(&mut engine, &cache_options, &spinner).map_err(loaded::in_file(path))?;
        sequences.push(cache.sequence());
        let conditions = conditions(args, path, &engine, &cache, start.elapsed());
        let cost = ModelCost::new(
            source.info(),
            is_tied(source),
            engine.weight_bytes(),
            cache.bytes_per_token(),
            options.chunk,
        );
        caches.push((conditions, cost));
    }
    let load_peak = memory::peak_bytes();
    let machine = machine::measure(engine.n_threads(), options.isa, options.activations);
    // It reads memory of its own, which is no part of what the model needs.
    memory::forget_peak();
    let mut bench = Bench::new(&mut engine, sequences, args.depth_fill);
    let mut last = Vec::new();
    for workload in workloads {
        spinner.say(&workload.to_string());
        let times = bench.measure(workload, args.repetitions as usize, !args.no_warmup)?;
        let peak_bytes = load_peak.max(memory::peak_bytes());
        last.clear();
        for (((conditions, cost), times), kv_bytes) in caches.iter().zip(times).zip(bench.kv_bytes()) {
            let memory = Memory { kv_bytes, scratch_bytes: bench.scratch_bytes(), peak_bytes };
            let row = Row::new(conditions, machine, workload, cost.of(workload), memory, &times);
            spinner.hide(|| printer.row(&row))?;
            last.push(row);
        }
    }
    // The peak only rises, so the last rows have the highest.
    printer.end_cache(&last);
    // Whoever runs a model also has its tokenizer in memory.
    drop(tokenizer);
    Ok(())
}

/// In llama-bench's order: prompts, generations, both; the depth changes slowest, so that a cache is filled once.
fn workloads(args: &BenchArgs) -> Vec<Workload> {
    let at_depth = |n_depth: usize| {
        let prompts = args.n_prompt.0.iter().map(move |&n_prompt| Workload { n_prompt, n_gen: 0, n_depth });
        let generations = args.n_gen.0.iter().map(move |&n_gen| Workload { n_prompt: 0, n_gen, n_depth });
        let both =
            args.pg.iter().map(move |pair| Workload { n_prompt: pair.n_prompt, n_gen: pair.n_gen, n_depth });
        prompts.chain(generations).chain(both).filter(|workload| workload.n_measured() > 0)
    };
    args.n_depth.0.iter().copied().flat_map(at_depth).collect()
}

/// Whether the head is the table of embeddings.
fn is_tied(source: &ModelSource) -> bool {
    match (source.gguf(), source.hf()) {
        (Some(gguf), _) => gguf.tensor("output.weight").is_none(),
        (_, Some(dir)) => dir.tensor("lm_head.weight").is_none(),
        (None, None) => false,
    }
}

fn conditions(
    args: &BenchArgs,
    path: &Path,
    engine: &Engine,
    cache: &Cache,
    load_time: Duration,
) -> Conditions {
    let info = engine.info();
    let kv_type = cache.kv().to_string();
    Conditions {
        build_version: version::short(),
        model_filename: path.display().to_string(),
        model_type: format!("{} {}", info.name.as_deref().unwrap_or(&info.architecture), info.weight_type),
        model_size: info.tensor_bytes,
        model_n_params: info.n_params,
        backends: "CPU",
        cpu_isa: engine.isa().name(),
        activations: engine.activations().name().to_string(),
        n_batch: engine.chunk(),
        n_threads: engine.n_threads(),
        load_ns: load_time.as_nanos() as u64,
        weight_bytes: engine.weight_bytes(),
        type_k: kv_type.clone(),
        type_v: kv_type,
        positions: cache.positions().scheme().to_string(),
        depth_fill: args.depth_fill,
    }
}
