//! The settings that are compared, and the model that runs them.

use anyhow::{Result, anyhow};
use lossy_engine::{Engine, EngineError, EngineOptions, KvScheme, KvType, ModelSource};
use lossy_eval::{KvLanes, SettingCost};

use crate::args::Activations;
use crate::loaded::prepare_kv;
use crate::terminal::Spinner;

/// Settings that a budget chooses from unless others are named.
pub const CANDIDATES: [&str; 9] =
    ["k2v2", "k2v2:first=1:f16", "k3v2", "k3v3", "k3v3:first=1:f16", "k4v3", "k4v4", "q8", "f16"];

/// The reference and the settings, as they were typed.
pub struct Settings {
    schemes: Vec<KvScheme>,
    /// whether one that the model cannot have is left out
    may_be_fewer: bool,
}

/// A model that is ready to run all of them.
pub struct Loaded {
    /// lane 0 is the reference
    pub lanes: KvLanes,
    /// what the reference takes
    pub reference: SettingCost,
    /// what the settings take
    pub settings: Vec<SettingCost>,
}

impl Settings {
    /// Fails on a setting that does not exist.
    pub fn parse(names: &[String], activations: Activations) -> Result<Settings> {
        let reference = if activations == Activations::F32 { "f32" } else { "f16" };
        let parse = |name: &str| name.parse().map_err(|error| anyhow!("--kv {name}: {error}"));
        let names = std::iter::once(reference).chain(names.iter().map(String::as_str));
        Ok(Settings { schemes: names.map(parse).collect::<Result<_>>()?, may_be_fewer: false })
    }

    /// Some of [`CANDIDATES`]; those that a model cannot have are left out.
    pub fn candidates(names: &[&str], activations: Activations) -> Result<Settings> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_string()).collect();
        Ok(Settings { may_be_fewer: true, ..Settings::parse(&names, activations)? })
    }

    /// Loads the model, once.
    pub fn load(&self, source: &ModelSource, options: &EngineOptions) -> Result<Loaded, EngineError> {
        let spinner = Spinner::start("loading the model");
        let mut lanes = KvLanes::new(Engine::load(source, options)?);
        let mut costs = Vec::new();
        for scheme in &self.schemes {
            match lanes.add(|engine| prepare_kv(engine, source, scheme, &spinner)) {
                Ok(cost) => costs.push(cost),
                Err(EngineError::KvScheme(_)) if self.may_be_fewer => {}
                Err(error) => return Err(error),
            }
        }
        let reference = costs.remove(0);
        Ok(Loaded { lanes, reference, settings: costs })
    }

    /// The reference, and one scheme for which `engine` is prepared already.
    pub fn of_engine(
        engine: Engine,
        scheme: &KvScheme,
        activations: Activations,
    ) -> Result<Loaded, EngineError> {
        let reference =
            KvScheme::exact(if activations == Activations::F32 { KvType::F32 } else { KvType::F16 });
        let mut lanes = KvLanes::new(engine);
        let reference = lanes.add(|engine| engine.set_kv(&reference))?;
        let setting = lanes.add(|engine| engine.set_kv(scheme))?;
        Ok(Loaded { lanes, reference, settings: vec![setting] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_candidates_are_settings() {
        let settings = Settings::candidates(&CANDIDATES, Activations::Q8).unwrap();
        assert_eq!(settings.schemes.len(), CANDIDATES.len() + 1);
        assert!(Settings::parse(&["x9".to_string()], Activations::Q8).is_err());
    }
}
