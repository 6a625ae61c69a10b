//! Measures what settings cost on one model.

use lossy_engine::{CacheOptions, Engine, EngineError, Progress, SettingError};
use lossy_tokenizer::Tokenizer;

use crate::divergence::{self, Divergence, Origin, OriginKey, ReferenceRun, RunOptions, SavedPrediction};
use crate::tasks::{self, SettingScore, Task, TaskOptions};
use crate::{
    EngineLanes, EvalError, Measurable, Measurement, Note, Observer, ReferenceFigures, Report, Setting,
    SettingCost, SettingFigures, Stage, Windows, today,
};

/// How a model is measured, and what reports and certificates say about it.
#[derive(Clone, Debug)]
pub struct MeterOptions {
    /// version of the program that measures: a certificate holds for one version
    pub version: String,
    /// the command that repeats the measurement
    pub command: String,
    /// the model's file
    pub model: String,
    /// tokens of a prefill chunk
    pub chunk: usize,
    /// how caches are made, but for the KV scheme and the positions that a setting names
    pub cache: CacheOptions,
}

impl Default for MeterOptions {
    fn default() -> MeterOptions {
        MeterOptions {
            version: env!("CARGO_PKG_VERSION").to_string(),
            command: String::new(),
            model: String::new(),
            chunk: 512,
            cache: CacheOptions::default(),
        }
    }
}

/// A model with the reference and the settings that are compared with it.
pub struct Meter<L> {
    lanes: L,
    options: MeterOptions,
    reference: SettingCost,
    settings: Vec<SettingCost>,
}

/// Scores of one task at one length.
#[derive(Clone, Debug)]
pub struct TaskScores {
    /// of the reference and each setting
    pub scores: Vec<SettingScore>,
    /// whether all questions were asked
    pub is_complete: bool,
}

impl<'e> Meter<EngineLanes<'e>> {
    /// Of a loaded model, without settings. The reference has a cache that is exact for the engine's activations, and the
    /// positions of `options.cache`.
    ///
    /// # Errors
    /// The reference cannot be made.
    pub fn new(engine: &'e mut Engine, options: MeterOptions) -> Result<Meter<EngineLanes<'e>>, EvalError> {
        let lanes = EngineLanes::new(engine, options.cache.clone())?;
        Ok(Meter::of(lanes, options))
    }
}

impl<L: Measurable> Meter<L> {
    /// Of any lanes, without settings.
    pub fn of(lanes: L, options: MeterOptions) -> Meter<L> {
        Meter { reference: lanes.reference(), lanes, options, settings: Vec::new() }
    }

    /// Reports say from now on which positions the reference has.
    pub fn name_reference_positions(&mut self) {
        self.reference.setting.positions = Some(self.lanes.positions());
    }

    /// Compares these settings from now on, and no others. The model is calibrated if need be.
    ///
    /// # Errors
    /// One does not fit the model; or the observer stops the calibration.
    pub fn set(&mut self, settings: &[Setting], observer: &mut dyn Observer) -> Result<(), EvalError> {
        self.settings.clear();
        self.settings = self.lanes.set(settings, observer)?;
        Ok(())
    }

    /// The same, without those that the model cannot have: each is a note.
    ///
    /// # Errors
    /// The observer stops the calibration, or it fails.
    pub fn set_possible(
        &mut self,
        settings: &[Setting],
        observer: &mut dyn Observer,
    ) -> Result<(), EvalError> {
        let mut possible = Vec::with_capacity(settings.len());
        for setting in settings {
            match self.set(std::slice::from_ref(setting), observer) {
                Ok(()) => possible.push(setting.clone()),
                Err(EvalError::Engine(EngineError::Setting(SettingError::KvScheme(error)))) => {
                    observer.note(&Note::LeftOut { setting, reason: error.to_string() });
                }
                Err(error) => return Err(error),
            }
        }
        self.set(&possible, observer)
    }

    /// The model.
    pub fn lanes(&mut self) -> &mut L {
        &mut self.lanes
    }

    /// How it is measured.
    pub fn options(&self) -> &MeterOptions {
        &self.options
    }

    /// Layers of the model.
    pub fn n_layers(&self) -> usize {
        self.lanes.n_layers()
    }

    /// Most tokens of a window.
    pub fn n_ctx(&self) -> usize {
        self.lanes.n_ctx()
    }

    /// `q8` or `f32`.
    pub fn activations(&self) -> &'static str {
        self.lanes.activations().name()
    }

    /// What tells the model from others, in hexadecimal digits. Its files are read whole the first time.
    pub fn model_hash(&self) -> String {
        self.lanes.model_hash()
    }

    /// The settings.
    pub fn settings(&self) -> &[SettingCost] {
        &self.settings
    }

    /// Without figures yet.
    pub fn report(&self) -> Report {
        let MeterOptions { version, command, model, chunk, .. } = self.options.clone();
        Report {
            version,
            command,
            date: today(),
            model,
            model_hash: self.model_hash(),
            reference_model: self.lanes.reference_model(),
            activations: self.activations().to_string(),
            chunk,
            n_threads: self.lanes.n_threads(),
            divergence: Vec::new(),
            tasks: Vec::new(),
            choice: None,
            is_complete: true,
        }
    }

