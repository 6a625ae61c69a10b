//! The pool that pages of one layout come from and go back to.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lossy_kernels::memory::Slabs;
use lossy_kernels::page::HeadShape;
use lossy_kernels::{ActivationKind, KvType};

use crate::positions::Positions;

use super::layout::{CacheLayout, PageKind, PageLayout};
use super::padding::Padding;
use super::page::{Page, PageMemory};
use super::{Budget, CacheError, KvSequence, PAGE_TOKENS, PackedLayers};

/// Bytes of address space that pages share: so many that the rest of the last huge page is little beside them.
const SLAB_BYTES: usize = 64 << 20;

/// What of a model its cache depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvGeometry {
    /// layers
    pub n_layers: usize,
    /// KV heads
    pub n_kv_heads: usize,
    /// query heads on one KV head
    pub heads_per_kv: usize,
    /// channels of a head: an even number; with those that its storage adds at most 256
    pub head_dim: usize,
}

impl KvGeometry {
    /// The heads of one layer.
    pub fn heads(&self) -> HeadShape {
        HeadShape { n_kv_heads: self.n_kv_heads, heads_per_kv: self.heads_per_kv, head_dim: self.head_dim }
    }

    /// Keys and values of one token, counted singly.
    pub fn values_per_token(&self) -> usize {
        2 * self.n_layers * self.n_kv_heads * self.head_dim
    }
}

/// Pages of one model in one layout. Pools of one model can share a [`Budget`], and their sequences a batch.
#[derive(Debug)]
pub struct KvPool {
    geometry: KvGeometry,
    /// as they are stored
    heads: HeadShape,
    padding: Padding,
    layout: CacheLayout,
    positions: Arc<Positions>,
    /// whether every query meets every key where both are
    moves_nothing: bool,
    /// by [`PageKind`]
    kinds: [PageLayout; 3],
    budget: Arc<Budget>,
    slabs: Slabs,
    pages: Mutex<Pages>,
}

#[derive(Debug, Default)]
struct Pages {
    bytes_in_use: usize,
    /// memory of pages that nobody holds, to be used again before the system is asked; by [`PageKind`]
    free: [Vec<PageMemory>; 3],
}

impl KvPool {
    /// A pool of exact pages. `budget` counts its pages, with those of other pools that share it.
    ///
    /// # Panics
    /// The kernels do not support `geometry`, see [`HeadShape::is_supported`].
    pub fn new(
        geometry: KvGeometry,
        kv_type: KvType,
        positions: Arc<Positions>,
        budget: Arc<Budget>,
    ) -> Arc<KvPool> {
        KvPool::with_layout(geometry, CacheLayout::exact(kv_type), positions, budget)
    }

    /// A pool of pages of any layout, whose sequences have the given positions unless they are made with others.
    ///
    /// # Panics
    /// As [`new`](KvPool::new); or the layout packs another number of layers.
    pub fn with_layout(
        geometry: KvGeometry,
        layout: CacheLayout,
        positions: Arc<Positions>,
        budget: Arc<Budget>,
    ) -> Arc<KvPool> {
        let stored_dim = geometry.head_dim.next_multiple_of(layout.channel_multiple);
        let padding = Padding::new(geometry.head_dim, stored_dim);
        let heads = HeadShape { head_dim: stored_dim, ..geometry.heads() };
        assert!(heads.is_supported(), "attention heads {heads:?}");
        let positions = positions.with_pairs(stored_dim / 2);
        if let Some(packed) = &layout.packed {
            assert_eq!(packed.codes.len(), geometry.n_layers, "codes of layers");
        }
        let kinds = PageKind::ALL.map(|kind| PageLayout::new(&geometry, stored_dim, &layout, kind));
        let slabs = Slabs::new(SLAB_BYTES);
        let pages = Mutex::default();
        let moves_nothing = positions.moves_nothing();
        let pool = Arc::new(KvPool {
            geometry,
            heads,
            padding,
            layout,
            positions,
            moves_nothing,
            kinds,
            budget,
            slabs,
            pages,
        });
        pool.budget.register(&pool);
        pool
    }

    /// An empty sequence.
    pub fn sequence(self: &Arc<Self>) -> KvSequence {
        self.sequence_at(self.positions.clone())
    }

    /// An empty sequence with other positions.
    pub fn sequence_at(self: &Arc<Self>, positions: Arc<Positions>) -> KvSequence {
        KvSequence::new(self.clone(), positions.with_pairs(self.heads.head_dim / 2))
    }

    /// The positions of sequences unless they are made with others.
    pub fn positions(&self) -> &Arc<Positions> {
        &self.positions
    }

    /// The model's shape.
    pub fn geometry(&self) -> &KvGeometry {
        &self.geometry
    }

    /// Its heads as they are stored, with channels of zeros if need be.
    pub(super) fn heads(&self) -> HeadShape {
        self.heads
    }

    /// Where a head's own channels are among those.
    pub(super) fn padding(&self) -> Padding {
        self.padding
    }

    /// How its pages store keys and values.
    pub fn layout(&self) -> &CacheLayout {
        &self.layout
    }

    /// How older tokens are packed, if they are.
    pub fn packed(&self) -> Option<&PackedLayers> {
        self.layout.packed.as_ref()
    }

