//! A thread pool for kernels: fork and join in about a microsecond.
//!
//! A token needs some two hundred forks, so waking sleeping threads (tens of microseconds each) is too slow: idle
//! workers spin for a short while before they park, and an idle program uses no CPU.
//!
//! How it works:
//! 1. A job is `n_tasks` calls of one closure. The caller points [`Board::job`] at it, then sets `unclaimed = n_tasks`.
//! 2. Everybody, the caller too, claims one task at a time by decrementing `unclaimed`. A successful claim means that
//!    the job is alive: the caller does not return before that task is finished. So a worker that sleeps or lost its
//!    core is waited for only if it holds a task, and one that comes late sees zero and does nothing.
//! 3. Each thread subtracts what it finished from `unfinished`; the caller returns when that is zero.
//! 4. Parking is a Dekker handshake: a worker announces itself in `n_parked`, then looks at `unclaimed` once more; the
//!    caller sets `unclaimed`, then looks at `n_parked`. With a full fence between, one of them sees the other.
//!
//! loom checks the protocol: `just loom`.

use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

#[cfg(not(loom))]
use std::{
    hint::spin_loop,
    sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering::*, fence},
    sync::{Arc, Condvar, Mutex},
    thread::{JoinHandle, yield_now},
    thread_local,
};

#[cfg(loom)]
use loom::{
    hint::spin_loop,
    sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering::*, fence},
    sync::{Arc, Condvar, Mutex},
    thread::{JoinHandle, yield_now},
    thread_local,
};

/// How long an idle worker spins before it parks, and a waiting caller before it yields its core.
const SPIN: Duration = Duration::from_micros(200);
/// The same where there are more threads than cores, so that a spinning thread keeps another from working.
const SPIN_CROWDED: Duration = Duration::from_micros(2);

#[cfg_attr(
    not(loom),
    allow(clippy::missing_const_for_thread_local, reason = "loom's macro knows no `const`")
)]
mod inside {
    use super::{Cell, thread_local};
    thread_local! {
        /// Whether this thread is inside a task.
        pub(super) static IN_TASK: Cell<bool> = Cell::new(false);
    }
}
use inside::IN_TASK;

/// A value on cache lines of its own (two, since CPUs prefetch lines in pairs).
#[repr(align(128))]
struct OwnLine<T>(T);

/// One job; it lives on the caller's stack while `run` waits.
struct Job {
    n_tasks: usize,
    /// Calls the closure at `closure` with a task's index.
    call: unsafe fn(closure: *const (), index: usize),
    closure: *const (),
    /// What the first panicking task panicked with.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// What the caller and the workers share.
struct Board {
    /// Tasks of the current job that nobody has claimed.
    unclaimed: OwnLine<AtomicUsize>,
    /// The current job; valid for whoever claimed a task, until that task is subtracted from `unfinished`.
    job: AtomicPtr<Job>,
    /// Tasks of the current job that are not done.
    unfinished: OwnLine<AtomicUsize>,
    /// Workers that are parked or about to.
    n_parked: AtomicUsize,
    closing: AtomicBool,
    parking: Mutex<()>,
    wake: Condvar,
    spin: Duration,
}

impl Board {
    fn new(spin: Duration) -> Board {
        Board {
            unclaimed: OwnLine(AtomicUsize::new(0)),
            job: AtomicPtr::new(std::ptr::null_mut()),
            unfinished: OwnLine(AtomicUsize::new(0)),
            n_parked: AtomicUsize::new(0),
            closing: AtomicBool::new(false),
            parking: Mutex::new(()),
            wake: Condvar::new(),
            spin,
        }
    }

    /// Publishes a job, works on it, and returns when all its tasks are done.
    fn execute(&self, job: &Job) {
        self.unfinished.0.store(job.n_tasks, Relaxed);
        self.job.store(std::ptr::from_ref(job).cast_mut(), Relaxed);
        self.unclaimed.0.store(job.n_tasks, Release);
        self.wake_for(job.n_tasks - 1);
        self.work();
        let mut patience = Patience::new(self.spin);
        while self.unfinished.0.load(Acquire) != 0 {
            if patience.is_over() {
                yield_now();
            } else {
                spin_loop();
            }
        }
    }

