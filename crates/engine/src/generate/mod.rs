//! The loop from a prompt to text.

mod cycle;
mod stop;

use lossy_tokenizer::{DecodeStream, Tokenizer};

use crate::{BatchItem, Engine, EngineError, Logits, Sampled, Sampler, SamplingOptions, Sequence};
use cycle::CycleDetector;
use stop::{Passed, StopMatcher};

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
    /// stop when the text goes in circles, with [`Finish::Cycle`]
    pub stop_cycles: bool,
}

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// the model's end-of-generation token
    EndOfText,
    /// a stop string
    StopText,
    /// `max_tokens`
    Length,
    /// the context is full
    ContextFull,
    /// the same tokens over and over: at least 256 of them, and at least four copies after the first
    Cycle {
        /// tokens that are repeated
        period: usize,
    },
}

/// One generated token.
#[derive(Clone, Debug)]
pub struct Step {
    /// token and log-probabilities
    pub sampled: Sampled,
    /// text that became certain with this token: whole characters, held back while it may become a stop string
    pub text: String,
    /// set on the last step
    pub finish: Option<Finish>,
}

/// Generates one step at a time: `while let Some(step) = generation.step(&mut engine)? { … }`.
///
/// The sequence holds the prompt and every returned token but the last one.
pub struct Generation<'a> {
    tokenizer: &'a Tokenizer,
    sequence: &'a mut Sequence,
    options: GenerationOptions,
    sampler: Sampler,
    stream: DecodeStream<'a>,
    stop: StopMatcher,
    cycle: CycleDetector,
    next: Next,
    n_generated: usize,
}

/// Where the next logits come from.
enum Next {
    /// they are here, `[n_vocab]`
    Sample(Vec<f32>),
    /// from running this token
    Run(u32),
    /// nowhere: the generation has ended
    Nothing,
}

impl<'a> Generation<'a> {
    /// Starts after a prefill whose last logits `[n_vocab]` are given. The penalties see the tokens of `sequence`.
    pub fn new(
        tokenizer: &'a Tokenizer,
        sequence: &'a mut Sequence,
        last_logits: Vec<f32>,
        options: GenerationOptions,
    ) -> Generation<'a> {
        let mut sampler = Sampler::new(options.sampling.clone());
        for &id in sequence.tokens() {
            sampler.accept(id);
        }
        let next = if options.max_tokens == Some(0) { Next::Nothing } else { Next::Sample(last_logits) };
        Generation {
            stream: tokenizer.stream_after(sequence.tokens()),
            stop: StopMatcher::new(&options.stop),
            cycle: CycleDetector::default(),
            tokenizer,
            sequence,
            options,
            sampler,
            next,
            n_generated: 0,
        }
    }

    /// The next token; `None` after the last.
    ///
    /// # Errors
    /// If the cache's budget does not hold another token. The generation can then go on after memory was freed.
    pub fn step(&mut self, engine: &mut Engine) -> Result<Option<Step>, EngineError> {
        let sampled = match &self.next {
            Next::Nothing => return Ok(None),
            Next::Sample(logits) => self.sampler.sample(logits),
            Next::Run(id) => {
                let tokens = [*id];
                let item = BatchItem { sequence: self.sequence, tokens: &tokens, logits: Logits::Last };
                let rows = engine.forward(&mut [item])?;
                self.sampler.sample(rows.row(0))
            }
        };
        self.n_generated += 1;
        let ended = !self.options.ignore_eos && self.tokenizer.is_end_of_generation(sampled.id);
        let cycle = self.options.stop_cycles.then(|| self.cycle.push(sampled.id)).flatten();
        let mut finish = if ended {
            Some(Finish::EndOfText)
        } else if let Some(period) = cycle {
            Some(Finish::Cycle { period })
        } else if self.options.max_tokens.is_some_and(|most| self.n_generated >= most) {
            Some(Finish::Length)
        } else if self.sequence.len() >= engine.n_ctx() {
            Some(Finish::ContextFull)
        } else {
            None
        };
        let piece = if ended { String::new() } else { self.stream.push(sampled.id) };
        let text = match self.stop.push(&piece) {
            Passed::Stopped(text) => {
                finish = Some(Finish::StopText);
                text
            }
            Passed::Text(text) if finish.is_some() => self.flush(text),
            Passed::Text(text) => text,
        };
        self.next = if finish.is_some() { Next::Nothing } else { Next::Run(sampled.id) };
        Ok(Some(Step { sampled, text, finish }))
    }

    /// Ends a generation before its last step. Returns the text that was held back: what may have become a stop string,
    /// and an unfinished character as U+FFFD.
    pub fn end(mut self) -> String {
        self.flush(String::new())
    }

    /// Everything that was still held back, after `text`.
    fn flush(&mut self, text: String) -> String {
        let rest = self.stream.finish();
        match self.stop.push(&rest) {
            Passed::Stopped(before) => text + &before,
            Passed::Text(before) => text + &before + &self.stop.finish(),
        }
    }
}
