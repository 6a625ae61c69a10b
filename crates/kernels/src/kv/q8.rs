//! Eight bits with a scale (f16) for every 32 channels of a token, as llama.cpp's `q8_0`: 8.5 bits a value.
//!
//! ```text
//! head     keys [128/32][head_dim/2][4][8][2] · values [128/2][head_dim/8][8][2] · scales · padding
//! keys     token 32·i + 8·k + l, channel 2·j + z at (i, j, k, l, z)
//! values   token 2·i + z, channel 8·j + l at (i, j, l, z)
//! scales   f16 of keys [head_dim/32][128], of values [head_dim/32][128]
//! ```
//! Two neighbouring bytes are two terms of one sum, and eight such pairs a vector of sums. Attention multiplies codes with
//! 16-bit queries and weights, whose rounding is lost in that of the codes, and adds up in 32 bits:
//!
//! ```text
//! n[c] = round(q[c]·32767/max|q|)       s[t] = Σ_b (Σ_{c in b} n[c]·code[t][c]) · scale[t][b]·unit
//! w[t] = p[t]·scale[t][b] as 16 bits of the largest of 64 tokens        out[c] = Σ_units (Σ_t w[t]·code[t][c])·unit
//! ```

use half::f16;

use super::exact::key_index;
use super::head::HeadF32;
use super::rotated::RotatedCode;
use super::stored::Stored;
use super::weights::{self, WEIGHT_TOKENS};
use crate::Isa;
use crate::page::{PAGE_TOKENS, Partial, TokenQueries};

#[cfg(target_arch = "x86_64")]
use super::avx2;

/// Channels that share a scale.
pub(super) const BLOCK: usize = 32;
/// The largest integer that a query channel or a weight becomes.
pub(super) const TOP: f32 = 32767.0;

/// The code of one KV head of so many channels.
#[derive(Clone, Copy, Debug)]
pub struct Q8Code {
    head_dim: usize,
}

/// The parts of a head.
pub(super) struct Parts<'a> {
    /// `[128/32 * head_dim/2]`
    pub keys: &'a [[[[u8; 2]; 8]; 4]],
    /// `[128/2 * head_dim/8]`
    pub values: &'a [[[u8; 2]; 8]],
    /// `[head_dim/32]`
    pub key_scales: &'a [[[u8; 2]; PAGE_TOKENS]],
    /// `[head_dim/32]`
    pub value_scales: &'a [[[u8; 2]; PAGE_TOKENS]],
}

/// Where the code of a key lies.
fn key_at(head_dim: usize, token: usize, channel: usize) -> usize {
    let (block, group, lane) = (token / 32, token % 32 / 8, token % 8);
    (((block * head_dim / 2 + channel / 2) * 4 + group) * 8 + lane) * 2 + channel % 2
}

/// Where the code of a value lies, from the first value on.
fn value_at(head_dim: usize, token: usize, channel: usize) -> usize {
    ((token / 2 * head_dim / 8 + channel / 8) * 8 + channel % 8) * 2 + token % 2
}

impl Q8Code {
    /// See [`unpack`](RotatedCode::unpack).
    fn unpack_scalar(&self, packed: &[u8], out: &mut HeadF32) {
        let (keys, values) = out.keys_and_values_mut();
        let parts = self.parts(packed);
        let (key_codes, value_codes) = packed[..2 * self.n_codes()].split_at(self.n_codes());
        let d = self.head_dim;
        let unit = |scale: [u8; 2]| f16::from_le_bytes(scale).to_f32();
        let scales = parts.key_scales.iter().zip(parts.value_scales);
        for (block, (key_scales, value_scales)) in scales.enumerate() {
            for token in 0..PAGE_TOKENS {
                let (key_unit, value_unit) = (unit(key_scales[token]), unit(value_scales[token]));
                for channel in block * BLOCK..(block + 1) * BLOCK {
                    let code = |codes: &[u8], at: usize| f32::from(codes[at] as i8);
                    keys[key_index(d, token, channel)] =
                        key_unit * code(key_codes, key_at(d, token, channel));
                    values[token * d + channel] = value_unit * code(value_codes, value_at(d, token, channel));
                }
            }
        }
    }
}

impl RotatedCode for Q8Code {
    fn head_dim(&self) -> usize {
        self.head_dim
    }

    fn bytes(&self) -> usize {
        (self.n_codes() * 2 + self.n_scales() * 4).next_multiple_of(64)
    }

    fn pack(&self, exact: &HeadF32, packed: &mut [u8]) {
        assert_eq!(packed.len(), self.bytes(), "bytes of a packed head");
        let (keys, values) = exact.keys_and_values();
        assert_eq!(values.len(), self.n_codes(), "channels of a head");
        let (codes, scales) = packed.split_at_mut(2 * self.n_codes());
        let (key_codes, value_codes) = codes.split_at_mut(self.n_codes());
        let (key_scales, value_scales) = scales.split_at_mut(2 * self.n_scales());
        let d = self.head_dim;
        for token in 0..PAGE_TOKENS {
            for block in 0..d / BLOCK {
                let channels = block * BLOCK..(block + 1) * BLOCK;
                let at = 2 * (block * PAGE_TOKENS + token);
                let key = |channel: usize| keys[key_index(d, token, channel)];
                let to = &mut key_scales[at..at + 2];
                quantize(channels.clone(), key, to, |channel, code| {
                    key_codes[key_at(d, token, channel)] = code;
                });
                let value = |channel: usize| values[token * d + channel];
                let to = &mut value_scales[at..at + 2];
                quantize(channels, value, to, |channel, code| {
                    value_codes[value_at(d, token, channel)] = code;
                });
            }
        }
    }