    fn wake_for(&self, n_tasks: usize) {
        fence(SeqCst);
        let n_parked = self.n_parked.load(Relaxed);
        if n_parked == 0 {
            return;
        }
        // A worker that saw nothing to do holds this lock until it waits, so the notification cannot come too early.
        drop(self.parking.lock());
        if n_tasks >= n_parked {
            self.wake.notify_all();
        } else {
            for _ in 0..n_tasks {
                self.wake.notify_one();
            }
        }
    }

    /// Claims and runs tasks until none is left.
    fn work(&self) {
        let mut n_done = 0;
        while let Some(n_left) = self.claim() {
            // SAFETY: a claimed task keeps the job alive, see `job`.
            let job = unsafe { &*self.job.load(Relaxed) };
            IN_TASK.with(|flag| flag.set(true));
            let result = catch_unwind(AssertUnwindSafe(|| {
                // SAFETY: `closure` is what `call` was made for, and outlives the job.
                unsafe { (job.call)(job.closure, job.n_tasks - n_left) }
            }));
            IN_TASK.with(|flag| flag.set(false));
            if let Err(payload) = result {
                job.panic.lock().expect("nothing panics under this lock").get_or_insert(payload);
            }
            n_done += 1;
        }
        if n_done > 0 {
            self.unfinished.0.fetch_sub(n_done, Release);
        }
    }

    /// One task of the current job; returns how many were unclaimed before, or `None` if there were none.
    fn claim(&self) -> Option<usize> {
        let mut n_left = self.unclaimed.0.load(Relaxed);
        while n_left > 0 {
            match self.unclaimed.0.compare_exchange_weak(n_left, n_left - 1, Acquire, Relaxed) {
                Ok(_) => return Some(n_left),
                Err(now) => n_left = now,
            }
        }
        None
    }

    /// The life of a worker.
    fn serve(&self) {
        let mut patience = Patience::new(self.spin);
        while !self.closing.load(Relaxed) {
            if self.unclaimed.0.load(Relaxed) > 0 {
                self.work();
                patience = Patience::new(self.spin);
            } else if patience.is_over() {
                self.park();
                patience = Patience::new(self.spin);
            } else {
                spin_loop();
            }
        }
    }

    fn park(&self) {
        let mut guard = self.parking.lock().expect("nothing panics under this lock");
        self.n_parked.fetch_add(1, Relaxed);
        fence(SeqCst);
        while self.unclaimed.0.load(Relaxed) == 0 && !self.closing.load(Relaxed) {
            guard = self.wake.wait(guard).expect("nothing panics under this lock");
        }
        self.n_parked.fetch_sub(1, Relaxed);
    }

    fn close(&self) {
        let guard = self.parking.lock();
        self.closing.store(true, Relaxed);
        drop(guard);
        self.wake.notify_all();
    }
}

/// Counts down a span of time, looking at the clock only now and then.
struct Patience {
    n_asked: u32,
    until: Option<Instant>,
    span: Duration,
}

impl Patience {
    fn new(span: Duration) -> Patience {
        Patience { n_asked: 0, until: None, span }
    }

    fn is_over(&mut self) -> bool {
        if cfg!(loom) {
            self.n_asked += 1;
            return self.n_asked > 1;
        }
        self.n_asked = self.n_asked.wrapping_add(1);
        if !self.n_asked.is_multiple_of(64) {
            return false;
        }
        let now = Instant::now();
        now >= *self.until.get_or_insert(now + self.span)
    }
}

/// `n_threads` threads that run the tasks of one job at a time; the thread that calls [`run`](ThreadPool::run) is one of
/// them. Dropping the pool joins the others.
pub struct ThreadPool {
    board: Arc<Board>,
    workers: Vec<JoinHandle<()>>,
    /// Held while a job runs: two threads that share a pool take turns.
    turn: Mutex<()>,
}

impl ThreadPool {
    /// A pool of `n_threads`: the caller and `n_threads - 1` workers.
    ///
    /// # Panics
    /// `n_threads` is 0, or the system cannot start a thread.
    pub fn new(n_threads: usize) -> ThreadPool {
        assert!(n_threads > 0, "a thread pool has at least one thread, the caller");
        let n_cores = std::thread::available_parallelism().map_or(1, usize::from);
        let board = Arc::new(Board::new(if n_threads > n_cores { SPIN_CROWDED } else { SPIN }));
        let workers = (1..n_threads).map(|index| spawn(index, board.clone())).collect();
        ThreadPool { board, workers, turn: Mutex::new(()) }
    }

