//! `dca[:chunk=N]`: Dual Chunk Attention (arXiv 2402.17463), where positions begin anew in each chunk.
//!
//! ```text
//! m − n                                if both are in one chunk of s tokens
//! min(m mod s + s, L − 1) − n mod s    if n is in the chunk before that of m
//! L − 1 − n mod s                      otherwise
//! ```

use std::sync::Arc;

use lossy_kernels::attention::Meeting;
use lossy_kernels::page::{FRAME_TOKENS, PAGE_TOKENS};

use super::error::PositionError;
use super::family::{Choice, Family, OTHER_MAP, Resolved, check_trained, check_whole, of_choice};
use super::map::{MAX_STRETCH, PositionMap};
use super::rope::Trained;
use crate::parameters::Spelling;

/// `dca`.
pub(super) const FAMILY: Family = Family {
    name: "dca",
    parse: |parameters| {
        let choice = DualChunkChoice { chunk: parameters.number("chunk")? };
        check_whole("chunk", choice.chunk, 1)?;
        Ok(Arc::new(choice))
    },
};

/// Positions that begin anew in each chunk; see the module. All numbers are tokens.
#[derive(Clone, Copy, Debug)]
pub struct DualChunk {
    /// tokens of a chunk: a multiple of 128
    pub chunk: usize,
    /// trained context
    pub n_trained: usize,
}

impl PositionMap for DualChunk {
    fn distance(&self, m: usize, n: usize) -> usize {
        let DualChunk { chunk, n_trained } = *self;
        match m / chunk - n / chunk {
            0 => m - n,
            1 => (m % chunk + chunk).min(n_trained - 1) - n % chunk,
            _ => n_trained - 1 - n % chunk,
        }
    }

    fn windows(&self) -> Vec<usize> {
        vec![self.chunk]
    }

    fn n_rotations(&self) -> usize {
        3
    }

    fn query_position(&self, rotation: usize, position: usize) -> usize {
        match rotation {
            0 => position,
            1 => (position % self.chunk + self.chunk).min(self.n_trained - 1),
            _ => self.n_trained - 1,
        }
    }

    fn meeting(&self, page: usize, asking: usize) -> Meeting {
        let chunk_of = |page: usize| page * PAGE_TOKENS / self.chunk;
        Meeting::Whole((chunk_of(asking) - chunk_of(page)).min(2))
    }

    fn n_moved_pages(&self, asking: usize) -> usize {
        asking * PAGE_TOKENS / self.chunk * self.chunk / PAGE_TOKENS
    }

    fn frame_start(&self, frame: usize, _asking: usize) -> usize {
        frame * FRAME_TOKENS % self.chunk
    }
}

/// What is given of a [`DualChunk`].
#[derive(Clone, Copy, Debug)]
struct DualChunkChoice {
    chunk: Option<usize>,
}

impl Choice for DualChunkChoice {
    fn spelled(&self) -> String {
        Spelling::new(FAMILY.name).with("chunk", self.chunk).end()
    }

    fn resolve(&self, trained: Trained<'_>, _n_ctx: usize) -> Result<Resolved, PositionError> {
        let default = (trained.n_ctx * 3 / 4 / PAGE_TOKENS * PAGE_TOKENS).max(PAGE_TOKENS);
        let chunk = self.chunk.unwrap_or(default);
        check_trained(self, trained, chunk.saturating_add(PAGE_TOKENS))?;
        let choice = DualChunkChoice { chunk: Some(chunk) };
        check_whole("chunk", choice.chunk, 1).map_err(of_choice(&choice))?;
        Ok(Resolved {
            choice: Arc::new(choice),
            map: Arc::new(DualChunk { chunk, n_trained: trained.n_ctx }),
            rope: trained.rope.clone(),
            // Distances repeat: it could go on, but nobody has seen what comes of it.
            longest: trained.n_ctx * MAX_STRETCH,
            fix: OTHER_MAP,
        })
    }
}
