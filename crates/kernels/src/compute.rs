//! What every kernel call gets by reference: threads and an instruction set.

use crate::{Isa, ThreadPool};

/// The threads and the instruction set that kernels run on; called `cx` where it is passed.
#[derive(Debug)]
pub struct Compute {
    /// the threads
    pub pool: ThreadPool,
    /// the instruction set
    pub isa: Isa,
}

impl Compute {
    /// `n_threads` threads (the caller is one of them) with the given instruction set.
    ///
    /// # Panics
    /// `n_threads` is 0.
    pub fn with_isa(n_threads: usize, isa: Isa) -> Compute {
        Compute { pool: ThreadPool::new(n_threads), isa }
    }
}
