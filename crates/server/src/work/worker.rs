//! The loop of the engine's thread.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::time::Instant;

use lossy_engine::prefix_cache::PrefixCache;
use lossy_engine::{
    Cache, Finish, Generation, PAGE_TOKENS, RequestError, RequestErrorKind, Step, common_prefix,
};
use lossy_tokenizer::Tokenizer;

use super::handle::{Command, Shared, Snapshot};
use super::job::{Admission, Event, Job};
use super::miss::{RecentPrompts, Remembered};
use super::pace::Pace;
use super::plan::{Lane, Plan, Round, plan};
use super::running::{Admitted, Running};
use crate::counters::Counters;
use crate::error::ApiError;

/// How the thread works.
#[derive(Clone, Debug)]
pub struct WorkerOptions {
    /// requests that run at once
    pub parallel: usize,
    /// requests that wait
    pub waiting: usize,
    /// text to ids and back
    pub tokenizer: Tokenizer,
}

/// What waits for its turn.
enum Waiting {
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

pub(super) struct Worker {
    engine: lossy_engine::Engine,
    caches: Vec<Arc<Cache>>,
    documents: PrefixCache,
    recent: RecentPrompts,
    counters: Arc<Counters>,
    shared: Arc<Shared>,
    commands: Receiver<Command>,
    options: WorkerOptions,
    waiting: VecDeque<Waiting>,
    running: Vec<Running>,
    pace: Pace,
    n_rounds: u64,
    n_arrived: u64,
    is_draining: bool,
    /// what ran when the first of the waiting ones found no room: it looks again when that has changed
    blocked: Option<Vec<u64>>,
}

impl Worker {
    pub fn new(
        engine: lossy_engine::Engine,
        caches: Vec<Arc<Cache>>,
        documents: PrefixCache,
        counters: Arc<Counters>,
        shared: Arc<Shared>,
        commands: Receiver<Command>,
        options: WorkerOptions,
    ) -> Worker {
        Worker {
            engine,
            caches,
            documents,
            recent: RecentPrompts::default(),
            counters,
            shared,
            commands,
            options,
            waiting: VecDeque::new(),
            running: Vec::new(),
            pace: Pace::default(),
            n_rounds: 0,
            n_arrived: 0,
            is_draining: false,
            blocked: None,
        }
    }

    /// Works until the server drains or is gone.
    pub fn run(mut self) {
        loop {
            if self.running.is_empty() && self.waiting.is_empty() {
                if self.is_draining {
                    break;
                }
                self.publish();
                match self.commands.recv() {
                    Ok(command) => self.obey(command),
                    Err(_) => break,
                }
            }
            while let Ok(command) = self.commands.try_recv() {
                self.obey(command);
            }
            self.drop_abandoned();
            self.admit();
            self.round();
            self.publish();
        }
        self.documents.flush();
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Submit(job) => self.waiting.push_back(Waiting::New { job, arrived: Instant::now() }),
            Command::Purge(scope, reply) => {
                self.recent.forget(scope.as_ref());
                let n_before = self.n_pages();
                let purged = self.documents.purge(scope.as_ref());
                let _ = reply.send(purged.map(|()| n_before.saturating_sub(self.n_pages())));
            }
            Command::Drain => self.is_draining = true,
        }
    }

    /// Pages that stay loaded, in memory and on the disk.
    fn n_pages(&self) -> usize {
        let stats = self.documents.stats();
        stats.n_pages.max(stats.n_disk_pages)
    }

    /// Ends what nobody listens to. What was read stays for the next time.
    fn drop_abandoned(&mut self) {
        let mut index = 0;
        while index < self.running.len() {
            if self.running[index].reply.is_closed() {
                let mut running = self.running.swap_remove(index);
                running.keep_for_later(&mut self.documents);
                self.counters.finish("abort");
            } else {
                index += 1;
            }
        }
        let (counters, shared) = (&self.counters, &self.shared);
        self.waiting.retain(|waiting| {
            let (reply, is_new) = match waiting {
                Waiting::New { job, .. } => (&job.reply, true),
                Waiting::Suspended(running) => (&running.reply, false),
            };
            if reply.is_closed() {
                counters.finish("abort");
                shared.n_waiting.fetch_sub(usize::from(is_new), Ordering::SeqCst);
            }
            !reply.is_closed()
        });
    }

