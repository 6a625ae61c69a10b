//! A model with the reference and the settings that are compared with it.

use std::ops::ControlFlow;
use std::path::Path;

use anyhow::{Context, Result};
use lossy_engine::{CacheOptions, Engine, PositionScheme, SettingError};
use lossy_eval::divergence::{
    self, Divergence, KeptRow, Origin, OriginKey, Progress, ReferenceRun, RunOptions,
};
use lossy_eval::tasks::{self, SettingScore, Task, TaskOptions};
use lossy_eval::{
    EngineLanes, Measurement, ReferenceFigures, Report, Setting, SettingCost, SettingFigures, Text, Window,
    text_hash, today,
};
use lossy_tokenizer::Tokenizer;

use super::progress::Bar;
use super::settings;
use crate::args::Activations;
use crate::loaded::make_cache;
use crate::terminal::Spinner;
use crate::version;

/// Measures.
pub struct Meter<'a> {
    lanes: EngineLanes<'a>,
    /// what the caches of all settings have in common
    options: CacheOptions,
    /// the model's file
    model: String,
    activations: Activations,
    chunk: usize,
    reference: SettingCost,
    /// the reference's
    positions: PositionScheme,
    settings: Vec<SettingCost>,
}

/// What is read, and where the reference's predictions come from.
pub struct Reading<'a> {
    /// of which `windows` are cut
    pub texts: &'a [Text],
    /// what is read
    pub windows: &'a [Window],
    /// the reference
    pub reference: ReferenceRun<'a>,
}

