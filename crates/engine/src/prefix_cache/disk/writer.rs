//! The thread that writes and deletes files, in the order in which it is told to.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use super::{directory, file};
use crate::cache::HeldPage;
use crate::prefix_cache::key::Key;
use crate::prefix_cache::tree::Part;

/// Pages that wait to be written, at most: their memory is in use until then.
const MOST_WAITING: usize = 256;

/// What there is to do.
pub(super) enum Job {
    Write {
        key: Key,
        part: Part,
        path: PathBuf,
        head: Vec<u8>,
        page: HeldPage,
    },
    Touch(PathBuf),
    Delete(PathBuf),
    /// tell that everything before is done
    Tell(Sender<()>),
}

/// What has become of a page.
pub(super) struct Outcome {
    pub key: Key,
    pub part: Part,
    pub result: io::Result<()>,
}

/// A thread and the way to it. When it is dropped, what waits is done first.
#[derive(Debug)]
pub(super) struct Writer {
    /// `None` only while it is dropped
    jobs: Option<Sender<Job>>,
    outcomes: Receiver<Outcome>,
    n_waiting: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub fn start() -> io::Result<Writer> {
        let (jobs, to_do) = mpsc::channel();
        let (done, outcomes) = mpsc::channel();
        let n_waiting = Arc::new(AtomicUsize::new(0));
        let counter = n_waiting.clone();
        let thread = thread::Builder::new().name("lossy-pages".into()).spawn(move || {
            for job in to_do {
                work(job, &done, &counter);
            }
        })?;
        Ok(Writer { jobs: Some(jobs), outcomes, n_waiting, thread: Some(thread) })
    }

    /// Whether another page may wait.
    pub fn has_room(&self) -> bool {
        self.n_waiting.load(Ordering::Relaxed) < MOST_WAITING
    }

    pub fn send(&self, job: Job) {
        if matches!(job, Job::Write { .. }) {
            self.n_waiting.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(jobs) = &self.jobs {
            // The thread ends only after the sender.
            let _ = jobs.send(job);
        }
    }

    /// What has become of pages since the last call.
    pub fn outcomes(&self) -> impl Iterator<Item = Outcome> {
        self.outcomes.try_iter()
    }

    /// Waits until everything so far is done.
    pub fn wait(&self) {
        let (tell, told) = mpsc::channel();
        self.send(Job::Tell(tell));
        let _ = told.recv();
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn work(job: Job, done: &Sender<Outcome>, n_waiting: &AtomicUsize) {
    match job {
        Job::Write { key, part, path, head, page } => {
            let result = match path.parent() {
                Some(directory) => directory::create(directory),
                None => Ok(()),
            };
            let result = result.and_then(|()| file::write(&path, &head, page.bytes()));
            drop(page);
            n_waiting.fetch_sub(1, Ordering::Relaxed);
            let _ = done.send(Outcome { key, part, result });
        }
        // A file that is gone need be neither touched nor deleted.
        Job::Touch(path) => {
            let _ = super::touch(&path);
        }
        Job::Delete(path) => {
            let _ = fs::remove_file(path);
        }
        Job::Tell(tell) => {
            let _ = tell.send(());
        }
    }
}
