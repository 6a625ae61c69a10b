//! How the pages of one pool are laid out: exact ones, packed ones, and the first packed one, which also holds the sinks.

use std::sync::Arc;

use lossy_kernels::KvType;

use super::code::PageCode;
use super::{KvGeometry, PAGE_TOKENS};

/// Sinks are stored in blocks of so many tokens, which kernels read as a whole.
const SINK_TOKENS: usize = 32;

/// Exact pages store heads with a multiple of so many channels.
pub(super) const EXACT_CHANNELS: usize = 8;

/// What a page is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PageKind {
    /// recent tokens, as they are
    Exact,
    /// older tokens, as codes
    Packed,
    /// the first page's codes, and the sinks as they are
    First,
}

impl PageKind {
    pub(super) const ALL: [PageKind; 3] = [PageKind::Exact, PageKind::Packed, PageKind::First];
}

/// What a token sees as it is, besides the tokens of its own page. What it sees of older pages, it sees as codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    recent_pages: usize,
    steps: Steps,
}

/// How tokens leave a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Steps {
    /// page by page
    Pages,
    /// keys by so many pages as are recent at once, counted from the first page of the sequence; values one with each token
    KeysTogetherValuesSingly,
}

impl Window {
    /// Keys and values of so many pages before a token's own.
    pub fn pages(recent_pages: usize) -> Window {
        Window { recent_pages, steps: Steps::Pages }
    }

    /// Keys of a token's own stretch of `recent_pages` pages, counted from the first page of the sequence, and the last
    /// `recent_pages` pages' worth of values, its own included, of which one leaves with each token.
    pub fn of_grouped_keys(recent_pages: usize) -> Window {
        Window { recent_pages, steps: Steps::KeysTogetherValuesSingly }
    }

    /// Pages before a token's own of which it may see something as it is.
    pub fn recent_pages(self) -> usize {
        self.recent_pages
    }

    /// Whether a token of page `asking` sees the keys of page `index` as they are.
    pub(super) fn has_keys(self, index: usize, asking: usize) -> bool {
        let n = self.recent_pages;
        match self.steps {
            Steps::Pages => index + n >= asking,
            Steps::KeysTogetherValuesSingly => index >= asking / n.max(1) * n.max(1),
        }
    }

    /// Whether the values of page `index` leave one by one while tokens of page `asking` arrive.
    pub(super) fn ends_in(self, index: usize, asking: usize) -> bool {
        match self.steps {
            Steps::Pages => false,
            Steps::KeysTogetherValuesSingly => self.recent_pages > 0 && index + self.recent_pages == asking,
        }
    }
}

/// How old tokens are stored.
#[derive(Clone, Debug)]
pub struct PackedLayers {
    /// of each layer
    pub codes: Vec<Arc<dyn PageCode>>,
    /// first tokens that stay exact
    pub sinks: usize,
    /// what a token sees as it is
    pub window: Window,
    /// What the pages that a token skips may weigh together, as a share of all of attention's weights; `None`: it reads all.
    pub sparsity: Option<f32>,
}

/// How all tokens are stored.
#[derive(Clone, Debug)]
pub struct CacheLayout {
    /// the scheme, as it is spelled
    pub name: String,
    /// type of what is exact
    pub exact: KvType,
    /// whether values are stored transformed by [`hadamard`](lossy_kernels::kv::hadamard), those of heads with channels of
    /// zeros also mixed
    pub transforms_values: bool,
    /// heads are stored with a multiple of so many channels: an even number
    pub channel_multiple: usize,
    /// how older tokens are packed; `None`: not at all
    pub packed: Option<PackedLayers>,
}

impl CacheLayout {
    /// Everything as it is.
    pub fn exact(exact: KvType) -> CacheLayout {
        CacheLayout {
            name: exact.name().to_owned(),
            exact,
            transforms_values: false,
            channel_multiple: EXACT_CHANNELS,
            packed: None,
        }
    }
}

impl PackedLayers {
    /// Whether page `page` of a sequence has sinks beside its codes.
    pub(super) fn has_sinks(&self, page: usize) -> bool {
        page == 0 && self.sinks > 0
    }

    /// Room for sinks, in tokens.
    pub(super) fn sink_capacity(&self) -> usize {
        self.sinks.next_multiple_of(SINK_TOKENS)
    }
}

/// Where the heads of one layer lie in a page of one kind.
#[derive(Clone, Copy, Debug)]
pub(super) struct LayerPlace {
    pub start: usize,
    pub bytes_per_head: usize,
}

/// A kind of page in bytes.
#[derive(Debug, Default)]
pub(super) struct PageLayout {
    pub layers: Vec<LayerPlace>,
    pub bytes: usize,
}

impl PageLayout {
    /// Of heads that are stored with `stored_dim` channels.
    pub(super) fn new(
        geometry: &KvGeometry,
        stored_dim: usize,
        layout: &CacheLayout,
        kind: PageKind,
    ) -> PageLayout {
        let exact = |n_tokens: usize| layout.exact.bytes_of_tokens(n_tokens, stored_dim);
        let bytes_per_head = |layer: usize| match (&layout.packed, kind) {
            (_, PageKind::Exact) | (None, _) => exact(PAGE_TOKENS),
            (Some(packed), PageKind::Packed) => packed.codes[layer].bytes_per_head(),
            (Some(packed), PageKind::First) => {
                packed.codes[layer].bytes_per_head() + exact(packed.sink_capacity())
            }
        };
        let mut bytes = 0;
        let layers = (0..geometry.n_layers)
            .map(|layer| {
                let bytes_per_head = bytes_per_head(layer).next_multiple_of(64);
                let place = LayerPlace { start: bytes, bytes_per_head };
                bytes += bytes_per_head * geometry.n_kv_heads;
                place
            })
            .collect();
        PageLayout { layers, bytes }
    }
}
