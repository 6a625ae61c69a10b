//! How the model is run.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use lossy_engine::{ActivationKind, EngineOptions, KvScheme, KvSchemeError, PositionError, PositionScheme};

use crate::units::parse_bytes;

/// Context, threads, precision.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Running")]
pub struct EngineArgs {
    /// Context in tokens; 0: what the model was trained with. Beyond that --positions says how
    #[arg(short = 'c', long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1 << 27))]
    pub ctx_size: u32,

    /// Threads [default: the machine's cores]
    #[arg(short = 't', long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,

    /// Tokens of the prompt that are processed at once
    #[arg(short = 'b', long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    pub batch_size: u32,

    /// Activations: q8 is fast, f32 is exact (and has an f32 cache)
    #[arg(long, value_enum, default_value_t = Activations::Q8)]
    pub activations: Activations,

    #[command(flatten)]
    pub cache: CacheArgs,

    #[command(flatten)]
    pub calibration: CalibrationArgs,

    #[command(flatten)]
    pub positions: PositionArgs,

    /// Keeps the prompt's keys and values exact until the prompt has been read: less loss, more memory meanwhile
    #[arg(long)]
    pub exact_prefill: bool,

    /// Most memory that the KV cache may take, such as 512M or 2G [default: no limit]
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    pub kv_budget: Option<usize>,
}

/// How keys and values are stored.
#[derive(Args, Clone, Debug)]
pub struct CacheArgs {
    /// How the KV cache is stored: f16, f32, k2v2, k3v3, k4v4, …, with parameters as in k2v2:sinks=8,residual=128
    /// [default: f16, or f32 with --activations f32]
    #[arg(long, value_name = "SCHEME", env = "LOSSY_KV", value_parser = parse_scheme)]
    pub kv: Option<KvScheme>,

    /// [-ctk] The same in llama.cpp's words; keys and values are named apart, and alike for now
    #[arg(long, value_name = "TYPE", conflicts_with = "kv", value_parser = parse_scheme)]
    pub cache_type_k: Option<KvScheme>,

    /// [-ctv] Type of the cached values; the same as that of the keys
    #[arg(long, value_name = "TYPE", conflicts_with = "kv", value_parser = parse_scheme)]
    pub cache_type_v: Option<KvScheme>,
}

/// What calibrated KV schemes are calibrated on.
#[derive(Args, Clone, Debug)]
pub struct CalibrationArgs {
    /// Calibrates KV schemes that need it on this text, such as your own kind of documents, instead of the bundled one.
    /// The statistics are kept for the next time
    #[arg(long, value_name = "FILE")]
    pub calibrate: Option<PathBuf>,
}

impl CalibrationArgs {
    /// The text, if a file is named.
    ///
    /// # Errors
    /// It cannot be read, or is no UTF-8.
    pub fn text(&self) -> Result<Option<Arc<str>>> {
        let Some(path) = &self.calibrate else { return Ok(None) };
        let text =
            std::fs::read_to_string(path).with_context(|| format!("--calibrate {}", path.display()))?;
        Ok(Some(text.into()))
    }
}

/// How far apart tokens are for the model.
#[derive(Args, Clone, Debug)]
pub struct PositionArgs {
    /// How a context beyond the trained one is told to the model: adaptive, self-extend, dca, yarn, ntk, with parameters as
    /// in self-extend:group=8,window=1024 [default: auto: the model's own as far as it was trained, adaptive beyond]
    #[arg(long, value_name = "MAP", env = "LOSSY_POSITIONS", value_parser = parse_positions)]
    pub positions: Option<PositionScheme>,

    /// [-gan] Self-Extend: tokens that share a position; 1: none
    #[arg(long, value_name = "N", conflicts_with_all = ["positions", "rope_scaling"])]
    pub grp_attn_n: Option<usize>,

    /// [-gaw] Self-Extend: neighbours that keep their distances, tokens
    #[arg(long, value_name = "N", requires = "grp_attn_n")]
    pub grp_attn_w: Option<usize>,

    /// Scales the model's rotation for the whole context
    #[arg(long, value_enum, value_name = "METHOD", conflicts_with = "positions")]
    pub rope_scaling: Option<RopeScalingArg>,
}

/// `--rope-scaling`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RopeScalingArg {
    /// the model's own
    None,
    /// YaRN, as much as the context needs
    Yarn,
}

fn parse_positions(text: &str) -> Result<PositionScheme, String> {
    text.parse().map_err(|error: PositionError| error.to_string())
}

impl PositionArgs {
    /// The positions that are named, or those that suit the context.
    pub fn resolve(&self) -> Result<PositionScheme, clap::Error> {
        let usage = |error: PositionError| crate::usage_error(error.to_string());
        match (self.positions, self.grp_attn_n, self.rope_scaling) {
            (Some(positions), ..) => Ok(positions),
            (_, Some(0), _) => Err(crate::usage_error("--grp-attn-n is at least 1")),
            (_, Some(1), _) => Ok(PositionScheme::Linear),
            (_, Some(group), _) => {
                let scheme = PositionScheme::SelfExtend { group: Some(group), window: self.grp_attn_w };
                scheme.to_string().parse().map_err(usage)
            }
            (_, _, Some(RopeScalingArg::Yarn)) => Ok(PositionScheme::Yarn { factor: None }),
            (_, _, Some(RopeScalingArg::None)) => Ok(PositionScheme::Linear),
            (None, None, None) => Ok(PositionScheme::Auto),
        }
    }
}

fn parse_scheme(text: &str) -> Result<KvScheme, String> {
    text.parse().map_err(|error: KvSchemeError| error.to_string())
}

/// `--activations`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Activations {
    /// float32, exact
    F32,
    /// int8 in blocks of 32
    Q8,
}

impl Activations {
    /// Its name in flags and reports.
    pub fn name(self) -> &'static str {
        match self {
            Activations::F32 => "f32",
            Activations::Q8 => "q8",
        }
    }
}

impl From<Activations> for ActivationKind {
    fn from(activations: Activations) -> ActivationKind {
        match activations {
            Activations::F32 => ActivationKind::F32,
            Activations::Q8 => ActivationKind::Q8,
        }
    }
}

impl CacheArgs {
    /// The scheme, if one is named.
    pub fn resolve(&self) -> Result<Option<KvScheme>, clap::Error> {
        match (&self.cache_type_k, &self.cache_type_v) {
            (Some(k), Some(v)) if k != v => Err(crate::usage_error(format!(
                "--cache-type-k {k} with --cache-type-v {v}: a mixture has a name of its own, such as --kv k4v2"
            ))),
            (k, v) => Ok(self.kv.as_ref().or(k.as_ref()).or(v.as_ref()).cloned()),
        }
    }
}

impl EngineArgs {
    /// As the engine wants it.
    pub fn options(&self) -> Result<EngineOptions, clap::Error> {
        Ok(EngineOptions {
            n_threads: self.threads.map(usize::from),
            activations: self.activations.into(),
            kv: self.cache.resolve()?,
            exact_prefill: self.exact_prefill,
            calibration: None,
            calibration_text: None,
            n_ctx: Some(self.ctx_size as usize),
            positions: self.positions.resolve()?,
            kv_budget: self.kv_budget,
            beyond_trained: false,
            chunk: self.batch_size as usize,
        })
    }
}