    /// What the reference's predictions of these windows depend on.
    pub fn origin(&self, windows: &Windows) -> Origin {
        let positions = Some(self.lanes.positions());
        let other = self.lanes.reference_model();
        let (model, model_hash) = match other {
            Some(other) => (other.name, other.hash),
            None => (self.options.model.clone(), self.model_hash()),
        };
        Origin {
            what: OriginKey {
                model_hash,
                setting: Setting { positions, ..self.reference.setting.clone() }.to_string(),
                activations: self.activations().to_string(),
                version: self.options.version.clone(),
                start_position: self.options.cache.start_position,
                n_vocab: self.lanes.n_vocab(),
                n_ctx: windows.n_ctx(),
                n_scored: windows.n_scored(),
                text_hash: windows.hash(),
            },
            bytes_per_token: self.reference.bytes_per_token,
            date: today(),
            model,
        }
    }

    /// All settings on all windows. If the observer stops it, the figures are those of what was measured, and the
    /// measurement is not complete. A setting that fails has the reason beside its figures.
    ///
    /// # Errors
    /// The reference fails.
    pub fn measure(
        &mut self,
        windows: &Windows,
        reference: ReferenceRun<'_>,
        observer: &mut dyn Observer,
    ) -> Result<Measurement, EvalError> {
        self.measure_as(&Stage::Divergence { n_ctx: windows.n_ctx() }, windows, reference, observer)
    }

    pub(crate) fn measure_as(
        &mut self,
        stage: &Stage<'_>,
        windows: &Windows,
        reference: ReferenceRun<'_>,
        observer: &mut dyn Observer,
    ) -> Result<Measurement, EvalError> {
        let on_progress = &mut |progress| observer.progress(stage, progress);
        let divergence = self.run(windows, reference, on_progress)?;
        Ok(Measurement {
            texts: windows.texts.clone(),
            text_hash: windows.hash(),
            n_ctx: windows.n_ctx(),
            n_windows: windows.list.len(),
            n_scored_per_window: windows.list.first().map_or(0, |window| window.n_scored()),
            is_complete: divergence.is_complete,
            reference: ReferenceFigures::new(&self.reference, &divergence),
            settings: SettingFigures::all(&self.settings, &divergence),
        })
    }

    /// One setting on windows of which the reference's predictions were saved.
    ///
    /// # Errors
    /// The setting does not fit the model; or it is stopped before its end.
    pub(crate) fn figures(
        &mut self,
        setting: &Setting,
        windows: &Windows,
        predictions: &[SavedPrediction],
        observer: &mut dyn Observer,
        stage: &Stage<'_>,
        share: Share,
    ) -> Result<SettingFigures, EvalError> {
        self.set(std::slice::from_ref(setting), observer)?;
        let on_progress = &mut |progress| observer.progress(stage, share.of(progress));
        let divergence = self.run(windows, ReferenceRun::Saved(predictions), on_progress)?;
        let figures = SettingFigures::all(&self.settings, &divergence).pop();
        figures.filter(|_| divergence.is_complete).ok_or(EvalError::Stopped)
    }

    fn run(
        &mut self,
        windows: &Windows,
        reference: ReferenceRun<'_>,
        progress: &mut dyn FnMut(Progress) -> std::ops::ControlFlow<()>,
    ) -> Result<Divergence, EvalError> {
        let options = RunOptions { chunk: self.options.chunk, n_threads: self.lanes.n_threads() };
        divergence::run(&mut self.lanes, &windows.list, reference, &options, progress)
    }

    /// Asks the reference and the settings questions whose answers are known.
    ///
    /// # Errors
    /// The context does not hold the task, or a lane fails.
    pub fn ask(
        &mut self,
        task: &'static Task,
        tokenizer: &Tokenizer,
        options: &TaskOptions,
        observer: &mut dyn Observer,
    ) -> Result<TaskScores, EvalError> {
        let cases = tasks::cases(task, tokenizer, options)?;
        let stage = Stage::Task { name: task.name, n_tokens: options.n_tokens };
        let on_progress = &mut |progress| observer.progress(&stage, progress);
        let chunk = self.options.chunk;
        let run = tasks::run(&mut self.lanes, tokenizer, task, &cases, chunk, on_progress)?;
        let costs = std::iter::once(&self.reference).chain(&self.settings);
        let names: Vec<String> = costs.map(|cost| cost.setting.to_string()).collect();
        let scores = tasks::scores(task.name, options.n_tokens, &names, &run);
        Ok(TaskScores { scores, is_complete: run.is_complete })
    }
}

/// One of several equal parts of a stage.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Share {
    /// from 0
    pub part: usize,
    pub n_parts: usize,
}

impl Share {
    fn of(self, part: Progress) -> Progress {
        Progress::new(self.part * part.n_total + part.n_done, self.n_parts * part.n_total)
    }
}
