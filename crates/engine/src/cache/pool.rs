//! The pool that pages come from and go back to, with its budget.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lossy_kernels::KvType;
use lossy_kernels::attention::HeadShape;

use super::page::{Page, PageMemory};
use super::{CacheError, KvSequence, PAGE_TOKENS, PageScheme, scheme};

/// What of a model its cache depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvGeometry {
    /// layers
    pub n_layers: usize,
    /// KV heads
    pub n_kv_heads: usize,
    /// query heads on one KV head
    pub heads_per_kv: usize,
    /// channels of a head: a multiple of 8, at most 256
    pub head_dim: usize,
}

impl KvGeometry {
    /// The heads of one layer.
    pub fn heads(&self) -> HeadShape {
        HeadShape { n_kv_heads: self.n_kv_heads, heads_per_kv: self.heads_per_kv, head_dim: self.head_dim }
    }
}

/// Where one layer lies in a page.
#[derive(Clone, Copy, Debug)]
pub(super) struct LayerPlace {
    pub start: usize,
    pub bytes_per_head: usize,
}

/// Pages of one model's cache. All sequences of a batch come from one pool.
#[derive(Debug)]
pub struct KvPool {
    geometry: KvGeometry,
    scheme: Box<dyn PageScheme>,
    layers: Vec<LayerPlace>,
    bytes_per_page: usize,
    budget: Option<usize>,
    pages: Mutex<Pages>,
}

#[derive(Debug, Default)]
struct Pages {
    n_in_use: usize,
    /// memory of pages that nobody holds, to be used again before the system is asked
    free: Vec<PageMemory>,
}

impl KvPool {
    /// A pool of exact pages. `budget` is the most bytes that its pages may take together.
    ///
    /// # Panics
    /// The kernels do not support `geometry`, see [`HeadShape::is_supported`].
    pub fn new(geometry: KvGeometry, kv_type: KvType, budget: Option<usize>) -> Arc<KvPool> {
        KvPool::with_scheme(geometry, scheme::exact(kv_type, geometry.head_dim), budget)
    }

    /// A pool of pages of any scheme.
    ///
    /// # Panics
    /// As [`new`](KvPool::new).
    pub fn with_scheme(
        geometry: KvGeometry,
        scheme: Box<dyn PageScheme>,
        budget: Option<usize>,
    ) -> Arc<KvPool> {
        assert!(geometry.heads().is_supported(), "attention heads {:?}", geometry.heads());
        let mut start = 0;
        let layers = (0..geometry.n_layers)
            .map(|layer| {
                let bytes_per_head = scheme.bytes_per_head(layer);
                assert!(bytes_per_head.is_multiple_of(64), "bytes of a head in layer {layer}");
                let place = LayerPlace { start, bytes_per_head };
                start += bytes_per_head * geometry.n_kv_heads;
                place
            })
            .collect();
        let pages = Mutex::default();
        Arc::new(KvPool { geometry, scheme, layers, bytes_per_page: start, budget, pages })
    }

    /// An empty sequence.
    pub fn sequence(self: &Arc<Self>) -> KvSequence {
        KvSequence::new(self.clone())
    }

    /// The model's shape.
    pub fn geometry(&self) -> &KvGeometry {
        &self.geometry
    }

    /// How its pages store keys and values.
    pub fn scheme(&self) -> &dyn PageScheme {
        &*self.scheme
    }

    /// Bytes of a page of [`PAGE_TOKENS`] tokens: the unit in which memory is counted.
    pub fn bytes_per_page(&self) -> usize {
        self.bytes_per_page
    }

    /// Bytes of one token of a full page.
    pub fn bytes_per_token(&self) -> usize {
        self.bytes_per_page / PAGE_TOKENS
    }

    /// Bytes of all pages that a sequence holds, each page once.
    pub fn bytes_in_use(&self) -> usize {
        self.lock().n_in_use * self.bytes_per_page
    }

    /// Bytes that may be in use.
    pub fn budget(&self) -> Option<usize> {
        self.budget
    }

    /// Gives memory that no sequence holds back to the system.
    pub fn trim(&self) {
        let free = std::mem::take(&mut self.lock().free);
        drop(free);
    }

    pub(super) fn layer(&self, layer: usize) -> LayerPlace {
        self.layers[layer]
    }

    /// `n` new pages, or none.
    pub(super) fn take(self: &Arc<Self>, n: usize) -> Result<Vec<Page>, CacheError> {
        let mut memory = Vec::with_capacity(n);
        let mut pages = self.lock();
        if let Some(budget) = self.budget {
            let used = pages.n_in_use * self.bytes_per_page;
            let needed = n * self.bytes_per_page;
            if needed > budget.saturating_sub(used) {
                return Err(CacheError::Budget { needed, used, budget });
            }
        }
        while memory.len() < n {
            // Memory that was used lately is in the CPU's caches and page tables.
            let page = match pages.free.pop() {
                Some(page) => Ok(page),
                None => PageMemory::new(self.bytes_per_page),
            };
            match page {
                Ok(page) => memory.push(page),
                Err(error) => {
                    pages.free.append(&mut memory);
                    return Err(error);
                }
            }
        }
        pages.n_in_use += n;
        drop(pages);
        Ok(memory.into_iter().map(|memory| Page::new(self.clone(), memory)).collect())
    }

    pub(super) fn put_back(&self, memory: PageMemory) {
        let mut pages = self.lock();
        pages.n_in_use -= 1;
        pages.free.push(memory);
    }

    fn lock(&self) -> MutexGuard<'_, Pages> {
        // The counters are consistent at every point where a panic could happen.
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
