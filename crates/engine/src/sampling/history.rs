//! The recent tokens that penalties look at.

use std::collections::{BTreeMap, VecDeque};

/// The last `n_kept` tokens with the count of each.
pub(super) struct History {
    n_kept: usize,
    recent: VecDeque<u32>,
    counts: BTreeMap<u32, usize>,
}

impl History {
    pub(super) fn new(n_kept: usize) -> History {
        History { n_kept, recent: VecDeque::new(), counts: BTreeMap::new() }
    }

    pub(super) fn push(&mut self, id: u32) {
        if self.n_kept == 0 {
            return;
        }
        if self.recent.len() == self.n_kept
            && let Some(oldest) = self.recent.pop_front()
            && let Some(count) = self.counts.get_mut(&oldest)
        {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&oldest);
            }
        }
        self.recent.push_back(id);
        *self.counts.entry(id).or_default() += 1;
    }

    /// Every token of the window once, by id, with its number of occurrences.
    pub(super) fn counts(&self) -> impl Iterator<Item = (u32, usize)> + '_ {
        self.counts.iter().map(|(&id, &count)| (id, count))
    }
}
