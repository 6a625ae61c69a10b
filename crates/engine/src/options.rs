//! How to load a model, and how its caches are made.

use std::path::PathBuf;
use std::sync::Arc;

use lossy_kernels::{ActivationKind, Isa};

use crate::cache::{Calibration, KvScheme};
use crate::positions::PositionScheme;
use crate::unread::Unread;

/// How to load a model and compute with it: what all its caches share.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// threads; `None`: the machine's cores
    pub n_threads: Option<usize>,
    /// instructions that kernels use
    pub isa: Isa,
    /// int8 or float32 activations
    pub activations: ActivationKind,
    /// most bytes that all caches together may use; `None`: no limit
    pub kv_budget: Option<usize>,
    /// tokens that [`prefill`](crate::Engine::prefill) computes at once
    pub chunk: usize,
    /// what becomes of a model with tensors or keys that are not read
    pub unread: Unread,
}

impl Default for EngineOptions {
    fn default() -> Self {
        EngineOptions {
            n_threads: None,
            isa: Isa::best(),
            activations: ActivationKind::Q8,
            kv_budget: None,
            chunk: 512,
            unread: Unread::Refuse,
        }
    }
}

/// How the sequences of one [`Cache`](crate::Cache) are stored, and which positions they have.
#[derive(Clone, Debug, Default)]
pub struct CacheOptions {
    /// how keys and values are stored; `None`: as f16, or f32 with f32 activations
    pub kv: Option<KvScheme>,
    /// context in tokens; `None` or `Some(0)`: the model's
    pub n_ctx: Option<usize>,
    /// how positions are told to the model; beyond its trained context this decides what it makes of the text
    pub positions: PositionScheme,
    /// where statistics come from if the scheme needs them
    pub calibration: CalibrationOptions,
    /// a prompt's keys and values stay exact, whatever the scheme, until the prompt has been read
    pub exact_prefill: bool,
    /// position of the first token of every text, for measuring: the model's own positions are needed then
    pub start_position: usize,
    /// allow positions beyond those that they are good for, where the model's text is worthless: for measuring
    pub beyond_trained: bool,
}

impl CacheOptions {
    /// The scheme, and everything else as usual.
    pub fn scheme(kv: KvScheme) -> CacheOptions {
        CacheOptions { kv: Some(kv), ..CacheOptions::default() }
    }
}

/// Where the statistics of a model come from.
#[derive(Clone, Debug, Default)]
pub struct CalibrationOptions {
    /// these and no others
    pub statistics: Option<Arc<Calibration>>,
    /// what they are made of; `None`: [`CALIBRATION_TEXT`](crate::CALIBRATION_TEXT)
    pub text: Option<Arc<str>>,
    /// where they are looked for, and saved when they were made; `None`: nowhere, so they last as long as the engine
    pub directory: Option<PathBuf>,
}
