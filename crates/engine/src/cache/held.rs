//! Pages that are held apart from sequences, and sequences that are made of them.
//!
//! Whoever holds a page may read its bytes, to save them, and can put it into a sequence again; what the bytes mean stays
//! inside the cache. A page that is held is never written: a sequence that appends to it takes a copy first.

use std::sync::Arc;

use lossy_kernels::kv::{ExactHead, ExactHeadMut};

use super::layout::PageKind;
use super::page::Page;
use super::sequence::Slot;
use super::{CacheError, KvPool, KvSequence, PAGE_TOKENS};

/// How a page has its tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HeldKind {
    /// as they are
    Exact,
    /// as codes
    Packed,
}

/// A page of a pool, with [`PAGE_TOKENS`] tokens or fewer.
#[derive(Clone, Debug)]
pub struct HeldPage(Arc<Page>);

impl HeldPage {
    /// All its bytes.
    pub fn bytes(&self) -> &[u8] {
        self.0.bytes()
    }

    /// How many.
    pub fn n_bytes(&self) -> usize {
        self.0.n_bytes()
    }

    /// Whether nobody else holds it, so that its memory comes free with it.
    pub fn is_idle(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

/// The pages of one place of a sequence.
#[derive(Clone, Debug, Default)]
pub struct HeldSlot {
    /// its tokens as they are
    pub exact: Option<HeldPage>,
    /// the same tokens as codes
    pub packed: Option<HeldPage>,
}

impl KvSequence {
    /// Page `index`, if the sequence has it in that way. A packed one must lie before the end of the sequence.
    pub fn held(&self, index: usize, kind: HeldKind) -> Option<HeldPage> {
        let slot = self.slots().get(index)?;
        match kind {
            HeldKind::Exact => slot.exact.clone(),
            HeldKind::Packed => slot.packed.clone().filter(|_| (index + 1) * PAGE_TOKENS <= self.len()),
        }
        .map(HeldPage)
    }

    /// A copy of the first `n_tokens` of page `index`, which the sequence has as they are; `None` if it has not. What was in
    /// the memory of either before is not in it, but for the keys of at most seven more tokens.
    ///
    /// # Errors
    /// [`CacheError::Budget`] or [`CacheError::Memory`].
    pub fn copy_of_first(&self, index: usize, n_tokens: usize) -> Result<Option<HeldPage>, CacheError> {
        let Some(HeldPage(page)) = self.held(index, HeldKind::Exact) else { return Ok(None) };
        let pool = self.pool();
        let mut copy = pool.take(&[PageKind::Exact])?.remove(0);
        let (kv_type, head_dim) = (pool.layout().exact, pool.heads().head_dim);
        copy.bytes_mut().fill(0);
        for layer in 0..pool.geometry().n_layers {
            for (kv_head, head) in copy.heads_mut(layer).enumerate() {
                let source = ExactHead::new(kv_type, head_dim, page.head(layer, kv_head));
                ExactHeadMut::new(kv_type, head_dim, head).copy_from(source, n_tokens);
            }
        }
        Ok(Some(HeldPage(Arc::new(copy))))
    }

    /// A sequence of `len` tokens that lie in `slots`.
    ///
    /// # Panics
    /// There are not as many slots as `len` needs.
    pub fn of_held(pool: &Arc<KvPool>, slots: Vec<HeldSlot>, len: usize) -> KvSequence {
        assert_eq!(slots.len(), len.div_ceil(PAGE_TOKENS), "pages of {len} tokens");
        let slot = |held: HeldSlot| Slot {
            exact: held.exact.map(|page| page.0),
            packed: held.packed.map(|page| page.0),
        };
        KvSequence::of_slots(pool.clone(), slots.into_iter().map(slot).collect(), len)
    }
}

impl KvPool {
    /// Bytes of page `index` of a sequence.
    pub fn bytes_of_page(&self, index: usize, kind: HeldKind) -> usize {
        self.page_layout(kind.of_page(index)).bytes
    }

    /// A new page for place `index` of a sequence, whose bytes `fill` writes.
    ///
    /// # Errors
    /// [`CacheError::Budget`] or [`CacheError::Memory`]; those of `fill`.
    pub fn fill_page<E: From<CacheError>>(
        self: &Arc<Self>,
        index: usize,
        kind: HeldKind,
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<HeldPage, E> {
        let mut page = self.take(&[kind.of_page(index)])?.remove(0);
        fill(page.bytes_mut())?;
        Ok(HeldPage(Arc::new(page)))
    }
}

impl HeldKind {
    fn of_page(self, index: usize) -> PageKind {
        match self {
            HeldKind::Exact => PageKind::Exact,
            HeldKind::Packed if index == 0 => PageKind::First,
            HeldKind::Packed => PageKind::Packed,
        }
    }
}