    fn unpack(&self, isa: Isa, packed: &[u8], out: &mut HeadF32) {
        out.set_shape(self.head_dim);
        match isa {
            Isa::Scalar => self.unpack_scalar(packed, out),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: an `Avx2` exists only if detection saw avx2, fma and f16c.
            Isa::Avx2(_) => unsafe { avx2::unpack_q8(self, packed, out) },
        }
    }

    fn attend_codes(
        &self,
        isa: Isa,
        stored: Stored<'_>,
        token: &mut TokenQueries,
        partial: &mut Partial<'_>,
    ) {
        match isa {
            Isa::Scalar => self.attend_scalar(stored, token, partial),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: an `Avx2` exists only if detection saw avx2, fma and f16c.
            Isa::Avx2(_) => unsafe { avx2::attend_q8(self, stored, token, partial) },
        }
    }
}

impl Q8Code {
    /// # Panics
    /// `head_dim` is not a multiple of 32.
    pub fn new(head_dim: usize) -> Q8Code {
        assert!(head_dim > 0 && head_dim.is_multiple_of(BLOCK), "{head_dim} channels of a head");
        Q8Code { head_dim }
    }

    /// Codes of keys, or of values.
    fn n_codes(&self) -> usize {
        PAGE_TOKENS * self.head_dim
    }

    /// Scales of keys, or of values.
    fn n_scales(&self) -> usize {
        self.n_codes() / BLOCK
    }

    pub(super) fn parts<'a>(&self, bytes: &'a [u8]) -> Parts<'a> {
        let (keys, rest) = bytes.split_at(self.n_codes());
        let (values, rest) = rest.split_at(self.n_codes());
        let (key_scales, rest) = rest.split_at(2 * self.n_scales());
        Parts {
            keys: keys.as_chunks().0.as_chunks().0.as_chunks().0,
            values: values.as_chunks().0.as_chunks().0,
            key_scales: key_scales.as_chunks().0.as_chunks().0,
            value_scales: rest[..2 * self.n_scales()].as_chunks().0.as_chunks().0,
        }
    }

    fn attend_scalar(&self, stored: Stored<'_>, token: &mut TokenQueries, partial: &mut Partial<'_>) {
        let (packed, first_token) = (stored.bytes, stored.first_token());
        let d = self.head_dim;
        let parts = self.parts(packed);
        let (key_codes, value_codes) = packed[..2 * self.n_codes()].split_at(self.n_codes());
        let (queries, weights) = token.parts();
        for (row, (query, weights)) in queries.chunks_exact(d).zip(weights).enumerate() {
            let largest = query.iter().map(|q| q.abs()).fold(0.0, f32::max);
            let integer = rounded(largest);
            for (t, score) in weights.iter_mut().enumerate() {
                *score = 0.0;
                for block in 0..d / BLOCK {
                    let product = |channel: usize| {
                        integer(query[channel]) * i32::from(key_codes[key_at(d, t, channel)] as i8)
                    };
                    let sum: i32 = (block * BLOCK..(block + 1) * BLOCK).map(product).sum();
                    let scale = f16::from_le_bytes(parts.key_scales[block][t]).to_f32();
                    *score = (sum as f32).mul_add(scale * (largest / TOP), *score);
                }
            }
            weights[..first_token].fill(f32::NEG_INFINITY);
            let (max, sum) = weights::softmax(weights);
            let out = partial.set(row, max, sum);
            out.fill(0.0);
            for (block, (out, scales)) in out.chunks_exact_mut(BLOCK).zip(parts.value_scales).enumerate() {
                for unit in 0..PAGE_TOKENS / WEIGHT_TOKENS {
                    let tokens = unit * WEIGHT_TOKENS..(unit + 1) * WEIGHT_TOKENS;
                    let weight = |t: usize| weights[t] * f16::from_le_bytes(scales[t]).to_f32();
                    let largest = tokens.clone().map(weight).fold(0.0, f32::max);
                    let integer = rounded(largest);
                    for (channel, out) in out.iter_mut().enumerate() {
                        let code = |t: usize| value_codes[value_at(d, t, block * BLOCK + channel)] as i8;
                        let sum: i32 = tokens.clone().map(|t| integer(weight(t)) * i32::from(code(t))).sum();
                        *out = (sum as f32).mul_add(largest / TOP, *out);
                    }
                }
            }
        }
    }
}

/// Rounds to 16 bits, so that `largest` becomes [`TOP`].
fn rounded(largest: f32) -> impl Fn(f32) -> i32 {
    let per_unit = if largest > 0.0 { TOP / largest } else { 0.0 };
    move |x| (x * per_unit).round_ties_even() as i32
}

/// The scale and the codes of some channels.
fn quantize(
    channels: std::ops::Range<usize>,
    value: impl Fn(usize) -> f32,
    scale: &mut [u8],
    mut put: impl FnMut(usize, u8),
) {
    let largest = channels.clone().map(|channel| value(channel).abs()).fold(0.0, f32::max);
    let unit = f16::from_f32(largest / 127.0);
    scale.copy_from_slice(&unit.to_le_bytes());
    let per_unit = if unit.to_f32() > 0.0 { 1.0 / unit.to_f32() } else { 0.0 };
    for channel in channels {
        put(channel, (value(channel) * per_unit).round().clamp(-127.0, 127.0) as i8 as u8);
    }
}
