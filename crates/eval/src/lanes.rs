//! The reference and the settings, as lanes that run side by side over the same tokens.

use std::sync::Arc;

use lossy_engine::{BatchItem, Cache, Engine, EngineError, Logits, Sequence};

use crate::{Setting, SettingCost};

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

/// One loaded model whose lanes differ in their setting.
pub struct EngineLanes<'e> {
    engine: &'e mut Engine,
    /// of each lane
    caches: Vec<Arc<Cache>>,
}

impl<'e> EngineLanes<'e> {
    /// Without lanes.
    pub fn new(engine: &'e mut Engine) -> EngineLanes<'e> {
        EngineLanes { engine, caches: Vec::new() }
    }

    /// Adds a lane whose sequences live in `cache`, which was made for `setting` by this engine: the reference first.
    pub fn add(&mut self, setting: &Setting, cache: Arc<Cache>) -> SettingCost {
        let cost = SettingCost {
            setting: setting.clone(),
            bits_per_value: cache.bits_per_value(),
            bytes_per_token: cache.bytes_per_token(),
        };
        self.caches.push(cache);
        cost
    }

    /// Leaves the first `n_lanes`.
    pub fn truncate(&mut self, n_lanes: usize) {
        self.caches.truncate(n_lanes);
    }

    /// The longest text in tokens that all lanes can read.
    pub fn n_ctx(&self) -> usize {
        self.caches.iter().map(|cache| cache.n_ctx()).min().unwrap_or(0)
    }

    /// The model.
    pub fn engine(&self) -> &Engine {
        self.engine
    }

    /// The model, to make caches of.
    pub fn engine_mut(&mut self) -> &mut Engine {
        self.engine
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
        _: usize,
        sequence: &mut Sequence,
        tokens: &[u32],
        logits: Logits,
    ) -> Result<Vec<f32>, EngineError> {
        Ok(self.engine.forward(&mut [BatchItem { sequence, tokens, logits }])?.into_values())
    }
}
