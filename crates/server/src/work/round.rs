//! One forward pass, and what comes of it.

use std::time::Instant;

use lossy_engine::{Finish, Generation, PAGE_TOKENS, RequestError, RequestErrorKind, Step};

use super::admit::Waiting;
use super::job::Event;
use super::plan::{Lane, Plan, Round, plan};
use super::running::Running;
use super::worker::Worker;
use crate::error::ApiError;

impl Worker {
    /// Runs one batch.
    pub(super) fn round(&mut self) {
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
                        ended.push((index, Ok(finish)));
                    }
                }
                // Nothing was to be generated.
                Ok(None) if running.generation.is_done() => {
                    ended.push((index, Ok(Finish::Length)));
                }
                Ok(None) => {}
                Err(error) => ended.push((index, Err(error.into()))),
            }
        }
        for (index, end) in ended.into_iter().rev() {
            self.ended.push((self.running.remove(index), end));
        }
    }

    /// Tells the listeners of those that have ended. It comes after everybody else was told, so that who has the whole
    /// answer sees a server that does not work on it any more.
    pub(super) fn tell_ended(&mut self) {
        for (mut running, end) in std::mem::take(&mut self.ended).into_iter().rev() {
            match end {
                Ok(finish) => running.finish(finish, &self.counters),
                Err(error) => running.fail(error, &self.counters),
            }
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
                    self.ended.push((running, Err(ApiError::over_budget(needed, limit))));
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
                self.ended.push((running, Err(ApiError::unavailable(error.to_string()))));
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
}
