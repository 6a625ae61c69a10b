//! What every kernel call gets by reference: threads and an instruction set.

use crate::{Isa, IsaError, ThreadPool};

/// The threads and the instruction set that kernels run on; called `cx` where it is passed.
#[derive(Debug)]
pub struct Compute {
    /// the threads
    pub pool: ThreadPool,
    /// the instruction set
    pub isa: Isa,
}

impl Compute {
    /// `n_threads` threads (the caller is one of them) with the best instruction set, or the one `LOSSY_ISA` names.
    ///
    /// # Errors
    /// `LOSSY_ISA` names an instruction set that is unknown or absent.
    ///
    /// # Panics
    /// `n_threads` is 0.
    pub fn new(n_threads: usize) -> Result<Compute, IsaError> {
        Ok(Compute::with_isa(n_threads, Isa::detect()?))
    }

    /// `n_threads` threads with the given instruction set, whatever the environment says.
    ///
    /// # Panics
    /// `n_threads` is 0.
    pub fn with_isa(n_threads: usize, isa: Isa) -> Compute {
        Compute { pool: ThreadPool::new(n_threads), isa }
    }
}
