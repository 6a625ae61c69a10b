//! A request that runs: its generation, and what is told and kept of it.

use std::sync::Arc;
use std::time::Instant;

use lossy_engine::prefix_cache::{Cursor, PrefixCache, Scope};
use lossy_engine::{Finish, Generation, PAGE_TOKENS, RequestError, Step};

use super::handle::Slot;
use super::job::{Admission, Clock, Event, Outcome, Outline, Reply};
use crate::counters::Counters;
use crate::error::ApiError;

/// Between two places of a prompt from which another one can go on there are so many tokens at most.
const CHECKPOINT_TOKENS: usize = 32 * PAGE_TOKENS;

/// A request that runs, or that gave up its pages and waits.
pub(super) struct Running {
    /// smaller came earlier
    pub arrival: u64,
    pub generation: Generation,
    pub prompt: Arc<[u32]>,
    pub setting: usize,
    pub scope: Scope,
    pub reply: Reply,
    pub admission: Admission,
    pub clock: Clock,
    /// how far its pages are in the cache of documents
    pub cursor: Cursor,
    /// lengths, whole pages, after which other prompts may go on; ascending
    checkpoints: Vec<usize>,
    /// guessed tokens, and right ones among them, that the counters have
    counted: (usize, usize),
}

/// Where other prompts may go on: where the first and the last messages end, and here and there in long ones.
pub(super) fn checkpoints(n_prompt: usize, outline: &Outline) -> Vec<usize> {
    let ends = outline.parts.iter().map(|part| part.start);
    let mut chosen: Vec<usize> = ends.clone().take(3).chain(ends.rev().take(2)).collect();
    chosen.extend((CHECKPOINT_TOKENS..n_prompt).step_by(CHECKPOINT_TOKENS));
    chosen.push(n_prompt);
    let mut pages: Vec<usize> = chosen.iter().map(|len| len / PAGE_TOKENS * PAGE_TOKENS).collect();
    pages.sort_unstable();
    pages.dedup();
    pages.retain(|len| *len > 0);
    pages
}

/// What a request was admitted with.
pub(super) struct Admitted {
    pub prompt: Arc<[u32]>,
    pub setting: usize,
    pub scope: Scope,
    pub reply: Reply,
    pub admission: Admission,
    pub arrived: Instant,
    pub outline: Arc<Outline>,
}

impl Running {
    pub fn new(arrival: u64, generation: Generation, admitted: Admitted, cursor: Cursor) -> Running {
        let Admitted { prompt, setting, scope, reply, admission, arrived, outline } = admitted;
        let clock = Clock { arrived, admitted: Instant::now(), first: None, last: None };
        let checkpoints = checkpoints(prompt.len(), &outline);
        Running {
            arrival,
            generation,
            prompt,
            setting,
            scope,
            reply,
            admission,
            clock,
            cursor,
            checkpoints,
            counted: (0, 0),
        }
    }

    /// Tokens in its sequence.
    pub fn len(&self) -> usize {
        self.generation.sequence().len()
    }

    /// Tokens of the prompt that are still to be read; 0: it decodes.
    pub fn to_read(&self) -> usize {
        self.prompt.len().saturating_sub(self.len())
    }

    /// The most tokens of the prompt that may be read in one piece: up to the next place where another prompt may go on.
    pub fn piece(&self) -> usize {
        let len = self.len();
        let next = self.checkpoints.iter().find(|checkpoint| **checkpoint > len);
        next.map_or(self.to_read(), |next| next - len)
    }

    /// From now on another prompt may go on after so many tokens, if they are still to be read.
    pub fn add_checkpoint(&mut self, len: usize) {
        if let Err(place) = self.checkpoints.binary_search(&len) {
            self.checkpoints.insert(place, len);
        }
    }

    /// Keeps the pages of what has been read of the prompt.
    pub fn keep(&mut self, documents: &mut PrefixCache) {
        let len = self.len().min(self.prompt.len());
        let is_place = len == self.prompt.len() || self.checkpoints.binary_search(&len).is_ok();
        documents.keep(&mut self.cursor, self.generation.sequence(), len, is_place);
    }

