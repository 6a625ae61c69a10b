//! The paged KV cache.
//!
//! ```text
//! Budget ── KvPool: spare pages ──┐
//!                                ▼
//! KvSequence: len, slots         one slot = PAGE_TOKENS tokens of all layers and KV heads
//!
//!   slot 0        slot 1       …      slot n−1       slot n
//!   sinks exact                       exact          exact, not full yet
//!   codes         codes               codes
//!                                     └─ recent: seen as it is, packed already
//! ```
//!
//! - A page is bytes `[n_layers][n_kv_heads][one head]`, of one of three kinds: exact, codes, codes with sinks.
//! - A page is packed once, when its last token arrives, and read as codes by every token that is more than the residual
//!   away ([`Window`]), in a prompt as in an answer: what a token sees depends on its position alone, never on how a prompt
//!   was cut into chunks. Its exact twin goes back to the pool when no token to come will see it.
//! - Sequences with the same prefix share pages ([`KvSequence::fork`]); a shared page that is not full is copied by
//!   whoever appends to it first.
//! - For measuring, a sequence becomes long by copies of its own pages ([`KvSequence::extend_with_copies`]).
//! - A forward pass is [`reserve`](KvSequence::reserve) (everything that can fail for want of memory), then
//!   [`append_layer`] and [`attend_layer`] for each layer, then [`advance`](KvSequence::advance). Until then the
//!   sequence is as it was, so a pass that stops halfway needs no undoing.
//! - Bytes stay inside: attention asks for scores and weighted sums, and nothing hands out a dequantized copy larger than
//!   a page of one head. A new scheme is one file with a `Family`, a `KvStorage` and a [`PageCode`] (`family.rs` says
//!   what each does), one line in `scheme.rs`, and one call of the conformance suite.

mod attend;
mod budget;
mod calibrated;
mod calibration;
mod choices;
mod code;
mod error;
mod exact;
mod family;
mod head;
mod held;
mod kivi;
mod layer_list;
mod layout;
mod padding;
mod page;
mod pool;
mod q8;
mod saved;
mod scheme;
mod sequence;
mod span;

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod start_position;
#[cfg(test)]
mod tests;

pub use attend::{append_layer, attend_layer};
pub use budget::Budget;
pub(crate) use calibration::Calibrator;
pub use calibration::{Calibration, HeadStatistics};
pub use code::{PageCode, Place};
pub use error::CacheError;
pub use family::{Context, KvSchemeError};
pub use held::{HeldKind, HeldPage, HeldSlot};
pub use layout::{CacheLayout, PackedLayers, Window};
pub use lossy_kernels::page::{PAGE_TOKENS, Rows};
pub use pool::{KvGeometry, KvPool};
pub use saved::{SavedError, SavedKey};
pub use scheme::KvScheme;
pub use sequence::KvSequence;
pub use span::Span;
