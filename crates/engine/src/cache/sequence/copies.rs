//! A long sequence in no time, for measuring: what stands behind its own pages are copies of them.
//!
//! How fast a token reads a page does not depend on what the page holds, but it does depend on where its bytes come from:
//! every copy has memory of its own, as a page of a real text has.

use std::sync::Arc;

use super::{KvSequence, Slot};
use crate::cache::layout::PageKind;
use crate::cache::page::Page;
use crate::cache::{CacheError, PAGE_TOKENS};

impl KvSequence {
    /// Brings the sequence to `len` tokens: behind its own pages stand copies of them, in their order and again and again,
    /// with as many pages of each kind as if the tokens had been appended. Where only codes of a page are left, its copy as
    /// it is holds what they stand for. What was reserved is forgotten. A sequence that is as long already stays as it is.
    ///
    /// # Errors
    /// [`CacheError::Budget`] or [`CacheError::Memory`]; the sequence has not changed then. Until all copies are there,
    /// pages that the longer sequence sees as codes are held as they are too.
    ///
    /// # Panics
    /// The sequence is shorter than `len`, and not of whole pages.
    pub fn extend_with_copies(&mut self, len: usize) -> Result<(), CacheError> {
        if len <= self.len {
            return Ok(());
        }
        assert!(
            self.len > 0 && self.len.is_multiple_of(PAGE_TOKENS),
            "{} tokens are no whole pages to copy",
            self.len
        );
        let n_own = self.len / PAGE_TOKENS;
        self.truncate(self.len);
        let first_exact = self.first_exact(len);
        let n_packed = self.pool.packed().map_or(0, |_| len / PAGE_TOKENS);
        let kinds = |index: usize| {
            [(index >= first_exact, PageKind::Exact), (index < n_packed, PageKind::Packed)]
                .into_iter()
                .filter(|(is_there, _)| *is_there)
                .map(move |(_, kind)| (index, kind))
        };
        let wanted: Vec<(usize, PageKind)> = (n_own..len.div_ceil(PAGE_TOKENS)).flat_map(kinds).collect();
        let new: Vec<PageKind> = wanted.iter().map(|(_, kind)| *kind).collect();
        let pages = self.pool.take(&new)?;
        self.slots.resize_with(len.div_ceil(PAGE_TOKENS), Slot::default);
        for ((index, kind), mut page) in wanted.into_iter().zip(pages) {
            let source = self.slots[index % n_own].clone();
            if kind == PageKind::Exact {
                self.restore(index % n_own, &source, &mut page);
                self.slots[index].exact = Some(Arc::new(page));
            } else {
                self.copy_codes(source.packed.as_deref().expect("a full page is packed"), &mut page);
                self.slots[index].packed = Some(Arc::new(page));
            }
        }
        self.len = len;
        self.release();
        Ok(())
    }

    /// Copies codes, without the sinks that may stand behind them.
    fn copy_codes(&self, from: &Page, to: &mut Page) {
        for layer in 0..self.pool.geometry().n_layers {
            let n_bytes = self.pool.code_bytes(layer);
            for (kv_head, head) in to.heads_mut(layer).enumerate() {
                head[..n_bytes].copy_from_slice(&from.head(layer, kv_head)[..n_bytes]);
            }
        }
    }
}
