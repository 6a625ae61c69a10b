//! The reference and the settings, as lanes that run side by side over the same tokens.

use lossy_engine::{BatchItem, Engine, EngineError, Logits, Sequence};

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

/// A loaded model for each lane: for settings that differ in more than the cache.
pub struct EngineLanes {
    engines: Vec<Engine>,
}

impl EngineLanes {
    /// The reference, then the settings. They must have the same vocabulary.
    pub fn new(engines: Vec<Engine>) -> EngineLanes {
        EngineLanes { engines }
    }
}

impl Lanes for EngineLanes {
    type Sequence = Sequence;

    fn n_lanes(&self) -> usize {
        self.engines.len()
    }

    fn n_vocab(&self) -> usize {
        self.engines.first().map_or(0, Engine::n_vocab)
    }

    fn start(&mut self, lane: usize) -> Result<Sequence, EngineError> {
        Ok(self.engines[lane].sequence())
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
        Ok(self.engines[lane].forward(&mut [BatchItem { sequence, tokens, logits }])?.into_values())
    }
}