    /// Whether a token has the same bits alone as together with others of its page. One token reads frames that a position map
    /// moves in another way than several, and so it does some codes: all of them if several read them as float32, as with
    /// activations in float32.
    pub fn computes_alike(&self, activations: ActivationKind) -> bool {
        let reads_alike = |packed: &PackedLayers| {
            activations == ActivationKind::Q8 && packed.codes.iter().all(|code| code.computes_alike())
        };
        self.moves_nothing && self.packed().is_none_or(reads_alike)
    }

    /// Bytes of a page of [`PAGE_TOKENS`] tokens far from both ends of a sequence.
    pub fn bytes_per_page(&self) -> usize {
        self.page_layout(if self.layout.packed.is_some() { PageKind::Packed } else { PageKind::Exact }).bytes
    }

    /// Bytes of a page of tokens as they are.
    pub fn exact_bytes_per_page(&self) -> usize {
        self.page_layout(PageKind::Exact).bytes
    }

    /// Bytes of one token far from both ends of a sequence.
    pub fn bytes_per_token(&self) -> usize {
        self.bytes_per_page().div_ceil(PAGE_TOKENS)
    }

    /// Bytes of the pages of a sequence of so many tokens, when it goes on token by token.
    pub fn bytes_of_length(&self, n_tokens: usize) -> usize {
        let n_pages = n_tokens.div_ceil(PAGE_TOKENS);
        let Some(packed) = self.packed() else { return n_pages * self.exact_bytes_per_page() };
        let n_exact = n_pages.min(packed.window.recent_pages() + 1);
        let n_packed = n_tokens / PAGE_TOKENS;
        let of_first = if n_packed > 0 { self.page_layout(PageKind::First).bytes } else { 0 };
        n_exact * self.exact_bytes_per_page() + of_first + n_packed.saturating_sub(1) * self.bytes_per_page()
    }

    /// Bits of one key or value far from both ends of a sequence: codes, scales, padding.
    pub fn bits_per_value(&self) -> f64 {
        8.0 * self.bytes_per_page() as f64 / (PAGE_TOKENS * self.geometry.values_per_token()) as f64
    }

    /// Bytes of all pages that a sequence holds, each page once.
    pub fn bytes_in_use(&self) -> usize {
        self.lock().bytes_in_use
    }

    /// What counts its pages.
    pub fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// Gives memory that no sequence holds back to the system.
    pub fn trim(&self) {
        let free = std::mem::take(&mut self.lock().free);
        self.budget.remove_spare(self.bytes_of(&free));
    }

    fn bytes_of(&self, free: &[Vec<PageMemory>; 3]) -> usize {
        free.iter().zip(&self.kinds).map(|(pages, kind)| pages.len() * kind.bytes).sum()
    }

    pub(super) fn page_layout(&self, kind: PageKind) -> &PageLayout {
        &self.kinds[kind as usize]
    }

    /// New pages of the given kinds, all or none.
    pub(super) fn take(self: &Arc<Self>, kinds: &[PageKind]) -> Result<Vec<Page>, CacheError> {
        let needed = self.bytes_of_kinds(kinds);
        self.budget.claim(needed)?;
        // Memory that was used lately is in the CPU's caches and page tables.
        let mut memory: Vec<Option<PageMemory>> = {
            let mut pages = self.lock();
            pages.bytes_in_use += needed;
            kinds.iter().map(|kind| pages.free[*kind as usize].pop()).collect()
        };
        let found = kinds.iter().zip(&memory).filter(|(_, memory)| memory.is_some());
        self.budget.remove_spare(found.map(|(kind, _)| self.page_layout(*kind).bytes).sum());
        if memory.iter().any(Option::is_none) {
            self.budget.make_room();
        }
        for (kind, memory) in kinds.iter().zip(&mut memory) {
            if memory.is_none() {
                match PageMemory::new(&self.slabs, self.page_layout(*kind).bytes) {
                    Ok(new) => *memory = Some(new),
                    Err(error) => {
                        self.lock().bytes_in_use -= needed;
                        self.budget.release(needed);
                        return Err(error);
                    }
                }
            }
        }
        let pages = kinds.iter().zip(memory);
        Ok(pages.filter_map(|(kind, memory)| Some(Page::new(self.clone(), *kind, memory?))).collect())
    }

    /// Bytes of pages of the given kinds.
    pub(super) fn bytes_of_kinds(&self, kinds: &[PageKind]) -> usize {
        kinds.iter().map(|kind| self.page_layout(*kind).bytes).sum()
    }

    pub(super) fn put_back(&self, kind: PageKind, memory: PageMemory) {
        let bytes = self.page_layout(kind).bytes;
        let mut pages = self.lock();
        pages.bytes_in_use -= bytes;
        pages.free[kind as usize].push(memory);
        drop(pages);
        self.budget.add_spare(bytes);
        self.budget.release(bytes);
    }

    fn lock(&self) -> MutexGuard<'_, Pages> {
        // The counters are consistent at every point where a panic could happen.
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for KvPool {
    fn drop(&mut self) {
        // Pages hold their pool, so all that is left is spare.
        let free = std::mem::take(&mut self.lock().free);
        self.budget.remove_spare(self.bytes_of(&free));
    }
}
