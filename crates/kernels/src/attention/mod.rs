//! Attention over a paged KV cache: `out = softmax(q·Kᵀ·scale)·V`, causal, grouped heads, online.
//!
//! **Attention asks, the cache answers.** [`attend`] knows no storage format. It goes through a sequence by *ranges* of
//! [`RANGE_TOKENS`] tokens and asks a [`RangeSource`] one of two questions about a range of one KV head: the partial
//! softmax of one token's query heads ([`RangeSource::attend_token`], decode: streams the stored bytes once, for all
//! heads that share the KV head), or the range as float32 in a cache-resident [`Tile`] ([`RangeSource::load_tile`],
//! prefill: amortized over many queries). [`ExactHead`] answers both for f16 and f32.
//!
//! # One result
//! The output for a query token has **the same bits** whichever of the two kernels computed it, and whatever else was in
//! the batch, however a prompt was cut into chunks, however many threads worked, and on every instruction set. The
//! order of float operations is fixed by the token's position alone:
//!
//! ```text
//! q' = q · (scale · log₂e)                       once, before everything
//! per range r of 128 tokens (the last one shorter):
//!     s[t] = fma(q'[d], k[t][d], s[t])           d ascending, from 0
//!     m_r  = max s[t]
//!     p[t] = 2^(s[t] − m_r)                      `exp2`
//!     l_r  = Σ p[t]                              eight lanes t mod 8, t ascending; then a fixed tree
//!     o_r[d] = fma(p[t], v[t][d], o_r[d])        t ascending, from 0
//!     m' = max(m, m_r);  a = 2^(m − m');  b = 2^(m_r − m')
//!     l = fma(l, a, l_r·b);  o[d] = fma(o[d], a, o_r[d]·b);  m = m'        r ascending, from m = −∞, l = o = 0
//! out[d] = o[d]·(1/l) + 0                        the 0 turns −0 into +0
//! ```
//!
//! `scalar` is this text as code; the vector kernels are held to it bit by bit. What differs between them, sums with
//! masked tokens of weight 0, can change no more than the sign of a zero.
//!
//! # Positions
//! None here: keys and queries come rotated. Queries may come in several *rotations*, and a source says which of them
//! meets a range ([`RangeSource::meeting`]): all of the range one rotation, or, where the window of a position map ends,
//! the tokens at the window's far side one and those at its near side another. A range is then merged in two parts, the
//! far one first. What a source does to keys to move them is its own affair ([`FrameTable`], [`TokenTable`]).

mod append;
mod attend;
mod element;
mod exp2;
mod frames;
mod plan;
mod rows;
mod scalar;
mod state;
mod tile;

#[cfg(target_arch = "x86_64")]
mod avx2;

pub use append::{AppendError, Part};
pub use attend::{Asked, Meeting, RangeSource, Request, attend};
pub use element::{ExactHead, ExactHeadMut, KvType, key_index};
pub(crate) use frames::Frame;
use frames::turn_keys;
pub use frames::{FRAME_TOKENS, FRAMES, FrameTable, RangeFrames, RangeTurns, TokenTable};
pub use rows::Rows;
pub use state::{Partial, TokenQueries};
pub use tile::{RangePart, Tile};

/// Tokens of a range: the unit in which softmax is computed and merged, and the smallest unit of work. Part of the
/// definition of the result. A cache page holds a whole number of ranges.
pub const RANGE_TOKENS: usize = 128;

/// Tokens whose keys are stored interleaved, one to a vector lane.
pub const GROUP_TOKENS: usize = 8;

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

#[cfg(test)]
mod tests;
