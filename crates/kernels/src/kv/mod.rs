//! Storage formats of keys and values: exact, or a few bits a channel and attention that reads the codes.
//!
//! One *head* is the keys and values of a page of [`PAGE_TOKENS`] tokens of one KV head of one layer. Every format answers
//! what attention asks of it: the partial softmax of one token's query heads ([`HeadCode::attend_token`]), or the head as
//! float32 ([`HeadCode::unpack`]). [`ExactHead`] stores elements as they are, f16 or f32.
//!
//! # Keys
//! A key comes rotated for its position. It is turned back by the first position of its *frame* ([`FRAME_TOKENS`]
//! tokens), so what is stored depends on the position inside the frame only, and a frame may stand anywhere. Then, with
//! the head's calibrated mean `μ` and deviation `σ` per channel:
//!
//! ```text
//! z[c] = (k[c] − μ[c]) / σ[c]
//! k̂[c] = μ[c] + σ[c] · g · Δ(b) · (code[c] − (2^b − 1)/2)         b = bits of the channel's quad
//! ```
//! `Δ(b)` is the step of the uniform quantizer of `b` bits that loses least on a Gaussian; `g` is the token's gain, one
//! byte. Four channels of about the same importance form a *quad*; bits are given to quads by falling marginal gain.
//! The gain is refitted by least squares in the space in which queries see keys (weights `E[q²]·σ²`).
//!
//! # Values
//! They come turned by a Hadamard matrix ([`hadamard`]), which spreads outliers over all channels; attention's output is
//! turned back once. `v̂ = μ + g·Δ(b)·(code − (2^b − 1)/2)`, the same bits in every channel; the gain is the one that makes
//! `v̂` unbiased, `Σz²/Σz·z̄`.
//!
//! # Scores
//! `q·k̂ = g·Σ_c q[c]σ[c]Δ·(code[c] − m[c]) + q·μ`: per frame and query head one vector of int8, per token one product
//! with its codes and one multiplication. The source of the scheme is docs/kv-cache.md.

mod exact;
mod stored;
mod gain;
mod keys;
mod values;
mod layout;
mod query;
mod weights;
mod encode;
mod head;
mod estimate;
mod rotated;
mod scalar;
mod grouped;
mod q8;

#[cfg(target_arch = "x86_64")]
mod avx2;

pub use exact::{AppendError, ExactHead, ExactHeadMut, KvType, Part, key_index};
pub use grouped::GroupedCode;
pub use head::{HeadCode, HeadF32};
pub use keys::{KeyCode, KeyStatistics};
pub use q8::Q8Code;
pub use rotated::RotatedCode;
pub use stored::{Sinks, Stored};
pub use values::{ValueCode, hadamard, hadamard_rows};

use crate::page::{FRAME_TOKENS, PAGE_TOKENS};

/// Tokens of a block of codes.
const BLOCK_TOKENS: usize = 32;

/// Blocks of a page.
const BLOCKS: usize = PAGE_TOKENS / BLOCK_TOKENS;

/// Most bits of a channel of keys.
pub const MAX_KEY_BITS: u8 = 6;
/// Most bits of a channel of values.
pub const MAX_VALUE_BITS: u8 = 4;

/// Steps of the uniform quantizers of 0 to 6 bits with the smallest mean square error on a unit Gaussian (J. Max, 1960,
/// table II), and those errors.
const STEP: [f32; 7] = [0.0, 1.5958, 0.9957, 0.5860, 0.3352, 0.1881, 0.1041];
const ERROR: [f32; 7] = [1.0, 0.3634, 0.1188, 0.037_44, 0.011_54, 0.003_495, 0.001_041];

/// The offset that centres codes of `bits` bits.
fn middle(bits: u8) -> f32 {
    ((1u32 << bits) - 1) as f32 / 2.0
}

#[cfg(test)]
mod tests;