    /// Keeps all that can be kept, so that the same prompt can go on here.
    pub fn keep_for_later(&mut self, documents: &mut PrefixCache) {
        let sequence = self.generation.sequence();
        let all = sequence.cache().computes_alike();
        let len = if all { sequence.len() } else { sequence.len().min(self.prompt.len()) };
        documents.keep(&mut self.cursor, sequence, len, true);
    }

    /// Tells the listener of the tokens of a round. Returns how the answer has ended, if it has.
    pub fn tell_all(
        &mut self,
        steps: Vec<Result<Step, RequestError>>,
        counters: &Counters,
    ) -> Option<Result<Finish, RequestError>> {
        let counts = (self.generation.n_drafted(), self.generation.n_accepted());
        let (drafted, accepted) = std::mem::replace(&mut self.counted, counts);
        counters.drafted_tokens.increment((counts.0 - drafted) as u64);
        counters.accepted_tokens.increment((counts.1 - accepted) as u64);
        counters.drafts.increment(u64::from(counts.0 > drafted));
        let mut end = None;
        for step in steps {
            match step {
                Ok(step) => {
                    end = step.finish.map(Ok);
                    self.tell(step, counters);
                }
                Err(error) => end = Some(Err(error)),
            }
        }
        end
    }

    /// Tells the listener of a token, and the counters how long it took.
    fn tell(&mut self, step: Step, counters: &Counters) {
        let now = Instant::now();
        match self.clock.last {
            None => {
                self.clock.first = Some(now);
                counters.first_token.record(now.duration_since(self.clock.arrived).as_secs_f64());
            }
            Some(last) => counters.inter_token.record(now.duration_since(last).as_secs_f64()),
        }
        self.clock.last = Some(now);
        counters.generated_tokens.increment(1);
        self.reply.send(Event::Step(step));
    }

    /// Tells the listener that it has ended.
    pub fn finish(&mut self, finish: Finish, counters: &Counters) {
        let timings = self.clock.timings(&self.admission, &self.generation);
        counters.prompt_seconds.increment(timings.prompt_ms / 1e3);
        counters.generated_seconds.increment(timings.predicted_ms / 1e3);
        if timings.prompt_n > 0 {
            counters.prompt_rate.set(timings.prompt_per_second);
        }
        if timings.predicted_n > 1 {
            counters.generated_rate.set(timings.predicted_per_second);
        }
        counters.whole.record(self.clock.arrived.elapsed().as_secs_f64());
        let rest = if self.generation.is_done() { String::new() } else { self.generation.end() };
        let outcome = Outcome { finish, rest, timings };
        counters.finish(outcome.reason());
        self.reply.send(Event::Done(Box::new(outcome)));
    }

    /// Tells the listener that it cannot go on.
    pub fn fail(&self, error: ApiError, counters: &Counters) {
        counters.finish("error");
        self.reply.send(Event::Failed(error));
    }

    /// As `/slots` shows it.
    pub fn slot(&self, id: usize) -> Slot {
        Slot {
            id,
            id_task: self.arrival,
            n_ctx: self.generation.sequence().cache().n_ctx(),
            is_processing: true,
            n_prompt_tokens: self.prompt.len(),
            n_prompt_tokens_processed: self.len().min(self.prompt.len()),
            n_decoded: self.generation.n_generated(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::job::Part;
    use super::*;

    #[test]
    fn other_prompts_may_go_on_behind_the_first_and_the_last_messages_and_in_long_ones() {
        let starts = [3, 300, 20_000, 20_100, 20_500, 20_900];
        let part = |(message, &start): (usize, &usize)| Part { start, message, role: "user".to_string() };
        let outline = Outline { parts: starts.iter().enumerate().map(part).collect(), template: 0 };
        let wanted = [256, 4096, 8192, 12_288, 16_384, 19_968, 20_480, 20_864, 21_120];
        assert_eq!(checkpoints(21_130, &outline), wanted);
        assert_eq!(checkpoints(127, &Outline::default()), [0; 0]);
        assert_eq!(checkpoints(128, &Outline::default()), [128]);
    }
}
