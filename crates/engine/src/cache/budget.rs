//! The bytes that several pools may take together.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::{CacheError, KvPool};

/// Counts the pages of all pools that share it, against one limit.
///
/// Pages of sequences are *in use*. A pool keeps pages that its sequences gave back as *spare*: they are resident, and go
/// back to the system before pages in use and spare ones together would exceed the limit.
#[derive(Debug, Default)]
pub struct Budget {
    limit: Option<usize>,
    in_use: AtomicUsize,
    spare: AtomicUsize,
    pools: Mutex<Vec<Weak<KvPool>>>,
}

impl Budget {
    /// At most `limit` bytes; `None`: as many as the system gives.
    pub fn new(limit: Option<usize>) -> Arc<Budget> {
        Arc::new(Budget { limit, ..Budget::default() })
    }

    /// The most bytes that may be in use.
    pub fn limit(&self) -> Option<usize> {
        self.limit
    }

    /// Bytes of all pages that sequences hold, each page once.
    pub fn bytes_in_use(&self) -> usize {
        self.in_use.load(Ordering::Relaxed)
    }

    /// Bytes that may still be taken; `None`: there is no limit.
    pub fn bytes_left(&self) -> Option<usize> {
        Some(self.limit?.saturating_sub(self.bytes_in_use()))
    }

    pub(super) fn register(&self, pool: &Arc<KvPool>) {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        pools.retain(|pool| pool.strong_count() > 0);
        pools.push(Arc::downgrade(pool));
    }

    /// Counts `needed` bytes as in use, or nothing.
    pub(super) fn claim(&self, needed: usize) -> Result<(), CacheError> {
        let limit = self.limit.unwrap_or(usize::MAX);
        let fits = |used: usize| used.checked_add(needed).filter(|total| *total <= limit);
        match self.in_use.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits) {
            Ok(_) => Ok(()),
            Err(used) => Err(CacheError::Budget { needed, used, budget: limit }),
        }
    }

    /// Counts bytes as no longer in use.
    pub(super) fn release(&self, bytes: usize) {
        self.in_use.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(super) fn add_spare(&self, bytes: usize) {
        self.spare.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn remove_spare(&self, bytes: usize) {
        self.spare.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Called before new memory is taken for bytes that are claimed already: gives spare pages of all pools back where the
    /// limit would not hold both.
    pub(super) fn make_room(&self) {
        let Some(limit) = self.limit else { return };
        let resident = self.bytes_in_use().saturating_add(self.spare.load(Ordering::Relaxed));
        if resident <= limit {
            return;
        }
        let pools: Vec<Arc<KvPool>> = {
            let pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
            pools.iter().filter_map(Weak::upgrade).collect()
        };
        pools.iter().for_each(|pool| pool.trim());
    }
}
