//! The settings that are compared, and the model that runs them.

use anyhow::{Result, anyhow};
use lossy_engine::{Engine, EngineOptions, KvType, ModelSource};
use lossy_eval::{EngineLanes, SettingCost};

use crate::args::Activations;

/// The reference and the settings, as they were typed.
pub struct Settings {
    types: Vec<(String, KvType)>,
}

/// A model that is ready to run all of them.
pub struct Loaded {
    /// lane 0 is the reference
    pub lanes: EngineLanes,
    /// what the reference takes
    pub reference: SettingCost,
    /// what the settings take
    pub settings: Vec<SettingCost>,
    /// threads in use
    pub n_threads: usize,
}

impl Settings {
    /// Fails on a setting that does not exist.
    pub fn parse(names: &[String], activations: Activations) -> Result<Settings> {
        let reference = if activations == Activations::F32 { "f32" } else { "f16" }.to_string();
        let parse = |name: &String| match name.as_str() {
            "f16" => Ok((name.clone(), KvType::F16)),
            "f32" => Ok((name.clone(), KvType::F32)),
            _ => Err(anyhow!("--kv {name}: expected f16 or f32")),
        };
        Ok(Settings { types: std::iter::once(&reference).chain(names).map(parse).collect::<Result<_>>()? })
    }

    /// Loads the model.
    pub fn load(&self, source: &ModelSource, options: &EngineOptions) -> Result<Loaded> {
        let mut costs = Vec::new();
        let mut engines = Vec::new();
        for (name, kv_type) in &self.types {
            let engine = Engine::load(source, &EngineOptions { kv_type: Some(*kv_type), ..options.clone() })?;
            let info = source.info();
            let values = 2 * info.n_layers * info.n_kv_heads * info.head_dim;
            costs.push(SettingCost {
                setting: name.clone(),
                bits_per_value: 8.0 * engine.kv_bytes_per_token() as f64 / values as f64,
                bytes_per_token: engine.kv_bytes_per_token(),
            });
            engines.push(engine);
        }
        let n_threads = engines.first().map_or(1, Engine::n_threads);
        let reference = costs.remove(0);
        Ok(Loaded { lanes: EngineLanes::new(engines), reference, settings: costs, n_threads })
    }
}
