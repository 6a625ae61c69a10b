//! From a prompt to text, one forward pass after another.

mod cycle;
mod draft;
mod pieces;
mod stop;

use lossy_tokenizer::{DecodeStream, Tokenizer};

use crate::sampling::Mask;
use crate::speculation::{Drafter, Speculation};
use crate::{BatchItem, Logits, RequestError, Sampled, Sampler, SamplingOptions, Sequence, prefix};
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
    /// Log-probabilities of the prompt's tokens too, as many as the sampling options say; see
    /// [`Generation::prompt_logprobs`]. The prompt is read anew then, whatever the sequence holds, in small pieces.
    pub prompt_logprobs: bool,
    /// control tokens that are part of the text
    pub visible: Vec<u32>,
    /// whether [`Engine::advance`](crate::Engine::advance) may guess tokens, to compute several at once; changes no answer
    pub speculation: Speculation,
}

/// Tokens of a prompt whose logits are computed at once: a row of them can be as large as a megabyte.
const SCORED_TOKENS: usize = 64;

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// the model's end-of-generation token
    EndOfText,
    /// a stop string
    StopText {
        /// which of [`GenerationOptions::stop`]
        index: usize,
    },
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

/// A text in the making: a prompt, what follows it, and the sequence of both. It runs nothing itself.
///
/// ```text
/// while !generation.is_done() {
///     tokens = generation.wanted(at_most)          the rest of the prompt, then one token after another
///     logits = … run the tokens on its sequence, alone or in a batch …
///     step   = generation.accept(logits)           nothing while the prompt is read
/// }
/// ```
/// [`Engine::advance`](crate::Engine::advance) does one round of that for several generations at once, and may run guessed
/// tokens too; see [`Speculation`]. The sequence holds the prompt and every returned token but the last one.
pub struct Generation {
    tokenizer: Tokenizer,
    sequence: Sequence,
    options: GenerationOptions,
    sampler: Sampler,
    mask: Option<Box<dyn Mask>>,
    stream: DecodeStream,
    stop: StopMatcher,
    cycle: CycleDetector,
    /// the prompt, and behind it what was generated, of which the last token was not run yet
    tokens: Vec<u32>,
    n_prompt: usize,
    n_generated: usize,
    is_done: bool,
    drafter: Drafter,
    /// the last token and what is drafted after it, if the next pass runs a draft
    pass: Vec<u32>,
    n_drafted: usize,
    n_accepted: usize,
    /// of the prompt's tokens from the second on, as far as they were read, if they were asked for
    prompt_logprobs: Vec<Sampled>,
}

impl Generation {
    /// Goes on from what `sequence` and `prompt` have in common; the rest of the sequence is forgotten.
    ///
    /// # Errors
    /// The prompt is empty, longer than the context, or has a token that is not in the vocabulary.
    pub fn new(
        tokenizer: Tokenizer,
        mut sequence: Sequence,
        prompt: Vec<u32>,
        options: GenerationOptions,
    ) -> Result<Generation, RequestError> {
        if prompt.is_empty() {
            return Err(RequestError::EmptyPrompt);
        }
        let n_reusable = prefix::reusable(sequence.tokens(), &prompt);
        sequence.check_from(n_reusable, &prompt[n_reusable..])?;
        sequence.truncate(if options.prompt_logprobs { 0 } else { n_reusable });
        sequence.begin_prompt();
        let mut sampler = Sampler::new(options.sampling.clone());
        prompt.iter().for_each(|&id| sampler.accept(id));
        Ok(Generation {
            stream: tokenizer.stream_after(&prompt),
            stop: StopMatcher::new(&options.stop),
            cycle: CycleDetector::default(),
            mask: None,
            n_prompt: prompt.len(),
            tokens: prompt,
            tokenizer,
            sequence,
            options,
            sampler,
            n_generated: 0,
            is_done: false,
            drafter: Drafter::default(),
            pass: Vec::new(),
            n_drafted: 0,
            n_accepted: 0,
            prompt_logprobs: Vec::new(),
        })
    }

    /// From now on chooses only what `mask` allows. The mask begins with the next token that is generated.
    #[must_use]
    pub fn with_mask(mut self, mask: Box<dyn Mask>) -> Generation {
        self.mask = Some(mask);
        self
    }

