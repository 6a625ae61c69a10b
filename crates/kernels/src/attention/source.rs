//! What attention asks of a cache, page by page.

use std::ops::Range;

use crate::Isa;
use crate::page::{PAGE_TOKENS, Partial, QueryRows, RowStates, Tile, TokenQueries};

/// A page of one KV head, and who asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// KV head
    pub kv_head: usize,
    /// page of the sequence
    pub page: usize,
    /// which of its tokens, of which there is at least one
    pub tokens: Range<usize>,
    /// which of them each token that asks sees
    pub part: PagePart,
    /// the rotation of the queries that ask
    pub rotation: usize,
    /// Page of the tokens that ask: the same for all tokens of a tile, so that a cache may show them a page in one way
    /// when it is near, and in another when it is far.
    pub asking_page: usize,
}

/// Which queries meet a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meeting {
    /// those of one rotation
    Whole(usize),
    /// A window ends in the page. Token `i` of its own page sees tokens `0..=i` of this one with the rotation `far`, and
    /// the others with the rotation `near`, which may be the same: a source may show the two parts differently.
    Split {
        /// rotation that meets the far tokens
        far: usize,
        /// rotation that meets the near ones
        near: usize,
    },
}

/// What attention asks of a sequence's cache, one layer of it.
pub trait PageSource: Sync {
    /// How queries of the tokens of one page meet another, `page`, which may be theirs.
    fn meeting(&self, _page: usize, _asking_page: usize) -> Meeting {
        Meeting::Whole(0)
    }

    /// The partial softmax of one token's query heads: a row of `partial` for each head of `token`.
    fn attend_token(&self, isa: Isa, asked: Asked, token: &mut TokenQueries, partial: &mut Partial<'_>);

    /// Merges into `states` the softmax of some query rows, all of which see the whole page, over the page as it is stored.
    /// Returns how many of its first tokens are left, to be attended to as a tile: all, if nothing was done.
    fn attend_rows(
        &self,
        _isa: Isa,
        _asked: Asked,
        _queries: &mut QueryRows,
        _rows: &[u16],
        _states: RowStates<'_>,
    ) -> usize {
        PAGE_TOKENS
    }

    /// What the pages that a token skips may weigh together, as a share of all weights; `None`: it reads all.
    fn sparsity(&self) -> Option<f32> {
        None
    }

    /// Whether [`estimate_rows`](PageSource::estimate_rows) and [`attend_rows`](PageSource::attend_rows) can read all of a whole page.
    fn is_estimated(&self, _asked: &Asked) -> bool {
        false
    }

    /// Estimates what the page weighs for each query row, if a score of `shifts` weighs 1.
    ///
    /// # Panics
    /// It cannot; see [`is_estimated`](PageSource::is_estimated).
    fn estimate_rows(
        &self,
        _isa: Isa,
        _asked: Asked,
        _queries: &mut QueryRows,
        _shifts: &[f32],
        _weights: &mut [f32],
    ) {
        panic!("pages of this source are not estimated")
    }

    /// Is told that query rows of a layer read `n_read` of the `n_seen` pages that they saw, if some could be skipped. Threads
    /// call it at any time.
    fn note_pages(&self, _n_read: u64, _n_seen: u64) {}

    /// The page as float32.
    fn load_tile(&self, isa: Isa, asked: Asked, tile: &mut Tile);
}

/// Which tokens of a page a query sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PagePart {
    /// those before it, and itself
    Seen,
    /// of a page before its own, in which a window ends: those that are at least the window away, `0..=i` for token `i`
    /// of its own page
    Far,
    /// the others
    Near,
}

impl PagePart {
    /// Of the page beginning at token `first`, for a token that sees `n_visible` tokens of its sequence.
    pub(super) fn tokens(self, first: usize, n_visible: usize) -> Range<usize> {
        let split = (n_visible - 1) % PAGE_TOKENS + 1;
        match self {
            PagePart::Seen => 0..n_visible.saturating_sub(first).min(PAGE_TOKENS),
            PagePart::Far => 0..split,
            PagePart::Near if split == PAGE_TOKENS => 0..0,
            PagePart::Near => split..PAGE_TOKENS,
        }
    }
}