    /// Lets those run that waited longest, as far as there are places and room.
    fn admit(&mut self) {
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
        // One more page for what is read at once.
        let whole = cache.bytes_of_length(prompt.len() + n_generated + PAGE_TOKENS);
        let needed = whole.saturating_sub(found.sequence.kv_bytes());
        let promised: usize = self.running.iter().map(|running| self.promised(running)).sum();
        if needed.saturating_add(promised) > self.bytes_left() {
            if !self.running.is_empty() {
                return Entry::NoRoom(waiting);
            }
            if needed > self.bytes_left() {
                let error = ApiError::over_budget(whole, self.engine.budget().limit().unwrap_or(usize::MAX));
                self.counters.finish("error");
                match waiting {
                    Waiting::New { job, .. } => job.reply.send(Event::Failed(error)),
                    Waiting::Suspended(running) => running.reply.send(Event::Failed(error)),
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
                let admission = Admission { n_cached, miss };
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

    /// Bytes for new pages, those of idle documents included.
    fn bytes_left(&self) -> usize {
        let left = self.engine.budget().bytes_left();
        left.map_or(usize::MAX / 2, |left| left + self.documents.bytes_idle())
    }

    /// Runs one batch.
    fn round(&mut self) {
        let Some(shares) = self.shares() else { return };
        let needed: usize = self
            .running
            .iter()
            .zip(&shares)
            .map(|(running, share)| running.generation.sequence().bytes_needed(*share))
            .sum();
        if let Some(left) = self.engine.budget().bytes_left()
            && needed > left
        {
            self.documents.make_room(needed - left);
        }
        let before: Vec<usize> = self.running.iter().map(Running::len).collect();
        let began = Instant::now();
        let mut batch: Vec<(&mut Generation, usize)> = self
            .running
            .iter_mut()
            .zip(&shares)
            .map(|(running, share)| (&mut running.generation, *share))
            .collect();
        let steps = match self.engine.advance(&mut batch) {
            Ok(steps) => steps,
            Err(error) if error.kind() == RequestErrorKind::OutOfMemory => {
                self.give_way(&error);
                return;
            }
            Err(_) => self.one_by_one(&shares),
        };
        self.n_rounds += 1;
        self.counters.rounds.increment(1);
        let (mut n_decoding, mut n_read) = (0, 0);
        for (running, len) in self.running.iter().zip(&before) {
            let n_new = running.len().saturating_sub(*len);
            if *len < running.prompt.len() {
                n_read += n_new;
            } else {
                n_decoding += n_new;
            }
        }
        self.counters.prompt_tokens.increment(n_read as u64);
        self.pace.observe(n_decoding, n_read, began.elapsed().as_secs_f64());
        self.take(steps, &before);
    }

    /// Takes what a batch has made.
    fn take(&mut self, steps: Vec<Result<Option<Step>, RequestError>>, before: &[usize]) {
        let mut ended = Vec::new();
        for (index, (step, before)) in steps.into_iter().zip(before).enumerate() {
            let running = &mut self.running[index];
            let len = running.len();
            if len == *before && matches!(step, Ok(None)) && !running.generation.is_done() {
                continue;
            }
            if *before < running.prompt.len() {
                running.keep(&mut self.documents);
                running.reply.send(Event::Reading(len.min(running.prompt.len())));
            }
            let is_first = matches!(step, Ok(Some(_))) && running.clock.first.is_none()
                || matches!(step, Ok(None)) && running.generation.is_done();
            if is_first && !running.generation.prompt_logprobs().is_empty() {
                running.reply.send(Event::Prompt(running.generation.prompt_logprobs().to_vec()));
            }
            match step {
                Ok(Some(step)) => {
                    let finish = step.finish;
                    running.tell(step, &self.counters);
                    if let Some(finish) = finish {
                        running.keep_for_later(&mut self.documents);
                        running.finish(finish, &self.counters);
                        ended.push(index);
                    }
                }
                // Nothing was to be generated.
                Ok(None) if running.generation.is_done() => {
                    running.finish(Finish::Length, &self.counters);
                    ended.push(index);
                }
                Ok(None) => {}
                Err(error) => {
                    running.fail(error.into(), &self.counters);
                    ended.push(index);
                }
            }
        }
        for index in ended.into_iter().rev() {
            self.running.remove(index);
        }
    }

    /// How many tokens each runs next; `None`: nothing runs.
    fn shares(&mut self) -> Option<Vec<usize>> {
        loop {
            if self.running.is_empty() {
                return None;
            }
            let lanes: Vec<Lane> = self
                .running
                .iter()
                .map(|running| Lane { to_read: running.to_read(), arrival: running.arrival })
                .collect();
            let n_decoding = lanes.iter().filter(|lane| lane.to_read == 0).count();
            let read = self.pace.prompt_tokens(n_decoding, self.engine.chunk());
            let round = Round { read, bytes: self.bytes_left(), number: self.n_rounds };
            let bytes_of = |index: usize, n: usize| {
                if n == 0 { 0 } else { self.running[index].generation.sequence().bytes_needed(n) }
            };
            match plan(&lanes, round, &bytes_of) {
                Plan::Run(mut shares) => {
                    for (share, running) in shares.iter_mut().zip(&self.running) {
                        if running.to_read() > 0 {
                            *share = (*share).min(running.piece());
                        }
                    }
                    return Some(shares);
                }
                Plan::Suspend(index) => self.suspend(index),
                Plan::NoRoom(index) => {
                    let running = self.running.remove(index);
                    let limit = self.engine.budget().limit().unwrap_or(usize::MAX);
                    let cache = running.generation.sequence().cache();
                    let needed = cache.bytes_of_length(running.len() + PAGE_TOKENS);
                    running.fail(ApiError::over_budget(needed, limit), &self.counters);
                }
            }
        }
    }

    /// Takes the pages of a request, which waits until there is room again.
    fn suspend(&mut self, index: usize) {
        let mut running = self.running.remove(index);
        running.keep_for_later(&mut self.documents);
        running.generation.suspend();
        self.counters.preemptions.increment(1);
        self.waiting.push_front(Waiting::Suspended(Box::new(running)));
        self.blocked = Some(self.running.iter().map(|running| running.arrival).collect());
    }

    /// The system has no memory left, whatever the budget says.
    fn give_way(&mut self, error: &RequestError) {
        match self.running.iter().enumerate().max_by_key(|(_, running)| running.arrival) {
            Some((newest, _)) if self.running.len() > 1 => self.suspend(newest),
            Some((only, _)) => {
                let running = self.running.remove(only);
                running.fail(ApiError::unavailable(error.to_string()), &self.counters);
            }
            None => {}
        }
    }

    /// A batch has failed: each of it runs alone, so that it fails only for whose fault it is.
    fn one_by_one(&mut self, shares: &[usize]) -> Vec<Result<Option<Step>, RequestError>> {
        let engine = &mut self.engine;
        let alone = |(running, share): (&mut Running, &usize)| {
            let steps = engine.advance(&mut [(&mut running.generation, *share)])?;
            steps.into_iter().next().unwrap_or(Ok(None))
        };
        self.running.iter_mut().zip(shares).map(alone).collect()
    }

    /// Tells everybody how it stands.
    fn publish(&self) {
        let budget = self.engine.budget();
        let (in_use, idle) = (budget.bytes_in_use(), self.documents.bytes_idle());
        self.counters.running.set(self.running.len() as f64);
        self.counters.waiting.set(self.waiting.len() as f64);
        self.counters.cache_bytes.set(in_use as f64);
        self.counters.idle_bytes.set(idle as f64);
        let used = in_use.saturating_sub(idle) as f64;
        self.counters.cache_usage.set(budget.limit().map_or(0.0, |limit| used / limit.max(1) as f64));
        let slots = self.running.iter().enumerate().map(|(id, running)| running.slot(id)).collect();
        self.shared.publish(Snapshot { slots, cache_bytes: in_use, idle_bytes: idle });
    }
}
