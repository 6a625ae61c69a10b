//! The reference and the settings, as lanes that run side by side over the same tokens.

use lossy_engine::{BatchItem, Engine, EngineError, Logits, Sequence};

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
    /// An empty sequence of each lane: its forks are what it is.
    empty: Vec<Sequence>,
}

impl<'e> EngineLanes<'e> {
    /// Without lanes.
    pub fn new(engine: &'e mut Engine) -> EngineLanes<'e> {
        EngineLanes { engine, empty: Vec::new() }
    }

    /// Adds a lane whose sequences are those of the engine after `prepare`, which applies the setting: the reference first.
    ///
    /// # Errors
    /// Those of `prepare`.
    pub fn add(
        &mut self,
        setting: &Setting,
        prepare: impl FnOnce(&mut Engine, &Setting) -> Result<(), EngineError>,
    ) -> Result<SettingCost, EngineError> {
        prepare(self.engine, setting)?;
        self.empty.push(self.engine.sequence());
        Ok(SettingCost {
            setting: setting.clone(),
            bits_per_value: self.engine.kv_bits_per_value(),
            bytes_per_token: self.engine.kv_bytes_per_token(),
        })
    }

    /// Leaves the first `n_lanes`.
    pub fn truncate(&mut self, n_lanes: usize) {
        self.empty.truncate(n_lanes);
    }

    /// The model.
    pub fn engine(&self) -> &Engine {
        self.engine
    }
}

impl Lanes for EngineLanes<'_> {
    type Sequence = Sequence;

    fn n_lanes(&self) -> usize {
        self.empty.len()
    }

    fn n_vocab(&self) -> usize {
        self.engine.n_vocab()
    }

    fn start(&mut self, lane: usize) -> Result<Sequence, EngineError> {
        Ok(self.empty[lane].fork())
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
