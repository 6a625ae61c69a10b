//! One answer: reads the prompt, generates, prints each piece of text when it is certain, and counts.

use std::io;
use std::time::{Duration, Instant};

use anyhow::Result;
use lossy_engine::{Finish, Generation, GenerationOptions, KvScheme, RequestError, Sampled, Sequence, Step};

use crate::interrupt;
use crate::loaded::Loaded;
use crate::terminal::{self, Prefill};
use crate::units;

/// What was generated, and how long it took.
#[derive(Debug)]
pub struct Answer {
    /// everything that was printed
    pub text: String,
    /// the tokens with their log-probabilities, if those were asked for
    pub sampled: Vec<Sampled>,
    /// why it ended
    pub end: End,
    /// counts and times
    pub stats: Stats,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// the model, a stop text or a limit
    Finished(Finish),
    /// Ctrl-C
    Interrupted,
}

impl End {
    /// In a few words.
    fn reason(self) -> &'static str {
        match self {
            End::Finished(Finish::EndOfText) => "end of text",
            End::Finished(Finish::StopText { .. }) => "--stop",
            End::Finished(Finish::Length) => "-n",
            End::Finished(Finish::ContextFull) => "context full",
            End::Finished(Finish::Cycle { .. }) => "in circles",
            End::Interrupted => "stopped",
        }
    }
}

impl Answer {
    /// The line after an answer. `kv`: how the cache is stored; `seed`: of random sampling.
    pub fn line(&self, kv: &KvScheme, seed: Option<u64>) -> String {
        self.stats.line(self.end, kv, seed)
    }
}

/// Counts and times of one answer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    /// tokens of the prompt that were read now
    pub n_prompt: usize,
    /// tokens of the prompt that the cache still held
    pub n_cached: usize,
    /// tokens that were generated
    pub n_generated: usize,
    /// from the start to the end of the prompt
    pub prompt_time: Duration,
    /// from the end of the prompt to the last token
    pub generation_time: Duration,
    /// from the start to the first token
    pub first_token: Option<Duration>,
    /// tokens that were guessed and computed, and those of them that were right
    pub n_drafted: usize,
    /// see `n_drafted`
    pub n_accepted: usize,
    /// of the cache at the end
    pub kv_bytes: usize,
    /// of the pages that the prompt and the answer saw, where they may skip some
    pub share_of_pages_read: Option<f64>,
}

impl Stats {
    fn line(&self, end: End, kv: &KvScheme, seed: Option<u64>) -> String {
        let cached = match self.n_cached {
            0 => String::new(),
            n => format!(" (+ {} cached)", units::grouped(n as u64)),
        };
        // The first token comes out of the prompt's logits; the time after it makes the others.
        let n_timed = self.n_generated.saturating_sub(1);
        let mut line = format!(
            "prompt {} tokens{cached}, {} | generated {} ({}), {} | KV cache {} ({kv})",
            units::grouped(self.n_prompt as u64),
            rate(self.n_prompt, self.prompt_time),
            units::grouped(self.n_generated as u64),
            end.reason(),
            rate(n_timed, self.generation_time),
            units::bytes(self.kv_bytes as u64),
        );
        if let Some(share) = self.share_of_pages_read {
            line.push_str(&format!(" | {}", terminal::pages_read(share)));
        }
        if self.n_drafted > 0 {
            let (right, guessed) =
                (units::grouped(self.n_accepted as u64), units::grouped(self.n_drafted as u64));
            line.push_str(&format!(" | {right} of {guessed} guesses right"));
        }
        if let Some(time) = self.first_token {
            line.push_str(&format!(" | first token after {:.2} s", time.as_secs_f64()));
        }
        if let Some(seed) = seed {
            line.push_str(&format!(" | seed {seed}"));
        }
        line
    }
}

/// `81.3 t/s`
fn rate(n_tokens: usize, time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if n_tokens == 0 || seconds <= 0.0 {
        return "- t/s".to_string();
    }
    format!("{:.1} t/s", n_tokens as f64 / seconds)
}

