//! One forward pass, and what comes of it.

use std::time::{Duration, Instant};

use lossy_engine::prefix_cache::PrefixCache;
use lossy_engine::{Beside, Finish, Generation, PAGE_TOKENS, RequestError, RequestErrorKind, Steps};

use super::admit::Waiting;
use super::job::Event;
use super::plan::{Lane, Plan, Round, plan};
use super::running::Running;
use super::worker::Worker;
use crate::counters::Counters;
use crate::error::ApiError;

/// The most tokens of a round that are guessed. How many of them pay, which are fewer the more requests run, the engine knows.
const GUESSED: usize = 32;

/// What a plan counts for rounds between the layers of a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Between {
    /// there are none
    None,
    /// one after each layer
    Counted,
}

impl Worker {
    /// Runs one batch, or a long piece of a prompt and rounds of decoding between its layers.
    pub(super) fn round(&mut self) {
        let Some(shares) = self.shares() else { return };
        let of_readers = self.running.iter().zip(&shares).filter(|(running, _)| running.to_read() > 0);
        let n_read: usize = of_readers.map(|(_, share)| *share).sum();
        let is_mixed = n_read > 0 && shares.iter().sum::<usize>() > n_read;
        let is_beside = is_mixed && !self.pace.is_short(n_read);
        self.make_room(&shares, if is_beside { Between::Counted } else { Between::None });
        self.n_rounds += 1;
        self.counters.rounds.increment(1);
        match is_beside {
            true => self.read_beside_decoding(shares),
            false => self.run_together(&shares, is_mixed),
        }
    }

    /// Gives pages of idle documents back where the budget does not hold what comes.
    fn make_room(&mut self, shares: &[usize], between: Between) {
        let lanes = self.running.iter().zip(shares);
        let needed: usize = lanes.map(|(running, share)| self.bytes_of(running, *share, between)).sum();
        if let Some(left) = self.engine.budget().bytes_left()
            && needed > left
        {
            self.documents.make_room(needed - left);
        }
    }

    /// Bytes of new pages that a lane may need in a round. One that decodes may get its share after each layer of a prompt;
    /// what that takes is counted with `between`.
    fn bytes_of(&self, running: &Running, share: usize, between: Between) -> usize {
        let n = match between {
            Between::Counted if running.to_read() == 0 => self.engine.info().n_layers * share,
            _ => share,
        };
        let sequence = running.generation.sequence();
        sequence.bytes_needed(n.min(sequence.room()))
    }

    /// Runs one batch. `is_mixed`: some of it read, and others decode.
    fn run_together(&mut self, shares: &[usize], is_mixed: bool) {
        let before: Vec<usize> = self.running.iter().map(Running::len).collect();
        let began = Instant::now();
        let mut batch = batch_of(self.running.iter_mut().zip(shares.iter().copied()));
        let steps = match self.engine.advance(&mut batch) {
            Ok(steps) => steps,
            Err(error) if error.kind() == RequestErrorKind::OutOfMemory => return self.give_way(&error),
            Err(_) => self.one_by_one(shares),
        };
        let read =
            |(running, len): (&Running, &usize)| running.len().min(running.prompt.len()).saturating_sub(*len);
        let n_read: usize = self.running.iter().zip(&before).map(read).sum();
        self.counters.prompt_tokens.increment(n_read as u64);
        match n_read {
            0 => self.pace.observe_decode(began.elapsed()),
            _ if is_mixed => self.pace.observe_together(),
            n_read => self.pace.observe_prompt(n_read, began.elapsed()),
        }
        self.take(in_place(steps, shares), &before);
    }

