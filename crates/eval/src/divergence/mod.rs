//! Teacher-forced divergence: the reference and the settings are shown the same text, and their predictions of every next
//! token are compared.
//!
//! All settings run side by side, chunk by chunk:
//!
//! ```text
//! for each window:  for each chunk of the window:
//!     reference     ──► logits [chunk, n_vocab] ──┐
//!     setting 1     ──► logits [chunk, n_vocab] ──┴─► a TokenLoss for each token; the logits are dropped
//!     setting 2     ──► logits [chunk, n_vocab] ──┘   ...
//! ```
//!
//! So ten settings cost one run of the reference, the comparison is over the whole vocabulary and exact, memory is two
//! chunks of logits however long the context is, and whoever stops half-way has compared all settings on the same
//! tokens. Where the reference is to be used again, two kilobytes of each of its predictions are saved ([`SavedPrediction`]), in
//! memory or in a file ([`SavedReference`]). Chunks are those of an ordinary prefill, since a cache that is quantized while a prompt is read depends on them.

mod reference;
mod report;
mod run;
mod saved;
mod statistics;

pub use reference::{Origin, OriginKey, ReferenceError, SavedReference};
pub use report::{blocks, depth_table};
pub use run::{Divergence, ReferenceRun, RunOptions, SettingRun, TokenLoss, run};
pub use saved::{KlEstimate, LogProb, N_SAMPLE, N_TOP, SavedPrediction};
pub use statistics::{DepthRange, DepthSummary, Distribution, Estimate, Summary};

#[cfg(test)]
mod tests;
