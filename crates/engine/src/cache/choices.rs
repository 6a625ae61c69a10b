//! How much of a sequence its tokens read, where a scheme lets them skip pages.

use std::sync::atomic::{AtomicU64, Ordering};

/// Pages that rows of queries saw, and how many of them they read: all layers and heads together. What reads all pages
/// counts nothing.
#[derive(Debug, Default)]
pub(super) struct Choices {
    n_read: AtomicU64,
    n_seen: AtomicU64,
}

impl Choices {
    /// Rows read `n_read` of the `n_seen` pages that they saw. Threads add in any order.
    pub fn add(&self, n_read: u64, n_seen: u64) {
        self.n_read.fetch_add(n_read, Ordering::Relaxed);
        self.n_seen.fetch_add(n_seen, Ordering::Relaxed);
    }

    /// The share of the pages that was read; `None`: nothing could be skipped yet.
    pub fn share_read(&self) -> Option<f64> {
        let n_seen = self.n_seen.load(Ordering::Relaxed);
        (n_seen > 0).then(|| self.n_read.load(Ordering::Relaxed) as f64 / n_seen as f64)
    }
}
