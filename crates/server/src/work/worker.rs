//! The loop of the engine's thread.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use lossy_engine::prefix_cache::{PrefixCache, Scope};
use lossy_engine::{Cache, Finish};
use lossy_tokenizer::Tokenizer;

use super::admit::Waiting;
use super::handle::{Command, Shared, Snapshot};
use super::miss::RecentPrompts;
use super::pace::Pace;
use super::running::Running;
use crate::counters::Counters;
use crate::error::ApiError;
use crate::options::Notes;

/// While requests run, what is idle is counted so rarely: every page is looked at.
const IDLE_EVERY: Duration = Duration::from_millis(100);

/// How the thread works.
#[derive(Clone, Debug)]
pub struct WorkerOptions {
    /// requests that run at once
    pub parallel: usize,
    /// requests that wait
    pub waiting: usize,
    /// text to ids and back
    pub tokenizer: Tokenizer,
    /// who is told of what happens beside requests
    pub notes: Notes,
}

pub(super) struct Worker {
    pub(super) engine: lossy_engine::Engine,
    pub(super) caches: Vec<Arc<Cache>>,
    pub(super) documents: PrefixCache,
    pub(super) recent: RecentPrompts,
    pub(super) counters: Arc<Counters>,
    pub(super) shared: Arc<Shared>,
    pub(super) commands: Receiver<Command>,
    pub(super) options: WorkerOptions,
    pub(super) waiting: VecDeque<Waiting>,
    pub(super) running: Vec<Running>,
    /// what the last round has ended, and how
    pub(super) ended: Vec<(Running, Result<Finish, ApiError>)>,
    pub(super) pace: Pace,
    /// bytes of documents that no request uses, as they were counted last, and when that was
    idle: usize,
    idle_seen: Instant,
    pub(super) n_rounds: u64,
    pub(super) n_arrived: u64,
    pub(super) is_draining: bool,
    /// what ran when the first of the waiting ones found no room: it looks again when that has changed
    pub(super) blocked: Option<Vec<u64>>,
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
        let pace = Pace::new(engine.info().n_layers);
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
            ended: Vec::new(),
            pace,
            idle: 0,
            idle_seen: Instant::now(),
            n_rounds: 0,
            n_arrived: 0,
            is_draining: false,
            blocked: None,
        }
    }

    /// Works until the server drains or is gone.
    pub fn run(mut self) {
        // The names of pages depend on the model's files, which are read whole once: now, and not by the first request.
        for cache in &self.caches {
            self.documents.cursor(cache, &Scope::new(&[]));
        }
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
            self.tell_ended();
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

    /// Tells everybody how it stands.
    fn publish(&mut self) {
        for note in self.documents.take_notes() {
            self.options.notes.tell(&format!("documents: {note}"));
        }
        let budget = self.engine.budget();
        if self.running.is_empty() || self.idle_seen.elapsed() >= IDLE_EVERY {
            (self.idle, self.idle_seen) = (self.documents.bytes_idle(), Instant::now());
        }
        let (in_use, idle) = (budget.bytes_in_use(), self.idle);
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
