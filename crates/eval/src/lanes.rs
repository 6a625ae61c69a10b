//! The reference and the settings, as lanes that run side by side over the same tokens.

use std::sync::Arc;

use lossy_engine::{
    ActivationKind, BatchItem, Cache, CacheOptions, Calibrated, Engine, EngineError, Logits, PositionScheme,
    Sequence,
};

use serde::{Deserialize, Serialize};

use crate::{EvalError, Note, Observer, Setting, SettingCost, Stage, vocabulary};

/// Several ways to compute the logits of the same text. Lane 0 is the reference.
pub trait Lanes {
    /// A text so far, with its cache.
    type Sequence;

    /// The reference and the settings.
    fn n_lanes(&self) -> usize;

    /// Columns of the logits.
    fn n_vocab(&self) -> usize;

    /// An empty text.
    ///
    /// # Errors
    /// The setting cannot be made.
    fn start(&mut self, lane: usize) -> Result<Self::Sequence, EngineError>;

    /// A second text that begins with the same tokens.
    fn fork(&self, sequence: &Self::Sequence) -> Self::Sequence;

    /// Continues a text of the lane; the rows that `logits` asks for, `[n_rows, n_vocab]`.
    ///
    /// # Errors
    /// As [`Engine::forward`].
    fn forward(
        &mut self,
        lane: usize,
        sequence: &mut Self::Sequence,
        tokens: &[u32],
        logits: Logits,
    ) -> Result<Vec<f32>, EngineError>;
}

/// A model whose lanes can have any settings: what a [`Meter`](crate::Meter) measures.
pub trait Measurable: Lanes {
    /// Layers of the model.
    fn n_layers(&self) -> usize;

    /// Most tokens of a text.
    fn n_ctx(&self) -> usize;

    /// Threads.
    fn n_threads(&self) -> usize;

    /// Activations of the reference and the settings.
    fn activations(&self) -> ActivationKind;

    /// What tells the model from others, in hexadecimal digits.
    fn model_hash(&self) -> String;

    /// The reference: an exact cache, and the positions of every setting that names none.
    fn reference(&self) -> SettingCost;

    /// The model whose predictions are the reference's, if it is another one.
    fn reference_model(&self) -> Option<ReferenceModel> {
        None
    }

    /// The positions of the reference.
    fn positions(&self) -> PositionScheme;

    /// Replaces all lanes but the reference. The model is calibrated if need be.
    ///
    /// # Errors
    /// A setting does not fit the model; or the observer stops the calibration.
    fn set(
        &mut self,
        settings: &[Setting],
        observer: &mut dyn Observer,
    ) -> Result<Vec<SettingCost>, EvalError>;
}

/// A model with other weights that a model is compared with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReferenceModel {
    /// its file
    pub name: String,
    /// what tells it from others, in hexadecimal digits
    pub hash: String,
}

/// A loaded model and the name of its file.
pub struct NamedEngine<'e> {
    /// the model
    pub engine: &'e mut Engine,
    /// its file
    pub name: String,
}

/// One loaded model, each lane a cache; the reference can be another model.
pub struct EngineLanes<'e> {
    engine: &'e mut Engine,
    /// whose predictions are lane 0's; `None`: those of `engine`
    other: Option<NamedEngine<'e>>,
    /// what the caches have in common
    options: CacheOptions,
    reference: SettingCost,
    /// of each lane
    caches: Vec<Arc<Cache>>,
}

