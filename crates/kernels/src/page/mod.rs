//! A page of one KV head: what attention and the storage formats of keys and values both speak of, and nothing of either.
//!
//! A sequence is cut into *pages* of [`PAGE_TOKENS`] tokens. What a cache holds of a page for one layer and one KV head is a
//! *head* of it. Attention asks for the partial softmax ([`Partial`]) of one token's query heads ([`TokenQueries`]) over a
//! head, or for the head as float32 ([`Tile`]); a format answers. [`Rows`] are the queries, keys and values of a batch as
//! they come out of a projection, and [`FrameTable`] and [`TokenTable`] say by which angles keys are moved.

mod rows;
mod frames;
mod softmax;
mod partial;
mod tile;
mod queries;

pub(crate) use frames::Frame;
pub use frames::{FRAME_TOKENS, FRAMES, FrameTable, PageFrames, PageTurns, TokenTable};
pub use partial::{Partial, RowStates};
pub(crate) use partial::{clear, finish, finish_row, merge, merge_sums, record_len};
pub(crate) use queries::CodeId;
pub use queries::{QueryRows, TokenQueries};
pub use rows::Rows;
pub(crate) use softmax::{score_lanes, softmax};
#[cfg(target_arch = "x86_64")]
pub(crate) use softmax::{softmax_avx2, softmax_avx512, softmax_rows_avx512};
pub use tile::Tile;
pub(crate) use tile::{Lines, TILE_COLUMNS};

/// Tokens of a page: the unit in which the cache is allocated and packed, in which softmax is computed and merged, and the
/// smallest unit of work. Part of the definition of attention's result.
pub const PAGE_TOKENS: usize = 128;

/// Tokens whose keys are interleaved, one to a vector lane.
pub const LANES: usize = 8;

/// Heads of an attention layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadShape {
    /// KV heads
    pub n_kv_heads: usize,
    /// query heads on one KV head; query heads of a KV head are neighbours
    pub heads_per_kv: usize,
    /// channels of a head: a multiple of 8, at most 256
    pub head_dim: usize,
}

impl HeadShape {
    /// Most channels of a head.
    pub const MAX_HEAD_DIM: usize = 256;

    /// Query heads.
    pub fn n_heads(&self) -> usize {
        self.n_kv_heads * self.heads_per_kv
    }

    /// Channels of all query heads of a KV head.
    pub fn query_width(&self) -> usize {
        self.heads_per_kv * self.head_dim
    }

    /// Whether the kernels can compute it.
    pub fn is_supported(&self) -> bool {
        self.n_kv_heads > 0
            && self.heads_per_kv > 0
            && self.head_dim > 0
            && self.head_dim.is_multiple_of(8)
            && self.head_dim <= HeadShape::MAX_HEAD_DIM
    }
}
