//! One sequence: its length and its pages.

use std::sync::Arc;

use super::page::Page;
use super::{CacheError, KvPool, PAGE_TOKENS};

/// Keys and values of one sequence in all layers.
#[derive(Debug)]
pub struct KvSequence {
    pool: Arc<KvPool>,
    /// Pages of the tokens, and behind them those that are reserved. A page in which a reserved token lies is held by
    /// this sequence only.
    pages: Vec<Arc<Page>>,
    len: usize,
}

impl KvSequence {
    pub(super) fn new(pool: Arc<KvPool>) -> KvSequence {
        KvSequence { pool, pages: Vec::new(), len: 0 }
    }

    /// Tokens.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of the pages it holds, shared ones included.
    pub fn bytes(&self) -> usize {
        self.pages.len() * self.pool.bytes_per_page()
    }

    /// The pool its pages come from.
    pub fn pool(&self) -> &Arc<KvPool> {
        &self.pool
    }

    /// Forgets all tokens from `len` on, and what was reserved; pages that become empty go back to the pool. A longer
    /// `len` than the sequence's changes nothing else.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
        self.pages.truncate(self.len.div_ceil(PAGE_TOKENS));
    }

    /// A second sequence with the same tokens, which shares this one's pages.
    pub fn fork(&self) -> KvSequence {
        let pages = self.pages[..self.len.div_ceil(PAGE_TOKENS)].to_vec();
        KvSequence { pool: self.pool.clone(), pages, len: self.len }
    }

    /// Makes room for `n_new` tokens, so that appending them cannot fail for want of memory: new pages, and a copy of
    /// the last page if it is shared and not full.
    ///
    /// # Errors
    /// [`CacheError::Budget`] or [`CacheError::Memory`]; the sequence has not changed then.
    pub fn reserve(&mut self, n_new: usize) -> Result<(), CacheError> {
        if n_new == 0 {
            return Ok(());
        }
        let (first, n_kept) = (self.len / PAGE_TOKENS, self.len % PAGE_TOKENS);
        let is_shared = n_kept > 0 && Arc::get_mut(&mut self.pages[first]).is_none();
        let n_pages = (self.len + n_new).div_ceil(PAGE_TOKENS);
        let n_added = n_pages.saturating_sub(self.pages.len());
        let mut pages = self.pool.take(n_added + usize::from(is_shared))?;
        if is_shared && let Some(mut page) = pages.pop() {
            page.copy_from(&self.pages[first], n_kept);
            self.pages[first] = Arc::new(page);
        }
        self.pages.extend(pages.into_iter().map(Arc::new));
        Ok(())
    }

    /// Counts `n_new` tokens that were appended in all layers.
    ///
    /// # Panics
    /// They were not reserved.
    pub fn advance(&mut self, n_new: usize) {
        self.assert_reserved(n_new);
        self.len += n_new;
    }

    pub(super) fn assert_reserved(&self, n_new: usize) {
        let n_reserved = self.pages.len() * PAGE_TOKENS - self.len;
        assert!(n_new <= n_reserved, "{n_new} new tokens, but room for {n_reserved} is reserved");
    }

    /// Page `index`.
    pub(super) fn page(&self, index: usize) -> Option<&Page> {
        self.pages.get(index).map(|page| &**page)
    }

    /// The pages in which the `n_new` next tokens lie: each one's first token and the page, to be written.
    ///
    /// # Panics
    /// They were not reserved.
    pub(super) fn pages_mut(&mut self, n_new: usize) -> impl Iterator<Item = (usize, &mut Page)> {
        self.assert_reserved(n_new);
        let first = self.len / PAGE_TOKENS;
        // No tokens, no pages: the last one may be shared.
        let pages = first..if n_new == 0 { first } else { (self.len + n_new).div_ceil(PAGE_TOKENS) };
        self.pages[pages].iter_mut().enumerate().map(move |(index, page)| {
            let page = Arc::get_mut(page).expect("a page with reserved tokens is not shared");
            ((first + index) * PAGE_TOKENS, page)
        })
    }
}