    /// Threads that work on a job, the caller included.
    pub fn n_threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `task(index)` exactly once for each index below `n_tasks`, on whichever threads are free, and returns when
    /// all calls have returned. Tasks are claimed in ascending order.
    ///
    /// # Panics
    /// If a task panics, with what it panicked with, after all other tasks have run; if called from inside a task.
    pub fn run<F: Fn(usize) + Sync>(&self, n_tasks: usize, task: F) {
        assert!(!IN_TASK.with(Cell::get), "ThreadPool::run was called from inside a task of a pool");
        if self.workers.is_empty() || n_tasks <= 1 {
            let _inside = InsideTask::enter();
            (0..n_tasks).for_each(task);
            return;
        }
        /// # Safety
        /// `closure` points to an `F`.
        unsafe fn call<F: Fn(usize)>(closure: *const (), index: usize) {
            // SAFETY: the caller promises the type.
            let task = unsafe { &*closure.cast::<F>() };
            task(index);
        }
        let job = Job {
            n_tasks,
            call: call::<F>,
            closure: std::ptr::from_ref(&task).cast(),
            panic: Mutex::new(None),
        };
        let turn = self.turn.lock().expect("nothing panics under this lock");
        self.board.execute(&job);
        drop(turn);
        let payload = job.panic.lock().expect("nothing panics under this lock").take();
        if let Some(payload) = payload {
            resume_unwind(payload);
        }
    }

    /// Calls `task(index, &mut items[index])` exactly once for each item, as [`run`](ThreadPool::run) does.
    ///
    /// # Panics
    /// As `run` does.
    pub fn run_mut<T: Send, F: Fn(usize, &mut T) + Sync>(&self, items: &mut [T], task: F) {
        struct Items<T>(*mut T);
        // SAFETY: every item is handed to exactly one task, and `T` may be sent to its thread.
        unsafe impl<T: Send> Sync for Items<T> {}
        impl<T> Items<T> {
            fn at(&self, index: usize) -> *mut T {
                self.0.wrapping_add(index)
            }
        }
        let first = Items(items.as_mut_ptr());
        self.run(items.len(), |index| {
            // SAFETY: `index` is below `items.len()`, and no other task gets it.
            task(index, unsafe { &mut *first.at(index) });
        });
    }
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        self.board.close();
        for worker in self.workers.drain(..) {
            // Panics of tasks are caught, so a worker itself does not panic.
            let _ = worker.join();
        }
    }
}

impl fmt::Debug for ThreadPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ThreadPool({} threads)", self.n_threads())
    }
}

#[cfg(not(loom))]
fn spawn(index: usize, board: Arc<Board>) -> JoinHandle<()> {
    std::thread::Builder::new()
        .name(format!("lossy-{index}"))
        .spawn(move || board.serve())
        .expect("the system starts a thread")
}

#[cfg(loom)]
fn spawn(_index: usize, board: Arc<Board>) -> JoinHandle<()> {
    loom::thread::spawn(move || board.serve())
}

/// Marks this thread as inside a task while it lives, also through a panic.
struct InsideTask;

impl InsideTask {
    fn enter() -> InsideTask {
        IN_TASK.with(|flag| flag.set(true));
        InsideTask
    }
}

