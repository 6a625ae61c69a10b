//! The settings that are compared, and the model that runs them.

use anyhow::{Result, anyhow};
use lossy_engine::{Engine, EngineOptions, KvScheme, ModelSource};
use lossy_eval::{EngineLanes, SettingCost};

use crate::args::Activations;
use crate::loaded::load_engine;
use crate::terminal::Spinner;

/// The reference and the settings, as they were typed.
pub struct Settings {
    schemes: Vec<(String, KvScheme)>,
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
        let parse = |name: &String| match name.parse() {
            Ok(scheme) => Ok((name.clone(), scheme)),
            Err(error) => Err(anyhow!("--kv {name}: {error}")),
        };
        Ok(Settings { schemes: std::iter::once(&reference).chain(names).map(parse).collect::<Result<_>>()? })
    }

    /// Loads the model.
    pub fn load(&self, source: &ModelSource, options: &EngineOptions) -> Result<Loaded> {
        let mut costs = Vec::new();
        let mut engines = Vec::new();
        let spinner = Spinner::start("loading the model");
        for (name, scheme) in &self.schemes {
            let options = EngineOptions { kv: Some(scheme.clone()), ..options.clone() };
            let engine = load_engine(source, &options, &spinner)?;
            costs.push(SettingCost {
                setting: name.clone(),
                bits_per_value: engine.kv_bits_per_value(),
                bytes_per_token: engine.kv_bytes_per_token(),
            });
            engines.push(engine);
        }
        let n_threads = engines.first().map_or(1, Engine::n_threads);
        let reference = costs.remove(0);
        Ok(Loaded { lanes: EngineLanes::new(engines), reference, settings: costs, n_threads })
    }
}
