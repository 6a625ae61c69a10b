//! Q4_0 and Q4_1: 32 values of 4 bits with one half-precision scale, and for Q4_1 a minimum.
//!
//! ```text
//! Q4_0, 18 bytes   d: f16 │ qs: 16 bytes              x = d · (q − 8)      q in 0..16
//! Q4_1, 20 bytes   d: f16 │ m: f16 │ qs: 16 bytes     x = d · q + m
//!
//! byte j of qs     low nibble: value j      high nibble: value j + 16
//! ```
//!
//! Source: ggml's `block_q4_0` and `block_q4_1`. The encoders give the same bytes as ggml's reference.

use crate::block::{extreme, range, reciprocal};
use crate::registry::Encode;
use crate::{Block, DType, f16};
use bytemuck::{Pod, Zeroable};

/// 32 values: a scale and 4-bit codes around 8.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
pub struct BlockQ4_0 {
    /// Scale.
    pub d: f16,
    /// Two codes a byte: `j` low, `j + 16` high.
    pub qs: [u8; 16],
}

/// 32 values: a scale, a minimum and 4-bit codes.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
pub struct BlockQ4_1 {
    /// Scale.
    pub d: f16,
    /// Minimum: the value of code 0.
    pub m: f16,
    /// Two codes a byte: `j` low, `j + 16` high.
    pub qs: [u8; 16],
}

const _: () = assert!(size_of::<BlockQ4_0>() == DType::Q4_0.block_bytes());
const _: () = assert!(size_of::<BlockQ4_1>() == DType::Q4_1.block_bytes());

/// The 32 nibbles in the order of the values.
pub(crate) fn unpack_nibbles(qs: &[u8; 16]) -> [u8; 32] {
    std::array::from_fn(|i| if i < 16 { qs[i] & 15 } else { qs[i - 16] >> 4 })
}

/// The inverse of [`unpack_nibbles`]; takes the low four bits of each code.
pub(crate) fn pack_nibbles(codes: &[u8; 32]) -> [u8; 16] {
    std::array::from_fn(|j| (codes[j] & 15) | (codes[j + 16] << 4))
}

impl BlockQ4_0 {
    /// The integers that the scale multiplies, −8..=7, in the order of the values.
    pub fn codes(&self) -> [i8; 32] {
        unpack_nibbles(&self.qs).map(|q| q as i8 - 8)
    }
}

impl BlockQ4_1 {
    /// The integers that the scale multiplies, 0..=15, in the order of the values.
    pub fn codes(&self) -> [u8; 32] {
        unpack_nibbles(&self.qs)
    }
}

impl Block for BlockQ4_0 {
    const DTYPE: DType = DType::Q4_0;

    fn dequantize(&self, out: &mut [f32]) {
        let d = self.d.to_f32();
        out.copy_from_slice(&self.codes().map(|q| d * f32::from(q)));
    }

    fn is_finite(&self) -> bool {
        self.d.is_finite()
    }
}

impl Block for BlockQ4_1 {
    const DTYPE: DType = DType::Q4_1;

    fn dequantize(&self, out: &mut [f32]) {
        let (d, m) = (self.d.to_f32(), self.m.to_f32());
        out.copy_from_slice(&self.codes().map(|q| d * f32::from(q) + m));
    }

    fn is_finite(&self) -> bool {
        self.d.is_finite() && self.m.is_finite()
    }
}

impl Encode for BlockQ4_0 {
    /// The value of the largest magnitude becomes code 0, which stands for −8 scales: the scale takes the opposite sign.
    fn encode(values: &[f32]) -> Self {
        let d = extreme(values) / -8.0;
        let inverse = reciprocal(d);
        let codes = std::array::from_fn(|i| ((values[i] * inverse + 8.5) as u8).min(15));
        BlockQ4_0 { d: f16::from_f32(d), qs: pack_nibbles(&codes) }
    }
}

impl Encode for BlockQ4_1 {
    /// The smallest value becomes code 0, the largest code 15.
    fn encode(values: &[f32]) -> Self {
        let (min, max) = range(values);
        let d = (max - min) / 15.0;
        let inverse = reciprocal(d);
        let codes = std::array::from_fn(|i| (((values[i] - min) * inverse + 0.5) as u8).min(15));
        BlockQ4_1 { d: f16::from_f32(d), m: f16::from_f32(min), qs: pack_nibbles(&codes) }
    }
}