    /// Reads pieces of prompts, and lets those that decode have rounds between the layers.
    fn read_beside_decoding(&mut self, shares: Vec<usize>) {
        let lanes = std::mem::take(&mut self.running).into_iter().zip(shares);
        let (mut readers, others): (Vec<_>, Vec<_>) = lanes.partition(|(running, _)| running.to_read() > 0);
        let mut decoders: Vec<(Running, usize)> = others;
        let before: Vec<usize> = readers.iter().map(|(running, _)| running.len()).collect();
        let n_pieces: usize = readers.iter().map(|(_, share)| *share).sum();
        let (began, mut decoding) = (Instant::now(), Duration::ZERO);
        let Worker { engine, documents, counters, pace, .. } = self;
        if pace.is_due(n_pieces) {
            decoding += decode(|batch| engine.advance(batch), &mut decoders, documents, counters);
            pace.observe_between();
        }
        let mut between = |beside: &mut Beside<'_>| {
            if pace.is_due(n_pieces) {
                decoding += decode(|batch| beside.advance(batch), &mut decoders, documents, counters);
                pace.observe_between();
            }
        };
        let mut batch = batch_of(readers.iter_mut().map(|(running, share)| (running, *share)));
        let steps = engine.advance_beside(&mut batch, &mut between);
        let reading = began.elapsed().saturating_sub(decoding);
        let shares: Vec<usize> = readers.iter().map(|(_, share)| *share).collect();
        // Those that have ended were told.
        decoders.retain(|(running, _)| !running.generation.is_done());
        let decoders = decoders.into_iter().map(|(running, _)| running);
        // Only the readers for now, in the order of `before`.
        self.running = readers.into_iter().map(|(running, _)| running).collect();
        let steps = match steps {
            Ok(steps) => in_place(steps, &shares),
            Err(error) if error.kind() == RequestErrorKind::OutOfMemory => {
                self.running.extend(decoders);
                return self.give_way(&error);
            }
            Err(_) => self.one_by_one(&shares),
        };
        let n_read: usize = self.running.iter().zip(&before).map(|(running, len)| running.len() - len).sum();
        self.counters.prompt_tokens.increment(n_read as u64);
        self.pace.observe_prompt(n_read, reading);
        self.take(steps, &before);
        self.running.extend(decoders);
        self.running.sort_by_key(|running| running.arrival);
    }

    /// Takes what a batch has made.
    fn take(&mut self, steps: Steps, before: &[usize]) {
        let mut ended = Vec::new();
        for (index, (steps, before)) in steps.into_iter().zip(before).enumerate() {
            let running = &mut self.running[index];
            let len = running.len();
            if len == *before && steps.is_empty() && !running.generation.is_done() {
                continue;
            }
            if *before < running.prompt.len() {
                running.keep(&mut self.documents);
                running.reply.send(Event::Reading(len.min(running.prompt.len())));
            }
            // Nothing was to be generated.
            let is_empty = steps.is_empty() && running.generation.is_done();
            let is_first = matches!(steps.first(), Some(Ok(_))) && running.clock.first.is_none() || is_empty;
            if is_first && !running.generation.prompt_logprobs().is_empty() {
                running.reply.send(Event::Prompt(running.generation.prompt_logprobs().to_vec()));
            }
            if is_empty {
                ended.push((index, Ok(Finish::Length)));
            }
            match running.tell_all(steps, &self.counters) {
                Some(Ok(finish)) => {
                    running.keep_for_later(&mut self.documents);
                    ended.push((index, Ok(finish)));
                }
                Some(Err(error)) => ended.push((index, Err(error.into()))),
                None => {}
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
        // Before somebody gives way, pages are written that could be given back then, and prompts wait.
        let mut is_written = false;
        let reads = self.running.iter().any(|running| running.to_read() > 0);
        let mut between = if reads { Between::Counted } else { Between::None };
        loop {
            if self.running.is_empty() {
                return None;
            }
            let lanes: Vec<Lane> = self
                .running
                .iter()
                .map(|running| Lane {
                    to_read: running.to_read(),
                    to_guess: running.generation.most_drafted(),
                    arrival: running.arrival,
                })
                .collect();
            let n_decoding = lanes.iter().filter(|lane| lane.to_read == 0).count();
            let read = match between {
                Between::None if n_decoding > 0 => 0,
                _ => self.pace.prompt_tokens(n_decoding > 0, self.engine.chunk()),
            };
            let bytes = if is_written { self.bytes_left_written() } else { self.bytes_for(read, between) };
            let round = Round { read, guess: GUESSED, bytes, number: self.n_rounds };
            let bytes_of = |index: usize, n: usize| self.bytes_of(&self.running[index], n, between);
            match plan(&lanes, round, &bytes_of) {
                Plan::Run(mut shares) => {
                    for (share, running) in shares.iter_mut().zip(&self.running) {
                        if running.to_read() > 0 {
                            *share = (*share).min(running.piece());
                        }
                    }
                    return Some(shares);
                }
                Plan::Suspend(_) | Plan::NoRoom(_) if !is_written => is_written = true,
                Plan::Suspend(_) if between == Between::Counted && n_decoding > 0 => between = Between::None,
                Plan::Suspend(index) => self.suspend(index),
                Plan::NoRoom(index) => {
                    let running = self.running.remove(index);
                    // What was generated is not lost: the room is full, as a context can be.
                    let end = match running.generation.n_generated() {
                        0 => Err(ApiError::over_budget(
                            running
                                .generation
                                .sequence()
                                .cache()
                                .bytes_of_length(running.len() + PAGE_TOKENS),
                            self.engine.budget().limit().unwrap_or(usize::MAX),
                        )),
                        _ => Ok(Finish::ContextFull),
                    };
                    self.ended.push((running, end));
                }
            }
        }
    }

    /// Bytes for the new pages of a round that reads so many tokens. Idle documents are counted only where what is free may not do.
    fn bytes_for(&self, read: usize, between: Between) -> usize {
        let most = |running: &Running| self.bytes_of(running, running.to_read().min(read).max(1), between);
        match self.engine.budget().bytes_left() {
            Some(free) if free < self.running.iter().map(most).sum() => self.bytes_left(),
            free => free.unwrap_or(usize::MAX / 2),
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

    /// There was no memory for the new pages: pages of idle documents were still being written, or the system has none left,
    /// whatever the budget says.
    fn give_way(&mut self, error: &RequestError) {
        let page =
            self.running.first().map_or(0, |running| running.generation.sequence().bytes_needed(PAGE_TOKENS));
        if self.documents.make_room(page) > 0 {
            return;
        }
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
    fn one_by_one(&mut self, shares: &[usize]) -> Steps {
        let engine = &mut self.engine;
        let alone = |(running, share): (&mut Running, &usize)| {
            if *share == 0 {
                return Vec::new();
            }
            match engine.advance(&mut [(&mut running.generation, *share)]) {
                Ok(steps) => steps.into_iter().next().unwrap_or_default(),
                Err(error) => vec![Err(error)],
            }
        };
        self.running.iter_mut().zip(shares).map(alone).collect()
    }
}

/// What runs of each lane; a lane without a share is left out.
fn batch_of<'a>(lanes: impl Iterator<Item = (&'a mut Running, usize)>) -> Vec<(&'a mut Generation, usize)> {
    lanes.filter(|(_, share)| *share > 0).map(|(running, share)| (&mut running.generation, share)).collect()
}

/// The steps of each lane, where those without a share have made none.
fn in_place(steps: Steps, shares: &[usize]) -> Steps {
    let mut steps = steps.into_iter();
    let of_lane = |share: &usize| if *share > 0 { steps.next().unwrap_or_default() } else { Vec::new() };
    shares.iter().map(of_lane).collect()
}

/// A round of those that decode, between two layers of a prompt. Whoever ends is told at once. An error of the whole round
/// is left to the next round of all, which finds out whose it is.
fn decode(
    advance: impl FnOnce(&mut [(&mut Generation, usize)]) -> Result<Steps, RequestError>,
    decoders: &mut [(Running, usize)],
    documents: &mut PrefixCache,
    counters: &Counters,
) -> Duration {
    let began = Instant::now();
    let mut going: Vec<&mut (Running, usize)> = decoders
        .iter_mut()
        .filter(|(running, _)| !running.generation.is_done() && !running.reply.is_closed())
        .collect();
    if going.is_empty() {
        return began.elapsed();
    }
    let mut batch = batch_of(going.iter_mut().map(|(running, share)| (running, *share)));
    let Ok(steps) = advance(&mut batch) else { return began.elapsed() };
    for ((running, _), steps) in going.into_iter().zip(steps) {
        match running.tell_all(steps, counters) {
            Some(Ok(finish)) => {
                running.keep_for_later(documents);
                running.finish(finish, counters);
            }
            Some(Err(error)) => running.fail(error.into(), counters),
            None => {}
        }
    }
    began.elapsed()
}
