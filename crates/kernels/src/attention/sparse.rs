//! Attention that skips pages: see [`PageSource::sparsity`](super::PageSource::sparsity).
//!
//! 1. Rows read the pages that are not estimated: the first one, recent ones, and whatever else is not stored as codes.
//! 2. The weights of all others are [estimated](super::PageSource::estimate_rows), beside the maximum found so far.
//! 3. Each row skips what weighs least ([`Choice`]), and reads the rest in order.
//!
//! All of it follows from a row's own position and figures, so results are the same however a prompt is cut.

use super::attend::{Batch, Scratch, Step};
use super::choice::Choice;
use super::plan::WorkItem;
use super::source::PagePart;
use crate::page::PAGE_TOKENS;

/// Buffers of a thread.
#[derive(Debug, Default)]
pub(super) struct SparseScratch {
    choice: Choice,
    /// the pages that every row reads
    near: Vec<Step>,
    /// the pages that could be skipped
    far: Vec<Step>,
}

impl Batch<'_> {
    /// Whether a whole page is estimated for the tokens of an item.
    fn is_estimated(&self, item: &WorkItem, step: Step) -> bool {
        let asked = self.asked(item, step, 0..PAGE_TOKENS);
        let source = self.requests[item.request].source;
        step.part == PagePart::Seen && step.page < asked.asking_page && source.is_estimated(&asked)
    }

    /// Computes an item whose rows skip pages that together weigh at most a share `sparsity`. Returns `false`, having done nothing,
    /// if there is only one token and no page that could be skipped: it asks the cache directly then.
    pub(super) fn compute_sparse(&self, item: &WorkItem, sparsity: f32, scratch: &mut Scratch) -> bool {
        let source = self.requests[item.request].source;
        let SparseScratch { choice, near, far } = &mut scratch.sparse;
        near.clear();
        far.clear();
        for (_, step) in self.steps(item, 0) {
            if self.is_estimated(item, step) { far.push(step) } else { near.push(step) }
        }
        if far.is_empty() && item.tokens.len() == 1 {
            return false;
        }
        let (block, tile) = (&mut scratch.block, &mut scratch.tile);
        self.set_block(item, block);
        let mut rotation = None;
        let mut turn_to = |block: &mut _, step: &Step| {
            if rotation.replace(step.rotation) != Some(step.rotation) {
                self.set_queries(item, step.rotation, block);
            }
        };
        for step in near.iter() {
            turn_to(block, step);
            self.attend_block(item, *step, block, tile);
        }
        choice.set_shape(far.len(), block.n_rows());
        for (index, step) in far.iter().enumerate() {
            turn_to(block, step);
            let asked = self.asked(item, *step, 0..PAGE_TOKENS);
            let (queries, _, states) = block.rows_and_states();
            source.estimate_rows(self.isa, asked, queries, states.max, choice.weights_mut(index));
        }
        choice.choose(block.rows_and_states().2.sum, sparsity);
        let n_rows = block.n_rows();
        let mut n_read = near.len() * n_rows;
        for (index, step) in far.iter().enumerate() {
            let rows = choice.rows(index);
            n_read += rows.len();
            if !rows.is_empty() {
                turn_to(block, step);
                let asked = self.asked(item, *step, 0..PAGE_TOKENS);
                let (queries, _, states) = block.rows_and_states();
                let left = source.attend_rows(self.isa, asked, queries, rows, states);
                assert_eq!(left, 0, "tokens of an estimated page that are left");
            }
        }
        if !far.is_empty() {
            source.note_pages(n_read as u64, ((near.len() + far.len()) * n_rows) as u64);
        }
        self.finish_block(item, block);
        true
    }
}
