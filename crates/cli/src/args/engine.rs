//! How the model is run.

use std::fmt;

use clap::{Args, ValueEnum};
use lossy_engine::{ActivationKind, EngineOptions, KvType};

use crate::units::parse_bytes;

/// Context, threads, precision.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Running")]
pub struct EngineArgs {
    /// Context in tokens; 0: what the model was trained with
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

    /// Most memory that the KV cache may take, such as 512M or 2G [default: no limit]
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    pub kv_budget: Option<usize>,
}

/// The element types of the cache.
#[derive(Args, Clone, Copy, Debug)]
pub struct CacheArgs {
    /// [-ctk] Type of the cached keys: f16 or f32 [default: f16, or f32 with --activations f32]
    #[arg(long, value_name = "TYPE")]
    pub cache_type_k: Option<CacheType>,

    /// [-ctv] Type of the cached values; the same as that of the keys
    #[arg(long, value_name = "TYPE")]
    pub cache_type_v: Option<CacheType>,
}

/// `--activations`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Activations {
    /// float32, exact
    F32,
    /// int8 in blocks of 32
    Q8,
}

/// `--cache-type-k`, `--cache-type-v`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheType {
    F16,
    F32,
}

impl std::str::FromStr for CacheType {
    type Err = String;

    fn from_str(text: &str) -> Result<CacheType, String> {
        match text {
            "f16" => Ok(CacheType::F16),
            "f32" => Ok(CacheType::F32),
            "bf16" | "q8_0" | "q4_0" | "q4_1" | "q5_0" | "q5_1" | "iq4_nl" => {
                Err("quantized caches are not there yet; expected f16 or f32".to_string())
            }
            _ => Err("expected f16 or f32".to_string()),
        }
    }
}

impl fmt::Display for CacheType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CacheType::F16 => "f16",
            CacheType::F32 => "f32",
        })
    }
}

impl From<CacheType> for KvType {
    fn from(cache: CacheType) -> KvType {
        match cache {
            CacheType::F16 => KvType::F16,
            CacheType::F32 => KvType::F32,
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
    /// One type for keys and values.
    pub fn resolve(&self) -> Result<Option<CacheType>, clap::Error> {
        match (self.cache_type_k, self.cache_type_v) {
            (Some(k), Some(v)) if k != v => Err(crate::usage_error(format!(
                "--cache-type-k {k} with --cache-type-v {v}: keys and values have the same type for now"
            ))),
            (k, v) => Ok(k.or(v)),
        }
    }
}

impl EngineArgs {
    /// As the engine wants it.
    pub fn options(&self) -> Result<EngineOptions, clap::Error> {
        Ok(EngineOptions {
            n_threads: self.threads.map(usize::from),
            activations: self.activations.into(),
            kv_type: self.cache.resolve()?.map(KvType::from),
            n_ctx: Some(self.ctx_size as usize),
            kv_budget: self.kv_budget,
            beyond_trained: false,
            chunk: self.batch_size as usize,
        })
    }
}
