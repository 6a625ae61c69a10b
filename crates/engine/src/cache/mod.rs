//! The paged KV cache.
//!
//! ```text
//! KvPool ── budget, free list ──┐
//!                               ▼
//! KvSequence: len, [Arc<Page>]  Page = PAGE_TOKENS tokens of all layers and KV heads
//!                               bytes [n_layers][n_kv_heads][as the scheme stores one head]
//! ```
//!
//! - A sequence is its length and its pages. Sequences with the same prefix share pages ([`KvSequence::fork`]); a shared
//!   page that is not full is copied by whoever appends to it first.
//! - A forward pass is [`reserve`](KvSequence::reserve) (everything that can fail for want of memory), then
//!   [`append_layer`] and [`attend_layer`] for each layer, then [`advance`](KvSequence::advance). Until then the
//!   sequence is as it was, so a pass that stops halfway needs no undoing.
//! - Bytes stay inside: attention asks for scores and weighted sums through [`PageScheme`], and nothing hands out a
//!   dequantized copy larger than a tile. A new scheme is one file with a `PageScheme`, one line in `scheme.rs`, and one
//!   call of the conformance suite.

mod attend;
mod error;
mod exact;
mod page;
mod pool;
mod scheme;
mod sequence;

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod tests;

pub use attend::{Span, append_layer, attend_layer};
pub use error::CacheError;
pub use lossy_kernels::attention::Rows;
pub use pool::{KvGeometry, KvPool};
pub use scheme::PageScheme;
pub use sequence::KvSequence;

use lossy_kernels::attention::RANGE_TOKENS;

/// Tokens of a page.
pub const PAGE_TOKENS: usize = RANGE_TOKENS;
