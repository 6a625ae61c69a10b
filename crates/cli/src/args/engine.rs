//! How the model is run.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use lossy_engine::{
    ActivationKind, CacheOptions, CalibrationOptions, EngineOptions, KvScheme, KvSchemeError, KvType,
    PositionError, PositionScheme, Unread,
};

use crate::instructions;
use crate::loaded::calibrations;
use crate::terminal::note;
use crate::text_file;
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

    #[command(flatten)]
    pub unread: UnreadArgs,
}

/// What becomes of a model with parts that are not known.
#[derive(Args, Clone, Copy, Debug)]
pub struct UnreadArgs {
    /// Goes on with a model that has tensors or configuration keys that are not read here, with a warning. It may compute
    /// something else than the model
    #[arg(long)]
    pub ignore_unread: bool,
}

impl UnreadArgs {
    /// As the engine wants it.
    pub fn unread(self) -> Unread {
        if !self.ignore_unread {
            return Unread::Refuse;
        }
        Unread::Warn(Arc::new(|parts| {
            note(&format!("warning: not read, so the results may be others than the model's: {parts}"));
        }))
    }
}

/// How keys and values are stored.
#[derive(Args, Clone, Debug)]
pub struct CacheArgs {
    /// How the KV cache is stored: f16, f32, k2v2, k3v3, k4v4, …, with parameters as in k2v2:sinks=8,residual=128;
    /// k2v2:sparse=0.05 skips pages that hardly matter [default: f16, or f32 with --activations f32]
    #[arg(long, value_name = "SCHEME", env = "LOSSY_KV", value_parser = parse_scheme)]
    pub kv: Option<KvScheme>,

    /// [-ctk] Type of the cached keys in llama.cpp's words; with -ctv: the same, or another of k2v2 to k4v4 [default: f16]
    #[arg(long, value_name = "TYPE", conflicts_with = "kv", value_parser = parse_scheme)]
    pub cache_type_k: Option<KvScheme>,

    /// [-ctv] Type of the cached values [default: f16]
    #[arg(long, value_name = "TYPE", conflicts_with = "kv", value_parser = parse_scheme)]
    pub cache_type_v: Option<KvScheme>,
}

/// What calibrated KV schemes are calibrated on.
#[derive(Args, Clone, Debug)]
pub struct CalibrationArgs {
    /// Calibrates KV schemes that need it on this text, such as your own kind of documents, instead of the bundled one.
    /// The statistics are saved for the next time
    #[arg(long, value_name = "FILE")]
    pub calibrate: Option<PathBuf>,
}

impl CalibrationArgs {
    /// Statistics of the text, if a file is named, or of the bundled one; saved in the user's cache directory.
    ///
    /// # Errors
    /// The text cannot be read, or is no UTF-8.
    pub fn options(&self) -> Result<CalibrationOptions> {
        let read =
            |path: &PathBuf| text_file::read(path).with_context(|| format!("--calibrate {}", path.display()));
        let text = self.calibrate.as_ref().map(read).transpose()?.map(Arc::from);
        Ok(CalibrationOptions { text, directory: calibrations(), statistics: None })
    }
}

/// How far apart tokens are for the model.
#[derive(Args, Clone, Debug)]
pub struct PositionArgs {
    /// Position scheme for contexts longer than the model was trained on: adaptive, self-extend, dca, yarn, ntk, with
    /// parameters as in self-extend:group=8,window=1024 [default: auto: the model's own positions up to its trained context,
    /// adaptive beyond]
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
        match (self.positions.clone(), self.grp_attn_n, self.rope_scaling) {
            (Some(positions), ..) => Ok(positions),
            (_, Some(0), _) => Err(crate::usage_error("--grp-attn-n is at least 1")),
            (_, Some(1), _) => Ok(PositionScheme::linear()),
            (_, Some(group), _) => {
                let window = self.grp_attn_w.map_or(String::new(), |window| format!(",window={window}"));
                format!("self-extend:group={group}{window}").parse().map_err(usage)
            }
            (_, _, Some(RopeScalingArg::Yarn)) => "yarn".parse().map_err(usage),
            (_, _, Some(RopeScalingArg::None)) => Ok(PositionScheme::linear()),
            (None, None, None) => Ok(PositionScheme::auto()),
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
        if self.cache_type_k.is_none() && self.cache_type_v.is_none() {
            return Ok(self.kv.clone());
        }
        // What is not named is f16, as in llama.cpp.
        let named = |scheme: &Option<KvScheme>| scheme.clone().unwrap_or(KvScheme::exact(KvType::F16));
        let (keys, values) = (named(&self.cache_type_k), named(&self.cache_type_v));
        KvScheme::mixed(&keys, &values).map(Some).map_err(crate::usage_error)
    }
}

