//! The reference and the settings, as lanes that run side by side over the same tokens.

use lossy_engine::{BatchItem, Engine, EngineError, Logits, Sequence};

/// Several ways to compute the logits of the same text. Lane 0 is the reference.
pub trait Lanes {
    /// The reference and the settings.
    fn n_lanes(&self) -> usize;

    /// Columns of the logits.
    fn n_vocab(&self) -> usize;

    /// Forgets the lane's text.
    ///
    /// # Errors
    /// The setting cannot be made.
    fn restart(&mut self, lane: usize) -> Result<(), EngineError>;

    /// Continues the lane's text; the rows that `logits` asks for, `[n_rows, n_vocab]`.
    ///
    /// # Errors
    /// As [`Engine::forward`].
    fn feed(&mut self, lane: usize, tokens: &[u32], logits: Logits) -> Result<Vec<f32>, EngineError>;
}

/// A loaded model for each lane: for settings that differ in more than the cache.
pub struct EngineLanes {
    lanes: Vec<(Engine, Sequence)>,
}

impl EngineLanes {
    /// The reference, then the settings. They must have the same vocabulary.
    pub fn new(engines: Vec<Engine>) -> EngineLanes {
        let with_sequence = |engine: Engine| {
            let sequence = engine.sequence();
            (engine, sequence)
        };
        EngineLanes { lanes: engines.into_iter().map(with_sequence).collect() }
    }
}

impl Lanes for EngineLanes {
    fn n_lanes(&self) -> usize {
        self.lanes.len()
    }

    fn n_vocab(&self) -> usize {
        self.lanes.first().map_or(0, |(engine, _)| engine.n_vocab())
    }

    fn restart(&mut self, lane: usize) -> Result<(), EngineError> {
        let (engine, sequence) = &mut self.lanes[lane];
        *sequence = engine.sequence();
        Ok(())
    }

    fn feed(&mut self, lane: usize, tokens: &[u32], logits: Logits) -> Result<Vec<f32>, EngineError> {
        let (engine, sequence) = &mut self.lanes[lane];
        Ok(engine.forward(&mut [BatchItem { sequence, tokens, logits }])?.into_values())
    }
}
