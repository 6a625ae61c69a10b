//! Who of those that wait may run.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::Instant;

use lossy_engine::{Finish, Generation, PAGE_TOKENS, common_prefix};

use super::job::{Admission, Event, Job};
use super::miss::Remembered;
use super::running::{Admitted, Running};
use super::worker::Worker;
use crate::error::ApiError;

/// What waits for its turn.
pub(super) enum Waiting {
    New { job: Box<Job>, arrived: Instant },
    Suspended(Box<Running>),
}

/// Whether a waiting request can run.
enum Entry {
    Runs(Box<Running>),
    /// another one reads what both begin with
    Held(Waiting),
    NoRoom(Waiting),
    Failed,
}

impl Worker {
    /// Lets those run that waited longest, as far as there are places and room.
    pub(super) fn admit(&mut self) {
        let arrivals = || self.running.iter().map(|running| running.arrival).collect::<Vec<u64>>();
        if self.blocked.as_ref().is_some_and(|blocked| *blocked == arrivals()) {
            return;
        }
        self.blocked = None;
        let mut held = VecDeque::new();
        while self.running.len() < self.options.parallel
            && let Some(waiting) = self.waiting.pop_front()
        {
            let is_new = matches!(waiting, Waiting::New { .. });
            match self.enter(waiting) {
                Entry::Runs(running) => self.running.push(*running),
                Entry::Failed => {}
                Entry::Held(waiting) => {
                    held.push_back(waiting);
                    continue;
                }
                Entry::NoRoom(waiting) => {
                    held.push_back(waiting);
                    self.blocked = Some(self.running.iter().map(|running| running.arrival).collect());
                    break;
                }
            }
            self.shared.n_waiting.fetch_sub(usize::from(is_new), Ordering::SeqCst);
        }
        while let Some(waiting) = held.pop_back() {
            self.waiting.push_front(waiting);
        }
    }

    fn enter(&mut self, waiting: Waiting) -> Entry {
        let (prompt, setting, scope) = match &waiting {
            Waiting::New { job, .. } => (job.prompt.clone(), job.setting, job.scope),
            Waiting::Suspended(running) => (running.prompt.clone(), running.setting, running.scope),
        };
        // Somebody reads what both begin with: it is read once.
        for running in &mut self.running {
            if running.setting == setting && running.scope == scope && running.to_read() > 0 {
                let common = common_prefix(&running.prompt, &prompt) / PAGE_TOKENS * PAGE_TOKENS;
                if common > running.len() {
                    running.add_checkpoint(common);
                    return Entry::Held(waiting);
                }
            }
        }
        let cache = self.caches[setting].clone();
        let n_generated = match &waiting {
            Waiting::New { .. } => 0,
            Waiting::Suspended(running) => running.generation.n_generated(),
        };
        // Where every token's logits are wanted, nothing can be left out.
        let is_scored = matches!(&waiting, Waiting::New { job, .. } if job.options.prompt_logprobs);
        let searched = if is_scored { &[] } else { &prompt[..] };
        let found = self.documents.find(&cache, &scope, searched);
        for damaged in &found.damaged {
            self.options.notes.tell(&format!("documents: {damaged}"));
        }
        // One more page for what is read at once.
        let whole = cache.bytes_of_length(prompt.len() + n_generated + PAGE_TOKENS);
        let needed = whole.saturating_sub(found.sequence.kv_bytes());
        let promised: usize = self.running.iter().map(|running| self.promised(running)).sum();
        if needed.saturating_add(promised) > self.bytes_left()
            && needed.saturating_add(promised) > self.bytes_left_written()
        {
            if !self.running.is_empty() {
                return Entry::NoRoom(waiting);
            }
            if needed > self.bytes_left() {
                let error = ApiError::over_budget(whole, self.engine.budget().limit().unwrap_or(usize::MAX));
                match waiting {
                    Waiting::New { job, .. } => {
                        self.counters.finish("error");
                        job.reply.send(Event::Failed(error));
                    }
                    // What it has generated is not lost.
                    Waiting::Suspended(running) if running.generation.n_generated() > 0 => {
                        self.ended.push((*running, Ok(Finish::ContextFull)));
                    }
                    Waiting::Suspended(running) => self.ended.push((*running, Err(error))),
                }
                return Entry::Failed;
            }
        }
        let n_cached = found.sequence.len();
        match waiting {
            Waiting::Suspended(mut running) => {
                running.cursor = found.cursor;
                match running.generation.resume_from(found.sequence) {
                    Ok(()) => Entry::Runs(running),
                    Err(error) => {
                        running.fail(error.into(), &self.counters);
                        Entry::Failed
                    }
                }
            }
            Waiting::New { job, arrived } => {
                let Job { prompt, options, mask, setting, scope, outline, reply } = *job;
                let remembered =
                    Remembered { prompt: prompt.clone(), outline: outline.clone(), setting, scope };
                let miss = self.recent.explain(&remembered, n_cached, !found.damaged.is_empty());
                self.recent.push(remembered);
                self.counters.prefix_queries.increment(prompt.len() as u64);
                self.counters.prefix_hits.increment(n_cached as u64);
                let admission = Admission { n_prompt: prompt.len(), n_cached, miss };
                let tokenizer = self.options.tokenizer.clone();
                let generation = match Generation::new(tokenizer, found.sequence, prompt.to_vec(), options) {
                    Ok(generation) => generation,
                    Err(error) => {
                        self.counters.finish("error");
                        reply.send(Event::Failed(error.into()));
                        return Entry::Failed;
                    }
                };
                let generation = match mask {
                    Some(mask) => generation.with_mask(mask),
                    None => generation,
                };
                reply.send(Event::Admitted(admission.clone()));
                self.n_arrived += 1;
                let admitted = Admitted { prompt, setting, scope, reply, admission, arrived, outline };
                Entry::Runs(Box::new(Running::new(self.n_arrived, generation, admitted, found.cursor)))
            }
        }
    }

    /// Bytes that a request may still take until its prompt is read and a page of the answer is written.
    fn promised(&self, running: &Running) -> usize {
        let n_tokens = running.prompt.len().max(running.len()) + PAGE_TOKENS;
        let sequence = running.generation.sequence();
        sequence.cache().bytes_of_length(n_tokens).saturating_sub(sequence.kv_bytes())
    }

    /// The same when all pages that wait to be written to the disk have been: until then they cannot be given back.
    pub(super) fn bytes_left_written(&mut self) -> usize {
        self.documents.flush();
        self.bytes_left()
    }

    /// Bytes for new pages, those of idle documents included. Looks at every idle page.
    pub(super) fn bytes_left(&self) -> usize {
        let left = self.engine.budget().bytes_left();
        left.map_or(usize::MAX / 2, |left| left + self.documents.bytes_idle())
    }
}
