//! A position map: from the positions of a query and a key to the distance that the model sees between them.
//!
//! A model trained on `L` tokens knows distances below `L`. In a longer text a map makes them fit. Each map is a file beside
//! this one, with its formula, its words and its checks. In formulae `m` is the position of the query, `n ≤ m` that of the
//! key, `T = 128·⌊m/128⌋` the first position of the query's page, `F = 64·⌊n/64⌋` that of the key's frame.
//!
//! Attention uses a map without touching a stored key. It asks which *rotation* of the queries meets a page of keys
//! ([`PositionMap::meeting`], [`PositionMap::query_position`]), where the *frames* of a page begin
//! ([`PositionMap::frame_start`]), and where a *token* stands ([`PositionMap::token_position`]). The defaults here are those
//! of the model's own positions. All are asked once for a page of 128 keys and a KV head, or more seldom.

use std::fmt::Debug;

use lossy_kernels::attention::Meeting;
use lossy_kernels::page::{FRAME_TOKENS, PAGE_TOKENS};

/// Most tokens that share the space of one: then frames begin at neighbouring positions.
pub(super) const MAX_STRETCH: usize = FRAME_TOKENS;

/// A position map; all numbers are tokens.
pub trait PositionMap: Debug + Send + Sync {
    /// The distance that the model sees between a query at `query` and a key at `key`, which is not after it: the formula,
    /// for tests and reports. Attention does not use it.
    fn distance(&self, query: usize, key: usize) -> usize;

    /// Numbers of tokens that must be multiples of [`PAGE_TOKENS`]: pages of keys meet a query in one way.
    fn windows(&self) -> Vec<usize> {
        Vec::new()
    }

    /// Rotations that queries need.
    fn n_rotations(&self) -> usize {
        1
    }

    /// The position for which a query at `position` is rotated. Rotation 0 is its own.
    fn query_position(&self, _rotation: usize, position: usize) -> usize {
        position
    }

    /// The rotations of the queries of page `asking` that meet the keys of page `page`.
    fn meeting(&self, _page: usize, _asking: usize) -> Meeting {
        Meeting::Whole(0)
    }

    /// Pages from the first on whose frames the queries of page `asking` see elsewhere than they are.
    fn n_moved_pages(&self, _asking: usize) -> usize {
        0
    }

    /// Where queries of page `asking` see the first token of frame `frame`, if its page is one of those that
    /// [move](PositionMap::n_moved_pages).
    fn frame_start(&self, frame: usize, _asking: usize) -> usize {
        frame * FRAME_TOKENS
    }

    /// Where a token stands for rotations other than 0, if tokens move one by one.
    fn token_position(&self, _position: usize) -> Option<usize> {
        None
    }

    /// How many times as long a query at `position` is.
    fn query_scale(&self, _position: usize) -> f32 {
        1.0
    }
}

/// The first position of the page of `position`.
pub(super) fn page_start(position: usize) -> usize {
    position / PAGE_TOKENS * PAGE_TOKENS
}

/// The first position of the frame of `position`.
pub(super) fn frame_start(position: usize) -> usize {
    position / FRAME_TOKENS * FRAME_TOKENS
}
