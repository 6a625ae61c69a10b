//! The door to the engine's thread.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use lossy_engine::Cache;
use lossy_engine::prefix_cache::{PrefixCache, Scope};
use serde::Serialize;
use tokio::sync::oneshot;
use utoipa::ToSchema;

use super::job::Job;
use super::worker::{Worker, WorkerOptions};
use crate::counters::Counters;
use crate::error::ApiError;

/// What the thread is asked to do.
pub(super) enum Command {
    /// runs a job
    Submit(Box<Job>),
    /// erases cached documents of a user, or of all
    Purge(Option<Scope>, oneshot::Sender<io::Result<usize>>),
    /// ends when what runs has ended
    Drain,
}

/// The engine, on a thread of its own.
pub struct Engine {
    commands: Mutex<Sender<Command>>,
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    most_waiting: usize,
}

/// What the thread tells everybody.
#[derive(Default)]
pub(super) struct Shared {
    /// jobs that were submitted and do not run yet
    pub n_waiting: AtomicUsize,
    pub snapshot: Mutex<Snapshot>,
    /// listeners are gone all at once, and new jobs are refused
    pub is_ending: AtomicBool,
}

impl Shared {
    pub fn publish(&self, snapshot: Snapshot) {
        *self.snapshot.lock().unwrap_or_else(PoisonError::into_inner) = snapshot;
    }
}

/// What the engine does at the moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// what runs
    pub slots: Vec<Slot>,
    /// bytes of the KV cache in use, idle documents included
    pub cache_bytes: usize,
    /// bytes of documents that no request uses
    pub idle_bytes: usize,
}

/// A request that runs.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct Slot {
    /// the place, from 0
    pub id: usize,
    /// a number of its own
    pub id_task: u64,
    /// tokens of its context
    pub n_ctx: usize,
    /// whether a request has it
    pub is_processing: bool,
    /// tokens of the prompt
    pub n_prompt_tokens: usize,
    /// of those, read or cached
    pub n_prompt_tokens_processed: usize,
    /// tokens generated
    pub n_decoded: usize,
}

impl Engine {
    /// Starts the thread. `caches` are the settings, the usual one first.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn start(
        engine: lossy_engine::Engine,
        caches: Vec<Arc<Cache>>,
        documents: PrefixCache,
        counters: Arc<Counters>,
        options: WorkerOptions,
    ) -> io::Result<Engine> {
        let (sender, commands) = mpsc::channel();
        let shared = Arc::new(Shared::default());
        let most_waiting = options.waiting;
        let worker = Worker::new(engine, caches, documents, counters, shared.clone(), commands, options);
        let thread = std::thread::Builder::new().name("engine".to_string()).spawn(move || worker.run())?;
        Ok(Engine { commands: Mutex::new(sender), shared, thread: Mutex::new(Some(thread)), most_waiting })
    }

    fn send(&self, command: Command) -> Result<(), ApiError> {
        let sender = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
        sender.send(command).map_err(|_| ApiError::unavailable("the engine has ended"))
    }

    /// Runs jobs, the answers to one request. They are told by their listener how they go on.
    ///
    /// # Errors
    /// The server ends, or too many jobs wait.
    pub fn submit(&self, jobs: Vec<Job>) -> Result<(), ApiError> {
        if self.is_ending() {
            return Err(ApiError::unavailable("the server is shutting down"));
        }
        let n_new = jobs.len();
        let n_waiting = self.shared.n_waiting.fetch_add(n_new, Ordering::SeqCst);
        if n_waiting + n_new > self.most_waiting {
            self.shared.n_waiting.fetch_sub(n_new, Ordering::SeqCst);
            return Err(ApiError::full(n_waiting));
        }
        jobs.into_iter().try_for_each(|job| self.send(Command::Submit(Box::new(job))))
    }

    /// Erases the cached documents of a user, or of all; how many pages those were.
    ///
    /// # Errors
    /// The engine has ended, or files cannot be erased.
    pub async fn purge(&self, scope: Option<Scope>) -> Result<usize, ApiError> {
        let (sender, receiver) = oneshot::channel();
        self.send(Command::Purge(scope, sender))?;
        let purged = receiver.await.map_err(|_| ApiError::unavailable("the engine has ended"))?;
        purged.map_err(|error| ApiError::internal(format!("not all files could be erased: {error}")))
    }

    /// From now on new jobs are refused; the thread ends when those that run have ended.
    pub fn drain(&self) {
        self.shared.is_ending.store(true, Ordering::SeqCst);
        let _ = self.send(Command::Drain);
    }

    /// Whether [`drain`](Engine::drain) was called.
    pub fn is_ending(&self) -> bool {
        self.shared.is_ending.load(Ordering::SeqCst)
    }

    /// Whether the thread runs.
    pub fn is_alive(&self) -> bool {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Waits until the thread has ended, after [`drain`](Engine::drain).
    pub fn join(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A panic was printed when it happened.
            let _ = thread.join();
        }
    }

    /// Jobs that were submitted and do not run yet.
    pub fn n_waiting(&self) -> usize {
        self.shared.n_waiting.load(Ordering::SeqCst)
    }

    /// What it does at the moment.
    pub fn snapshot(&self) -> Snapshot {
        self.shared.snapshot.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
