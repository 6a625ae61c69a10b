//! The engine's thread: it owns the weights and all sequences, and runs one round after another.
//!
//! ```text
//! submit ─► waiting ─► admit (pages of the cache, room) ─► running ─┐
//!              ▲                                                    ▼
//!              └── suspended ◄── plan ◄── round: advance, keep pages, tell listeners ──► done
//! ```

mod admit;
mod handle;
mod job;
mod miss;
mod pace;
mod plan;
mod round;
mod running;
mod worker;

pub use handle::{Engine, Slot};
pub use job::{Admission, Event, Job, Outcome, Outline, Part, Reply, Timings};
pub use miss::{CacheMiss, MissReason};
pub use worker::WorkerOptions;