/// What is said besides the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notes {
    /// what is needed only
    Few,
    /// counts and speeds at the end
    Usual,
    /// those of every chunk of the prompt too
    Many,
}

/// What it takes to answer: a model, how to sample, and where the text goes.
pub struct Speaker<'a> {
    /// the model
    pub loaded: &'a mut Loaded,
    /// sampling and stopping
    pub options: &'a GenerationOptions,
    /// what is said besides
    pub notes: Notes,
    /// gets each piece of text as soon as it is certain
    pub print: &'a mut dyn FnMut(&str) -> io::Result<()>,
    /// gets the sequence when the whole prompt has been read, before anything is printed
    pub after_prompt: Option<&'a mut AfterPrompt<'a>>,
}

/// See [`Speaker::after_prompt`]. The number is that of the prompt's tokens that were read now.
pub type AfterPrompt<'a> = dyn FnMut(&Sequence, usize) -> Result<()> + 'a;

impl Speaker<'_> {
    /// Brings `sequence` to hold `prompt`, and generates. What the two have in common stays in the cache.
    ///
    /// # Errors
    /// The prompt does not fit in the context, or `print` fails. Ctrl-C is not an error.
    pub fn answer(&mut self, sequence: &mut Sequence, prompt: &[u32]) -> Result<Answer> {
        // A prompt that is refused leaves the sequence as it is.
        let tokenizer = self.loaded.tokenizer.clone();
        let mut generation =
            Generation::new(tokenizer, sequence.fork(), prompt.to_vec(), self.options.clone())?;
        sequence.truncate(0);
        let n_cached = generation.sequence().len();
        let mut answer = Answer {
            text: String::new(),
            sampled: Vec::new(),
            end: End::Finished(Finish::Length),
            stats: Stats { n_prompt: prompt.len() - n_cached, n_cached, ..Stats::default() },
        };
        let start = Instant::now();
        let result = match self.read(&mut generation, n_cached, &mut answer) {
            Ok(Some(first)) => self.generate(&mut generation, first, start, &mut answer),
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        (answer.stats.n_drafted, answer.stats.n_accepted) = (generation.n_drafted(), generation.n_accepted());
        *sequence = generation.into_sequence();
        answer.stats.kv_bytes = sequence.kv_bytes();
        answer.stats.share_of_pages_read = sequence.share_of_pages_read();
        result.map(|()| answer)
    }

    /// Reads the prompt; the first step behind it, if there is one.
    fn read(
        &mut self,
        generation: &mut Generation,
        n_cached: usize,
        answer: &mut Answer,
    ) -> Result<Option<Step>> {
        let n_total = generation.n_prompt() - n_cached;
        let bar = Prefill::start(n_total);
        let start = Instant::now();
        let mut first = None;
        while generation.is_reading() {
            if interrupt::is_asked() {
                answer.stats.n_prompt = generation.sequence().len() - n_cached;
                answer.stats.prompt_time = start.elapsed();
                answer.end = End::Interrupted;
                return Ok(None);
            }
            let (n_before, before) = (generation.sequence().len(), start.elapsed());
            // Behind a prompt stands one step at most.
            first = self.advance(generation)?.pop().transpose()?;
            let (n_done, elapsed) = (generation.sequence().len(), start.elapsed());
            bar.set(n_done - n_cached, generation.sequence().share_of_pages_read());
            if self.notes == Notes::Many {
                let chunk = (n_done - n_before, elapsed - before);
                bar.note(&chunk_line(n_done - n_cached, n_total, chunk, elapsed));
            }
        }
        answer.stats.prompt_time = start.elapsed();
        if let Some(after_prompt) = &mut self.after_prompt {
            after_prompt(generation.sequence(), n_total)?;
        }
        Ok(first)
    }

    fn advance(
        &mut self,
        generation: &mut Generation,
    ) -> Result<Vec<Result<Step, RequestError>>, RequestError> {
        let engine = &mut self.loaded.engine;
        // However short the pieces of a prompt are, several tokens can be guessed.
        let most = if generation.is_reading() { engine.chunk() } else { usize::MAX };
        let mut steps = engine.advance(&mut [(generation, most)])?;
        Ok(steps.pop().unwrap_or_default())
    }

    /// Prints the first step and all others.
    fn generate(
        &mut self,
        generation: &mut Generation,
        first_step: Step,
        start: Instant,
        answer: &mut Answer,
    ) -> Result<()> {
        let first = Instant::now();
        answer.stats.first_token = Some(first - start);
        let mut steps = vec![Ok(first_step)];
        let failure = 'rounds: loop {
            for step in steps {
                let step = match step {
                    Ok(step) => step,
                    Err(error) => break 'rounds Some(error),
                };
                answer.stats.n_generated += 1;
                answer.stats.generation_time = first.elapsed();
                say(self.print, &step.text, answer)?;
                if self.options.sampling.n_logprobs.is_some() {
                    answer.sampled.push(step.sampled);
                }
                if let Some(finish) = step.finish {
                    answer.end = End::Finished(finish);
                    return Ok(());
                }
            }
            if interrupt::is_asked() {
                answer.end = End::Interrupted;
                break None;
            }
            match self.advance(generation) {
                Ok(next) if next.is_empty() => return Ok(()),
                Ok(next) => steps = next,
                Err(error) => break Some(error),
            }
        };
        say(self.print, &generation.end(), answer)?;
        failure.map_or(Ok(()), |error| Err(error.into()))
    }
}