    /// The tokens to run next, at most `max` of them: some of the prompt, or the one that was generated last. None after
    /// the end.
    ///
    /// A piece of the prompt ends with a page where `max` reaches that far, and else at a multiple of 16 tokens where that
    /// is possible. How a token is rounded can depend on whether it is the only new one of its page
    /// ([`Cache::computes_alike`](crate::Cache::computes_alike)). There no piece parts one token from others of its page: it
    /// is one token longer than `max` if need be, two if `max` is 1. So the bits of a prompt are the same with every KV
    /// scheme, however a scheduler shares out its rounds.
    pub fn wanted(&self, max: usize) -> &[u32] {
        let max = if self.is_scoring() { max.min(SCORED_TOKENS) } else { max };
        let start = self.sequence.len();
        if self.is_done || start >= self.tokens.len() {
            return &[];
        }
        let alike = self.sequence.cache().computes_alike();
        // Generated tokens were computed one by one.
        let n_together = if alike { self.tokens.len() } else { self.n_prompt };
        let n = match n_together > start {
            true => pieces::piece(start, n_together, max, if alike { 1 } else { 2 }),
            false => max.min(1),
        };
        &self.tokens[start..start + n]
    }

    /// The [wanted](Generation::wanted) tokens as a share of a batch, with the logits that [`accept`](Generation::accept)
    /// needs.
    pub fn item(&mut self, max: usize) -> BatchItem<'_> {
        if self.has_draft() {
            return BatchItem { sequence: &mut self.sequence, tokens: &self.pass, logits: Logits::OneByOne };
        }
        let n = self.wanted(max).len();
        let start = self.sequence.len();
        let is_last = n > 0 && start + n == self.tokens.len();
        let logits = match is_last {
            _ if self.is_scoring() => Logits::All,
            true => Logits::Last,
            false => Logits::None,
        };
        BatchItem { sequence: &mut self.sequence, tokens: &self.tokens[start..start + n], logits }
    }

    /// Whether the logits of every token of the prompt are wanted.
    fn is_scoring(&self) -> bool {
        self.options.prompt_logprobs && self.n_generated == 0 && self.sequence.len() < self.n_prompt
    }

    /// The tokens of the prompt from the second on, as far as they were read, each with its log-probability; empty unless
    /// [asked for](GenerationOptions::prompt_logprobs).
    pub fn prompt_logprobs(&self) -> &[Sampled] {
        &self.prompt_logprobs
    }

    /// Takes the logits `[n, n_vocab]` of the last `n` tokens of the prompt that were read; returns those of the last one.
    fn score<'a>(&mut self, logits: &'a [f32]) -> &'a [f32] {
        // One token after the first has none yet.
        let first = self.prompt_logprobs.len();
        let n = self.sequence.len() - first;
        let n_vocab = logits.len() / n;
        for (row, position) in logits.chunks_exact(n_vocab).zip(first + 1..self.n_prompt) {
            let scored = self.sampler.report(row, self.tokens[position]);
            self.prompt_logprobs.push(scored);
        }
        &logits[(n - 1) * n_vocab..]
    }

    /// Whether the last step has been made.
    pub fn is_done(&self) -> bool {
        self.is_done
    }

    /// Whether tokens are to be run after which none is chosen yet: some of the prompt, or after a
    /// [suspension](Generation::suspend) some that were generated before.
    pub fn is_reading(&self) -> bool {
        self.sequence.len() < self.n_prompt || self.sequence.len() + 1 < self.tokens.len()
    }

    /// Gives the pages of the sequence back, to go on later with the same text and the same bits: the
    /// [wanted](Generation::wanted) tokens are then the prompt's again, in pieces, and after it what was generated, one by
    /// one as it was computed, or in pieces where that [is the same](crate::Cache::computes_alike).
    pub fn suspend(&mut self) {
        self.drop_draft();
        self.sequence.truncate(0);
        self.sequence.begin_prompt();
        if self.n_generated == 0 {
            self.prompt_logprobs.clear();
        }
    }

    /// Goes on from what `sequence`, of the same cache, has in common with the prompt and what was generated. For the same
    /// bits it is what [`PrefixCache::find`](crate::prefix_cache::PrefixCache::find) gives for the
    /// [prompt](Generation::prompt).
    ///
    /// # Errors
    /// The context of its cache is too short for the rest; then nothing has changed.
    pub fn resume_from(&mut self, mut sequence: Sequence) -> Result<(), RequestError> {
        let is_scored = self.options.prompt_logprobs && self.n_generated == 0;
        let n_reusable = if is_scored { 0 } else { prefix::reusable(sequence.tokens(), &self.tokens) };
        sequence.check_from(n_reusable, &self.tokens[n_reusable..])?;
        sequence.truncate(n_reusable);
        if n_reusable < self.n_prompt {
            sequence.begin_prompt();
        }
        self.sequence = sequence;
        Ok(())
    }

    /// The prompt.
    pub fn prompt(&self) -> &[u32] {
        &self.tokens[..self.n_prompt]
    }

    /// The generated tokens that are part of the text to go on from: all but the last one of a generation that has ended.
    pub fn generated(&self) -> &[u32] {
        &self.tokens[self.n_prompt..]
    }

    /// Tokens of the prompt that have been read.
    pub fn n_read(&self) -> usize {
        self.sequence.len().min(self.n_prompt)
    }

    /// Tokens of the prompt.
    pub fn n_prompt(&self) -> usize {
        self.n_prompt
    }

    /// Tokens that were generated.
    pub fn n_generated(&self) -> usize {
        self.n_generated
    }

    /// What was run so far.
    pub fn sequence(&self) -> &Sequence {
        &self.sequence
    }

    /// What was run so far, to go on with something else.
    pub fn into_sequence(mut self) -> Sequence {
        self.sequence.end_prompt();
        self.sequence
    }

    /// Takes the logits `[n_vocab]` after the last of the wanted tokens, and chooses the next one; while log-probabilities of
    /// the prompt are wanted, those of all tokens that were run, `[n, n_vocab]`. Returns `None` while the
    /// prompt is read, when `logits` is empty; `None` too after the end, and where nothing is to be generated.
    ///
    /// # Errors
    /// No token can be chosen; the generation has ended then.
    ///
    /// # Panics
    /// The wanted tokens have been run, and `logits` is empty.
    pub fn accept(&mut self, logits: &[f32]) -> Result<Option<Step>, RequestError> {
        let is_scored = self.options.prompt_logprobs && self.n_generated == 0 && !self.is_done;
        let logits = if is_scored && !logits.is_empty() { self.score(logits) } else { logits };
        if self.sequence.len() >= self.n_prompt {
            self.sequence.end_prompt();
        }
        if self.is_done || self.sequence.len() < self.tokens.len() {
            return Ok(None);
        }
        if self.n_generated == 0 && self.options.max_tokens == Some(0) {
            self.is_done = true;
            return Ok(None);
        }
        self.choose(logits).map(Some)
    }

    /// Chooses the next token from logits `[n_vocab]`.
    fn choose(&mut self, logits: &[f32]) -> Result<Step, RequestError> {
        let mask = self.mask.as_deref_mut();
        let sampled = match self.sampler.sample(logits, mask.map(|mask| mask as &mut dyn Mask)) {
            Ok(sampled) => sampled,
            Err(error) => {
                self.is_done = true;
                return Err(error.into());
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
        } else if self.tokens.len() >= self.sequence.cache().n_ctx() {
            Some(Finish::ContextFull)
        } else {
            None
        };
        let piece = if ended { String::new() } else { self.spell(sampled.id) };
        let text = match self.stop.push(&piece) {
            Passed::Stopped { before, index } => {
                finish = Some(Finish::StopText { index });
                before
            }
            Passed::Text(text) if finish.is_some() => self.flush(text),
            Passed::Text(text) => text,
        };
        self.is_done = finish.is_some();
        if !self.is_done {
            self.tokens.push(sampled.id);
        }
        Ok(Step { sampled, text, finish })
    }

    /// The text that a token adds.
    fn spell(&mut self, id: u32) -> String {
        if !self.options.visible.contains(&id) {
            return self.stream.push(id);
        }
        let before = self.stream.finish();
        before + self.tokenizer.token_text(id).unwrap_or_default()
    }

    /// Ends a generation before its last step. Returns the text that was held back: what may have become a stop string,
    /// and an unfinished character as U+FFFD.
    pub fn end(&mut self) -> String {
        self.is_done = true;
        self.flush(String::new())
    }

    /// Everything that was still held back, after `text`.
    fn flush(&mut self, text: String) -> String {
        let rest = self.stream.finish();
        match self.stop.push(&rest) {
            Passed::Stopped { before, .. } => text + &before,
            Passed::Text(before) => text + &before + &self.stop.finish(),
        }
    }
}
