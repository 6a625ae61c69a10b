//! A page: the memory of [`PAGE_TOKENS`](super::PAGE_TOKENS) tokens of one or several sequences.

use std::sync::Arc;

use lossy_kernels::memory::{AlignedBytes, Slabs};

use super::layout::PageKind;
use super::{CacheError, KvPool};

/// Memory of one page: zero, aligned to 64, and touched only where it is written.
#[derive(Debug)]
pub(super) struct PageMemory(AlignedBytes);

impl PageMemory {
    pub(super) fn new(slabs: &Slabs, bytes: usize) -> Result<PageMemory, CacheError> {
        slabs.zeroed(bytes).map(PageMemory).map_err(|error| CacheError::Memory { bytes, error })
    }
}

/// A page of a pool; its memory goes back there when the last sequence that holds it lets go.
#[derive(Debug)]
pub(super) struct Page {
    pool: Arc<KvPool>,
    kind: PageKind,
    /// `None` only while it is dropped
    memory: Option<PageMemory>,
}

impl Page {
    pub(super) fn new(pool: Arc<KvPool>, kind: PageKind, memory: PageMemory) -> Page {
        Page { pool, kind, memory: Some(memory) }
    }

    /// Its size.
    pub(super) fn n_bytes(&self) -> usize {
        self.pool.page_layout(self.kind).bytes
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.memory.as_ref().map_or(&[], |memory| &memory.0)
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        self.memory.as_mut().map_or(&mut [][..], |memory| &mut memory.0)
    }

    /// The bytes of one KV head of one layer.
    pub(super) fn head(&self, layer: usize, kv_head: usize) -> &[u8] {
        let layer = self.pool.page_layout(self.kind).layers[layer];
        &self.bytes()[layer.start + kv_head * layer.bytes_per_head..][..layer.bytes_per_head]
    }

    /// The bytes of each KV head of one layer.
    pub(super) fn heads_mut(&mut self, layer: usize) -> impl Iterator<Item = &mut [u8]> {
        let layer = self.pool.page_layout(self.kind).layers[layer];
        let n_kv_heads = self.pool.geometry().n_kv_heads;
        self.bytes_mut()[layer.start..].chunks_exact_mut(layer.bytes_per_head).take(n_kv_heads)
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        if let Some(memory) = self.memory.take() {
            self.pool.put_back(self.kind, memory);
        }
    }
}