impl EngineArgs {
    /// How the model is loaded.
    ///
    /// # Errors
    /// `LOSSY_ISA` names what this CPU does not have.
    pub fn engine_options(&self) -> Result<EngineOptions> {
        Ok(EngineOptions {
            n_threads: self.threads.map(usize::from),
            isa: instructions::isa()?,
            activations: self.activations.into(),
            kv_budget: self.kv_budget,
            chunk: self.batch_size as usize,
            unread: self.unread.unread(),
        })
    }

    /// How its cache is made.
    ///
    /// # Errors
    /// Options that do not go together (a usage error), or a calibration text that cannot be read.
    pub fn cache_options(&self) -> Result<CacheOptions> {
        Ok(CacheOptions {
            kv: self.cache.resolve()?,
            n_ctx: Some(self.ctx_size as usize),
            positions: self.positions.resolve()?,
            calibration: self.calibration.options()?,
            exact_prefill: self.exact_prefill,
            ..CacheOptions::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `-ctk` and `-ctv` mean together; an empty word: not given.
    fn resolved(keys: &str, values: &str) -> Result<String, String> {
        let parse = |name: &str| if name.is_empty() { Ok(None) } else { parse_scheme(name).map(Some) };
        let cache = CacheArgs { kv: None, cache_type_k: parse(keys)?, cache_type_v: parse(values)? };
        match cache.resolve() {
            Ok(scheme) => Ok(scheme.map_or("none".to_string(), |scheme| scheme.to_string())),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn types_of_keys_and_values_are_a_scheme_or_an_error_that_names_one() {
        for (keys, values, scheme) in [
            ("", "", "none"),
            ("f16", "", "f16"),
            ("", "f16", "f16"),
            ("f32", "f32", "f32"),
            ("q8_0", "q8_0", "q8"),
            ("q8", "q8_0", "q8"),
            ("kivi2", "kivi2", "kivi2"),
            ("k2v2", "k2v2", "k2v2"),
            ("k4v4", "k2v2", "k4v2"),
            ("k2v4", "k3v3", "k2v3"),
            ("k4v4:sinks=16", "k3v3:sinks=16", "k4v3:sinks=16"),
            ("k3v3:calibration=none", "k2v2:calibration=none", "k3v2:calibration=none"),
        ] {
            assert_eq!(resolved(keys, values).as_deref(), Ok(scheme), "-ctk {keys} -ctv {values}");
        }
        for (keys, values, fix) in [
            ("q8_0", "", "give q8 for both"),
            ("", "q8_0", "give q8 for both"),
            ("k2v2", "", "give k2v2 for both"),
            ("q8_0", "f16", "give q8 for both"),
            ("f16", "q8_0", "give q8 for both"),
            ("f16", "f32", "give f16 for both"),
            ("kivi2", "kivi4", "give kivi2 for both"),
            ("q8_0", "k4v4", "give q8 for both"),
            ("k4v4:sinks=16", "k2v2", "the same parameters"),
            ("k4v4", "k2v2:calibration=none", "the same parameters"),
            ("q8_0", "q4_0", "k4v4 has about the same size"),
            ("q5_1", "q5_1", "k4v4 is the next smaller"),
            ("bf16", "bf16", "f16 has the same size"),
            ("k4", "v2", "there are f16"),
        ] {
            let error = resolved(keys, values).expect_err(keys);
            assert!(error.contains(fix), "-ctk {keys} -ctv {values}: {error}");
        }
    }
}
