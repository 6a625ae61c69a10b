//! Attention over a paged KV cache: `out = softmax(q·Kᵀ·scale)·V`, causal, grouped heads, online.
//!
//! **Attention asks, the cache answers.** [`attend`] knows no storage format. It goes through a sequence by pages of
//! [`PAGE_TOKENS`](crate::page::PAGE_TOKENS) tokens and asks a [`PageSource`] one of two questions about a page of one KV head: the partial
//! softmax of one token's query heads ([`PageSource::attend_token`], decode: streams the stored bytes once, for all
//! heads that share the KV head), or the page as float32 in a cache-resident [`Tile`](crate::page::Tile) ([`PageSource::load_tile`],
//! prefill: amortized over many queries).
//!
//! # One result
//! The output for a query token has **the same bits** whichever of the two kernels computed it, and whatever else was in
//! the batch, however a prompt was cut into chunks, however many threads worked, and on every instruction set. The
//! order of float operations is fixed by the token's position alone:
//!
//! ```text
//! q' = q · (scale · log₂e)                       once, before everything
//! per page r of 128 tokens (the last one shorter):
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
//! meets a page ([`PageSource::meeting`]): all of the page one rotation, or, where the window of a position map ends,
//! the tokens at the window's far side one and those at its near side another. A page is then merged in two parts, the
//! far one first. What a source does to keys to move them is its own affair ([`FrameTable`](crate::page::FrameTable), [`TokenTable`](crate::page::TokenTable)).

mod source;
mod plan;
mod row_block;
mod scalar;
mod choice;
mod attend;
mod sparse;

#[cfg(target_arch = "x86_64")]
mod avx2;

pub use attend::{Request, attend};
pub use source::{Asked, Meeting, PagePart, PageSource};

#[cfg(test)]
mod tests;
