//! What a smaller model loses beside the one that it was made of: what `lossy measure` says.

use std::path::Path;

use anyhow::Result;
use lossy_engine::{CacheOptions, Engine, EngineOptions, KvScheme, PositionScheme};
use lossy_eval::divergence::ReferenceRun;
use lossy_eval::{
    EngineLanes, EvalError, Meter, MeterOptions, NamedEngine, Report, Setting, SettingFigures, Text,
    WindowOptions, Windows, long_enough,
};

use crate::args::CalibrationArgs;
use crate::commands::measure::{CHUNK, N_CTX, N_SCORED};
use crate::loaded::{in_file, open};
use crate::loss::file_name;
use crate::observer::Watcher;
use crate::{instructions, version};

/// How models are measured.
pub struct Measuring<'a> {
    /// the model that everything is compared with
    pub original: &'a Path,
    /// a cache to measure beside the exact one
    pub kv: Option<&'a KvScheme>,
    /// threads
    pub n_threads: usize,
}

impl Measuring<'_> {
    /// A model in `path` beside the original; reports call it `name`. `None`: Ctrl-C.
    pub fn model(&self, path: &Path, name: &str) -> Result<Option<Report>> {
        self.run(Some((path, name)))
    }

    /// The original with the cache, beside itself. `None`: Ctrl-C.
    pub fn cache_alone(&self) -> Result<Option<Report>> {
        self.run(None)
    }

    fn run(&self, other: Option<(&Path, &str)>) -> Result<Option<Report>> {
        let options = EngineOptions {
            n_threads: Some(self.n_threads),
            isa: instructions::isa()?,
            chunk: CHUNK,
            ..EngineOptions::default()
        };
        let source = open(self.original)?;
        let texts = Text::bundled(&source.tokenizer().map_err(in_file(self.original))?)?;
        let n_ctx = N_CTX.min(source.info().n_ctx_train);
        let mut original = Engine::load(&source, &options).map_err(in_file(self.original))?;
        let original_name = file_name(self.original);
        let (name, mut engine) = match other {
            None => (original_name.clone(), None),
            Some((path, name)) => {
                (name.to_string(), Some(Engine::load(&open(path)?, &options).map_err(in_file(path))?))
            }
        };
        let cache = CacheOptions {
            n_ctx: Some(n_ctx),
            positions: PositionScheme::auto(),
            calibration: CalibrationArgs { calibrate: None }.options()?,
            ..CacheOptions::default()
        };
        let mut settings = Vec::new();
        let lanes = match &mut engine {
            None => EngineLanes::new(&mut original, cache.clone())?,
            Some(engine) => {
                settings.push(Setting::exact(engine.activations()));
                let model = NamedEngine { engine, name: name.clone() };
                let reference = NamedEngine { engine: &mut original, name: original_name.clone() };
                EngineLanes::against(model, reference, cache.clone())?
            }
        };
        settings.extend(self.kv.cloned().map(Setting::from));
        let schemes: String = self.kv.map_or(String::new(), |kv| format!(" --kv {},{kv}", settings[0]));
        let options = MeterOptions {
            version: version::short().to_string(),
            command: format!("lossy measure {name} --reference-model {original_name}{schemes}"),
            model: name,
            chunk: CHUNK,
            cache,
        };
        let mut watcher = Watcher::new("Ctrl-C ends");
        let mut meter = Meter::of(lanes, options);
        match meter.set(&settings, &mut watcher) {
            Err(EvalError::Stopped) => return Ok(None),
            set => set?,
        }
        let windows = WindowOptions { max_scored: Some(N_SCORED), ..WindowOptions::new(n_ctx) };
        let windows = Windows::cut(&long_enough(&texts, n_ctx), &windows)?;
        let measurement = meter.measure(&windows, ReferenceRun::Run, &mut watcher)?;
        if !measurement.is_complete {
            return Ok(None);
        }
        if let Some(failed) = measurement.settings.iter().find(|setting| setting.failure.is_some()) {
            let (setting, reason) = (failed.setting.clone(), failed.failure.clone().unwrap_or_default());
            return Err(EvalError::Failed { setting, reason }.into());
        }
        let mut report = meter.report();
        report.divergence.push(measurement);
        Ok(Some(report))
    }
}

/// The figures of a report with one context length: with the exact cache, and with another if there was one.
pub fn figures(report: &Report) -> &[SettingFigures] {
    report.divergence.first().map_or(&[], |measurement| &measurement.settings)
}
