//! The loop from a prompt to text.

use crate::{Engine, EngineError, Sampled, SamplingOptions, Sequence};
use lossy_tokenizer::Tokenizer;

/// What to generate and when to stop.
#[derive(Clone, Debug, Default)]
pub struct GenerationOptions {
    /// how tokens are chosen
    pub sampling: SamplingOptions,
    /// most tokens to generate; `None`: until the context is full or the model ends
    pub max_tokens: Option<usize>,
    /// text at which generation stops; it is not part of the output
    pub stop: Vec<String>,
    /// go on past the model's end-of-generation token
    pub ignore_eos: bool,
}

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// the model's end-of-generation token, or a stop string
    Stop,
    /// `max_tokens`
    Length,
    /// the context is full
    ContextFull,
}

/// One generated token.
#[derive(Clone, Debug)]
pub struct Step {
    /// token and log-probabilities
    pub sampled: Sampled,
    /// text that became certain with this token: whole characters, held back while it may be a stop string
    pub text: String,
    /// set on the last step
    pub finish: Option<Finish>,
}

/// Generates one step at a time: `while let Some(step) = generation.step(&mut engine)? { … }`.
pub struct Generation<'a> {
    _sequence: &'a mut Sequence,
}

impl<'a> Generation<'a> {
    /// Starts after a prefill whose last logits `[n_vocab]` are given.
    pub fn new(
        _tokenizer: &'a Tokenizer,
        _sequence: &'a mut Sequence,
        _last_logits: Vec<f32>,
        _options: GenerationOptions,
    ) -> Generation<'a> {
        todo!()
    }

    /// The next token; `None` after the last. The sequence holds every returned token but the last one.
    pub fn step(&mut self, _engine: &mut Engine) -> Result<Option<Step>, EngineError> {
        todo!()
    }
}
