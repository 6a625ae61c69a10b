//! The seam between pages and what their bytes mean.

use std::fmt::Debug;

use lossy_kernels::Isa;
use lossy_kernels::kv::{ExactHead, HeadF32, RotatedCode, Stored};
use lossy_kernels::page::{PAGE_TOKENS, PageFrames, Partial, QueryRows, RowStates, TokenQueries};

use crate::positions::Positions;

/// Which head of which page, and where its frames are seen.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// KV head
    pub kv_head: usize,
    /// page of the sequence
    pub page: usize,
    /// rotations of the first positions of the page's frames, as they are seen
    pub frames: PageFrames<'a>,
    /// from where the frames are to where they are seen; `None`: they are seen where they are
    pub moved: Option<PageFrames<'a>>,
}

impl<'a> Place<'a> {
    /// A page whose frames are seen where they are.
    pub(super) fn itself(positions: &'a Positions, kv_head: usize, page: usize) -> Place<'a> {
        Place { kv_head, page, frames: positions.own().page(page), moved: None }
    }
}

/// How one layer's packed pages store keys and values. A packed page is always full.
///
/// Keys are rotated for their positions; values are transformed if [`CacheLayout::transforms_values`] says so. `packed`
/// below is the bytes of one KV head, [`bytes_per_head`](PageCode::bytes_per_head) of them, aligned to 64.
///
/// [`CacheLayout::transforms_values`]: super::CacheLayout::transforms_values
pub trait PageCode: Debug + Send + Sync {
    /// Bytes of one head of a page: a multiple of 64.
    fn bytes_per_head(&self) -> usize;

    /// Bits of one key or value on average, scales and padding included.
    fn bits_per_value(&self, head_dim: usize) -> f64 {
        8.0 * self.bytes_per_head() as f64 / (2 * PAGE_TOKENS * head_dim) as f64
    }

    /// Packs a full page's head, whose frames are seen where they are.
    fn pack(&self, isa: Isa, place: Place<'_>, exact: ExactHead<'_>, packed: &mut [u8]);

    /// What the codes stand for, its frames seen where they are.
    fn unpack(&self, isa: Isa, place: Place<'_>, packed: &[u8], out: &mut HeadF32);

    /// The partial softmax of one token's query heads over the whole page, from the codes, but for sinks. Where frames are seen follows from `place`: `place.frames` for codes
    /// that are relative to them, [`TokenQueries::set_moved`] for keys as they are.
    ///
    /// Returns `false`, having done nothing, if this code has no such kernel; the page is unpacked then.
    fn attend_token(
        &self,
        _isa: Isa,
        _place: Place<'_>,
        _stored: Stored<'_>,
        _token: &mut TokenQueries,
        _partial: &mut Partial<'_>,
    ) -> bool {
        false
    }

    /// Merges into `states` the softmax of some query rows over the whole page, from the codes, but for sinks.
    ///
    /// Returns `false`, having done nothing, if this code has no such kernel, or it would be slower than float32; the page
    /// becomes a tile then.
    fn attend_rows(
        &self,
        _isa: Isa,
        _place: Place<'_>,
        _stored: Stored<'_>,
        _queries: &mut QueryRows,
        _rows: &[u16],
        _states: RowStates<'_>,
    ) -> bool {
        false
    }

    /// Whether a row of several has the bits that it has in [`attend_token`](PageCode::attend_token), where no frames are moved.
    fn computes_alike(&self) -> bool {
        false
    }

    /// Whether [`estimate_rows`](PageCode::estimate_rows) estimates the weight of a page.
    fn is_estimated(&self) -> bool {
        false
    }

    /// Estimates what the whole page weighs for each query row, if a score of `shifts` (log₂) weighs 1.
    ///
    /// # Panics
    /// This code has no such kernel.
    fn estimate_rows(
        &self,
        _isa: Isa,
        _place: Place<'_>,
        _packed: &[u8],
        _queries: &mut QueryRows,
        _shifts: &[f32],
        _weights: &mut [f32],
    ) {
        panic!("pages of this code are not estimated")
    }
}

/// A head of a code that stores keys as they come.
#[derive(Debug)]
pub(super) struct RotatedPage<C>(pub C);

impl<C: RotatedCode> PageCode for RotatedPage<C> {
    fn bytes_per_head(&self) -> usize {
        self.0.bytes()
    }

    fn pack(&self, _isa: Isa, _place: Place<'_>, exact: ExactHead<'_>, packed: &mut [u8]) {
        let mut head = HeadF32::default();
        head.load(exact);
        self.0.pack(&head, packed);
    }

    fn unpack(&self, isa: Isa, _place: Place<'_>, packed: &[u8], out: &mut HeadF32) {
        self.0.unpack(isa, packed, out);
    }

    fn attend_token(
        &self,
        isa: Isa,
        place: Place<'_>,
        stored: Stored<'_>,
        token: &mut TokenQueries,
        partial: &mut Partial<'_>,
    ) -> bool {
        if place.moved.is_some() {
            // The kernel meets all tokens with one query.
            return false;
        }
        self.0.attend_token(isa, stored, token, partial);
        true
    }
}