impl<'a> Meter<'a> {
    /// With the reference, and without settings. Caches are made with `options`, but for the scheme and the positions that
    /// a setting names. `chunk`: tokens of a prefill chunk.
    ///
    /// # Errors
    /// The reference cannot be made.
    pub fn new(
        engine: &'a mut Engine,
        options: CacheOptions,
        path: &Path,
        activations: Activations,
        chunk: usize,
    ) -> Result<Meter<'a>, SettingError> {
        let setting = settings::reference(activations);
        let cache = engine.cache(&CacheOptions { kv: Some(setting.kv.clone()), ..options.clone() })?;
        let positions = cache.positions().scheme().clone();
        let mut lanes = EngineLanes::new(engine);
        let reference = lanes.add(&setting, cache);
        let model = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        Ok(Meter { lanes, options, model, activations, chunk, reference, positions, settings: Vec::new() })
    }

    /// Reports say from now on which positions the reference has.
    pub fn name_reference_positions(&mut self) {
        self.reference.setting.positions = Some(self.positions.clone());
    }

    /// Compares these settings from now on, and no others. The model is calibrated if need be.
    ///
    /// # Errors
    /// One does not fit the model.
    pub fn set(&mut self, settings: &[Setting]) -> Result<(), SettingError> {
        let spinner = match settings.iter().any(|setting| setting.kv.needs_calibration()) {
            true => Spinner::start("calibrating"),
            false => Spinner::hidden(),
        };
        self.lanes.truncate(1);
        self.settings.clear();
        for setting in settings {
            let options = CacheOptions {
                kv: Some(setting.kv.clone()),
                positions: setting.positions.as_ref().unwrap_or(&self.positions).clone(),
                ..self.options.clone()
            };
            let cache = make_cache(self.lanes.engine_mut(), &options, &spinner)?;
            self.settings.push(self.lanes.add(setting, cache));
        }
        Ok(())
    }

    /// The same, without those that the model cannot have.
    ///
    /// # Errors
    /// Calibration fails.
    pub fn set_possible(&mut self, settings: &[Setting]) -> Result<(), SettingError> {
        let mut possible = Vec::new();
        for setting in settings {
            match self.set(std::slice::from_ref(setting)) {
                Ok(()) => possible.push(setting.clone()),
                Err(SettingError::KvScheme(_)) => {}
                Err(error) => return Err(error),
            }
        }
        self.set(&possible)
    }

    /// The model.
    pub fn engine(&self) -> &Engine {
        self.lanes.engine()
    }

    /// Reference and settings.
    pub fn lanes(&mut self) -> &mut EngineLanes<'a> {
        &mut self.lanes
    }

    /// Without figures yet.
    pub fn report(&self) -> Report {
        Report {
            version: version::short().to_string(),
            command: command_line(),
            date: today(),
            model: self.model.clone(),
            model_hash: self.engine().source().fingerprint().to_string(),
            activations: self.activations.name().to_string(),
            chunk: self.chunk,
            n_threads: self.engine().n_threads(),
            divergence: Vec::new(),
            tasks: Vec::new(),
            choice: None,
            is_complete: true,
        }
    }

    /// What the reference's predictions of these windows depend on.
    pub fn origin(&self, windows: &[Window]) -> Origin {
        Origin {
            what: OriginKey {
                model_hash: self.engine().source().fingerprint().to_string(),
                setting: Setting {
                    positions: Some(self.positions.clone()),
                    ..self.reference.setting.clone()
                }
                .to_string(),
                activations: self.activations.name().to_string(),
                n_vocab: self.engine().n_vocab(),
                n_ctx: windows.first().map_or(0, |window| window.tokens.len()),
                n_scored: windows.iter().map(Window::n_scored).sum(),
                text_hash: text_hash(windows),
            },
            bytes_per_token: self.reference.bytes_per_token,
            version: version::short().to_string(),
            date: today(),
            model: self.model.clone(),
        }
    }

    /// All settings on all windows.
    ///
    /// # Errors
    /// The reference fails.
    pub fn divergence(
        &mut self,
        reading: Reading<'_>,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Measurement> {
        let Reading { texts, windows, reference } = reading;
        let divergence = self.run(windows, reference, progress)?;
        Ok(Measurement {
            texts: texts.iter().take(windows.len()).map(|text| text.name.clone()).collect(),
            text_hash: text_hash(windows),
            n_ctx: windows.first().map_or(0, |window| window.tokens.len()),
            n_windows: windows.len(),
            n_scored_per_window: windows.first().map_or(0, Window::n_scored),
            is_complete: divergence.is_complete,
            reference: ReferenceFigures::new(&self.reference, &divergence),
            settings: SettingFigures::all(&self.settings, &divergence),
        })
    }

    /// One setting on windows of which the reference's predictions were kept; `None`: it was stopped before its end.
    ///
    /// # Errors
    /// The setting does not fit the model, or fails.
    pub fn figures(
        &mut self,
        setting: &Setting,
        windows: &[Window],
        rows: &[KeptRow],
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Option<SettingFigures>> {
        self.set(std::slice::from_ref(setting))?;
        let divergence = self.run(windows, ReferenceRun::Kept(rows), progress)?;
        let figures = SettingFigures::all(&self.settings, &divergence).pop();
        Ok(figures.filter(|_| divergence.is_complete))
    }

    fn run(
        &mut self,
        windows: &[Window],
        reference: ReferenceRun<'_>,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Divergence> {
        let options = RunOptions { chunk: self.chunk, n_threads: self.engine().n_threads() };
        Ok(divergence::run(&mut self.lanes, windows, reference, &options, progress)?)
    }

    /// Scores of the reference and the settings, and whether all questions were asked.
    ///
    /// # Errors
    /// The context does not hold the task, or a lane fails.
    pub fn task(
        &mut self,
        task: &'static Task,
        tokenizer: &Tokenizer,
        options: &TaskOptions,
    ) -> Result<(Vec<SettingScore>, bool)> {
        let cases = tasks::cases(task, tokenizer, options)?;
        let what = format!("{} at {} tokens", task.name, options.n_tokens);
        let bar = Bar::start(&what);
        let run = tasks::run(&mut self.lanes, tokenizer, task, &cases, self.chunk, &mut |progress| {
            bar.set(progress.n_done, progress.n_total)
        });
        let run = run.with_context(|| what.clone())?;
        let costs = std::iter::once(&self.reference).chain(&self.settings);
        let names: Vec<String> = costs.map(|cost| cost.setting.to_string()).collect();
        Ok((tasks::scores(task.name, options.n_tokens, &names, &run), run.is_complete))
    }
}

/// What was typed, without the path of the program.
fn command_line() -> String {
    let args = std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned());
    std::iter::once("lossy".to_string()).chain(args).collect::<Vec<_>>().join(" ")
}