impl Drop for InsideTask {
    fn drop(&mut self) {
        IN_TASK.with(|flag| flag.set(false));
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_exactly_once() {
        for n_threads in [1, 2, 3, 8] {
            let pool = ThreadPool::new(n_threads);
            for n_tasks in [0, 1, 2, 7, 8, 9, 1000] {
                let counts: Vec<AtomicUsize> = (0..n_tasks).map(|_| AtomicUsize::new(0)).collect();
                pool.run(n_tasks, |i| {
                    counts[i].fetch_add(1, Relaxed);
                });
                assert!(counts.iter().all(|c| c.load(Relaxed) == 1), "{n_threads} threads, {n_tasks} tasks");
            }
        }
    }

    #[test]
    fn what_tasks_wrote_is_seen_after_the_join() {
        let pool = ThreadPool::new(4);
        let mut items = vec![0u64; 64];
        let (n_rounds, n_between) = if cfg!(miri) { (20, 10) } else { (20_000, 1000) };
        for round in 1..n_rounds {
            pool.run_mut(&mut items, |i, item| *item += round * i as u64);
            if round % n_between == 0 {
                std::thread::sleep(SPIN * 3); // so that workers park in between
            }
        }
        let total: u64 = (1..n_rounds).sum();
        assert!(items.iter().enumerate().all(|(i, item)| *item == total * i as u64));
    }

    #[test]
    fn a_panic_in_a_task_reaches_the_caller_after_all_tasks_ran_and_the_pool_goes_on() {
        for n_threads in [2, 4] {
            let pool = ThreadPool::new(n_threads);
            let n_run = AtomicUsize::new(0);
            let result = catch_unwind(AssertUnwindSafe(|| {
                pool.run(100, |i| {
                    n_run.fetch_add(1, Relaxed);
                    assert!(i != 13, "task thirteen");
                });
            }));
            let payload = result.unwrap_err();
            assert_eq!(payload.downcast_ref::<&str>(), Some(&"task thirteen"));
            assert_eq!(n_run.load(Relaxed), 100);
            pool.run(10, |_| {
                n_run.fetch_add(1, Relaxed);
            });
            assert_eq!(n_run.load(Relaxed), 110);
        }
    }

    #[test]
    fn a_nested_run_is_a_panic_on_every_thread() {
        for n_threads in [1, 2] {
            let pool = ThreadPool::new(n_threads);
            let result = catch_unwind(AssertUnwindSafe(|| pool.run(4, |_| pool.run(2, |_| {}))));
            let payload = result.unwrap_err();
            let message = payload.downcast_ref::<&str>().unwrap();
            assert!(message.contains("inside a task"), "{message}");
            pool.run(4, |_| {});
        }
    }

    #[test]
    fn two_threads_that_share_a_pool_take_turns() {
        let pool = ThreadPool::new(2);
        let n_run = AtomicUsize::new(0);
        let n_turns = if cfg!(miri) { 10 } else { 1000 };
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..n_turns {
                        pool.run(5, |_| {
                            n_run.fetch_add(1, Relaxed);
                        });
                    }
                });
            }
        });
        assert_eq!(n_run.load(Relaxed), 3 * n_turns * 5);
    }

    #[test]
    fn dropping_an_idle_pool_and_a_parked_pool_joins_its_threads() {
        drop(ThreadPool::new(4));
        let pool = ThreadPool::new(4);
        let board = Arc::downgrade(&pool.board);
        std::thread::sleep(SPIN * 20);
        drop(pool);
        assert!(board.upgrade().is_none());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn an_idle_pool_parks() {
        let pool = ThreadPool::new(3);
        pool.run(100, |_| {});
        let started = Instant::now();
        while pool.board.n_parked.load(Relaxed) < 2 {
            assert!(started.elapsed() < Duration::from_secs(20), "workers never park");
            std::thread::sleep(SPIN);
        }
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;

    #[test]
    fn jobs_are_complete_and_no_wake_is_lost() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let pool = ThreadPool::new(2);
            let counts = [AtomicUsize::new(0), AtomicUsize::new(0)];
            for round in 1..3 {
                pool.run(2, |i| {
                    counts[i].fetch_add(1, Relaxed);
                });
                assert!(counts.iter().all(|c| c.load(Relaxed) == round));
            }
        });
    }
}