/// `prompt 1,024 of 8,000 tokens: 512 in 1.21 s, 423.1 t/s, 2.3 s in all`; `chunk`: tokens and time of the last one.
fn chunk_line(n_done: usize, n_total: usize, chunk: (usize, Duration), elapsed: Duration) -> String {
    format!(
        "prompt {} of {} tokens: {} in {:.2} s, {}, {:.1} s in all",
        units::grouped(n_done as u64),
        units::grouped(n_total as u64),
        units::grouped(chunk.0 as u64),
        chunk.1.as_secs_f64(),
        rate(chunk.0, chunk.1),
        elapsed.as_secs_f64(),
    )
}

fn say(print: &mut dyn FnMut(&str) -> io::Result<()>, text: &str, answer: &mut Answer) -> io::Result<()> {
    if !text.is_empty() {
        print(text)?;
        answer.text.push_str(text);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn f16() -> KvScheme {
        KvScheme::exact(lossy_engine::KvType::F16)
    }

    #[test]
    fn the_line_has_counts_rates_and_bytes() {
        let stats = Stats {
            n_prompt: 1200,
            n_cached: 34,
            n_generated: 11,
            prompt_time: Duration::from_secs(2),
            generation_time: Duration::from_millis(100),
            first_token: Some(Duration::from_millis(2010)),
            n_drafted: 1000,
            n_accepted: 7,
            kv_bytes: 27 << 20,
            share_of_pages_read: Some(0.314),
        };
        let line = "prompt 1,200 tokens (+ 34 cached), 600.0 t/s | generated 11 (end of text), 100.0 t/s | KV cache 27.0 MiB (f16) \
                    | 31 % of pages read | 7 of 1,000 guesses right | first token after 2.01 s | seed 7";
        assert_eq!(stats.line(End::Finished(Finish::EndOfText), &f16(), Some(7)), line);
    }

    #[test]
    fn a_chunk_has_its_own_speed() {
        let line = chunk_line(1024, 8000, (512, Duration::from_millis(2000)), Duration::from_millis(3100));
        assert_eq!(line, "prompt 1,024 of 8,000 tokens: 512 in 2.00 s, 256.0 t/s, 3.1 s in all");
    }

    #[test]
    fn nothing_generated_has_no_rate() {
        let line = Stats::default().line(End::Interrupted, &f16(), None);
        assert_eq!(line, "prompt 0 tokens, - t/s | generated 0 (stopped), - t/s | KV cache 0 B (f16)");
    }
}