impl<'e> EngineLanes<'e> {
    /// With the reference alone. Caches are made with `options`, but for the scheme and the positions that a setting names.
    ///
    /// # Errors
    /// The reference cannot be made.
    pub fn new(engine: &'e mut Engine, options: CacheOptions) -> Result<EngineLanes<'e>, EvalError> {
        let setting = Setting::exact(engine.activations());
        let cache = engine.cache(&CacheOptions { kv: Some(setting.kv.clone()), ..options.clone() })?;
        // What follows from the context is the same for all settings.
        let options = CacheOptions { positions: cache.positions().scheme().clone(), ..options };
        let reference = cost(&setting, &cache);
        Ok(EngineLanes { engine, other: None, options, reference, caches: vec![cache] })
    }

    /// With another model as the reference: what weights cost. Both are in memory, and each has the cache that is exact for it, and
    /// its own positions.
    ///
    /// # Errors
    /// The two have other vocabularies, or a reference cannot be made.
    pub fn against(
        model: NamedEngine<'e>,
        reference: NamedEngine<'e>,
        options: CacheOptions,
    ) -> Result<EngineLanes<'e>, EvalError> {
        vocabulary::check_same(&model, &reference)?;
        let mut lanes = EngineLanes::new(model.engine, options.clone())?;
        let setting = Setting::exact(reference.engine.activations());
        let cache = reference.engine.cache(&CacheOptions { kv: Some(setting.kv.clone()), ..options })?;
        lanes.reference = cost(&setting, &cache);
        lanes.caches = vec![cache];
        lanes.other = Some(reference);
        Ok(lanes)
    }

    fn cache(&mut self, setting: &Setting, observer: &mut dyn Observer) -> Result<Arc<Cache>, EvalError> {
        let positions = setting.positions.as_ref().unwrap_or(&self.options.positions).clone();
        let options = CacheOptions { kv: Some(setting.kv.clone()), positions, ..self.options.clone() };
        let stage = Stage::Calibration(&setting.kv);
        let cache = self.engine.cache_with(&options, &mut |progress| observer.progress(&stage, progress))?;
        let is_wanted = options.calibration.directory.is_some();
        if let Some(Calibrated { n_tokens: Some(_), file: None, .. }) = cache.calibrated()
            && is_wanted
        {
            observer.note(&Note::CalibrationNotSaved);
        }
        Ok(cache)
    }
}

fn cost(setting: &Setting, cache: &Cache) -> SettingCost {
    SettingCost {
        setting: setting.clone(),
        bits_per_value: cache.bits_per_value(),
        bytes_per_token: cache.bytes_per_token(),
    }
}

impl Lanes for EngineLanes<'_> {
    type Sequence = Sequence;

    fn n_lanes(&self) -> usize {
        self.caches.len()
    }

    fn n_vocab(&self) -> usize {
        self.engine.n_vocab()
    }

    fn start(&mut self, lane: usize) -> Result<Sequence, EngineError> {
        Ok(self.caches[lane].sequence())
    }

    fn fork(&self, sequence: &Sequence) -> Sequence {
        sequence.fork()
    }

    fn forward(
        &mut self,
        lane: usize,
        sequence: &mut Sequence,
        tokens: &[u32],
        logits: Logits,
    ) -> Result<Vec<f32>, EngineError> {
        let engine = match &mut self.other {
            Some(other) if lane == 0 => &mut *other.engine,
            _ => &mut *self.engine,
        };
        Ok(engine.forward(&mut [BatchItem { sequence, tokens, logits }])?.into_values())
    }
}

impl Measurable for EngineLanes<'_> {
    fn n_layers(&self) -> usize {
        self.engine.info().n_layers
    }

    fn n_ctx(&self) -> usize {
        self.caches.iter().map(|cache| cache.n_ctx()).min().unwrap_or(0)
    }

    fn n_threads(&self) -> usize {
        self.engine.n_threads()
    }

    fn activations(&self) -> ActivationKind {
        self.engine.activations()
    }

    fn model_hash(&self) -> String {
        self.engine.source().fingerprint().to_string()
    }

    fn reference(&self) -> SettingCost {
        self.reference.clone()
    }

    fn reference_model(&self) -> Option<ReferenceModel> {
        let NamedEngine { engine, name } = self.other.as_ref()?;
        let hash = engine.source().fingerprint().to_string();
        Some(ReferenceModel { name: name.clone(), hash })
    }

    fn positions(&self) -> PositionScheme {
        self.options.positions.clone()
    }

    fn set(
        &mut self,
        settings: &[Setting],
        observer: &mut dyn Observer,
    ) -> Result<Vec<SettingCost>, EvalError> {
        self.caches.truncate(1);
        let mut costs = Vec::with_capacity(settings.len());
        for setting in settings {
            let cache = self.cache(setting, observer)?;
            costs.push(cost(setting, &cache));
            self.caches.push(cache);
        }
        Ok(costs)
    }
}
