//! Q4_0 and Q4_1: 32 values of 4 bits with one half-precision scale, and for Q4_1 a minimum.
//!
//! ```text
//! Q4_0, 18 bytes   d: f16 │ qs: 16 bytes              x = d · (q − 8)      q in 0..16
//! Q4_1, 20 bytes   d: f16 │ m: f16 │ qs: 16 bytes     x = d · q + m
//!
//! byte j of qs     low nibble: value j      high nibble: value j + 16
//! ```
//!
//! Source: ggml's `block_q4_0` and `block_q4_1`.

use crate::encode::{Encode, Integers, NO_OFFSET, Weighted, best_half, best_line, exact_scale};
use crate::{Block, DType, f16};
use bytemuck::{Pod, Zeroable};
use std::mem::offset_of;

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

/// Levels that the largest magnitude of a block may fall on, on either side: clipped a little, or short of the end.
const SCALE_TARGETS: [f32; 20] = [
    -7.1, -7.3, -7.5, -7.7, -7.9, -8.0, -8.1, -8.3, -8.5, -8.8, -9.2, 6.1, 6.4, 6.7, 6.9, 7.0, 7.2, 7.5, 7.8,
    8.2,
];
/// Steps more or fewer than 15 that the range of a block may be taken for.
pub(crate) const LINE_SLACK: [f32; 12] = [-1.0, -0.7, -0.4, -0.2, 0.0, 0.2, 0.4, 0.7, 1.0, 1.4, 1.9, 2.6];

/// The 32 nibbles in the order of the values.
pub(crate) fn unpack_nibbles(qs: &[u8; 16]) -> [u8; 32] {
    std::array::from_fn(|i| if i < 16 { qs[i] & 15 } else { qs[i - 16] >> 4 })
}

/// The inverse of [`unpack_nibbles`]; takes the low four bits of each of 32 codes.
pub(crate) fn pack_nibbles(codes: &[u8]) -> [u8; 16] {
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
    const SUB_BLOCK: usize = 32;
    type Levels = Integers<-8, 7>;
    const LEVELS: Self::Levels = Integers;
    const FACTORS: &[usize] = &[offset_of!(BlockQ4_0, d)];

    fn fit(of: Weighted<'_>) -> Self {
        let search = || best_half(of, Self::LEVELS, &SCALE_TARGETS, -8.0);
        let d = exact_scale(of.values, -8, 7).unwrap_or_else(search);
        BlockQ4_0 { d, qs: [0; 16] }
    }

    fn lines(&self) -> impl Iterator<Item = (f32, f32)> {
        [(self.d.to_f32(), NO_OFFSET)].into_iter()
    }

    fn with_codes(self, codes: &[u8]) -> Self {
        BlockQ4_0 { qs: pack_nibbles(codes), ..self }
    }
}

impl Encode for BlockQ4_1 {
    const SUB_BLOCK: usize = 32;
    type Levels = Integers<0, 15>;
    const LEVELS: Self::Levels = Integers;
    const FACTORS: &[usize] = &[offset_of!(BlockQ4_1, d), offset_of!(BlockQ4_1, m)];

    fn fit(of: Weighted<'_>) -> Self {
        let line = best_line(of, Self::LEVELS, &LINE_SLACK, false);
        BlockQ4_1 { d: f16::from_f32(line.step), m: f16::from_f32(line.offset), qs: [0; 16] }
    }

    fn lines(&self) -> impl Iterator<Item = (f32, f32)> {
        [(self.d.to_f32(), self.m.to_f32())].into_iter()
    }

    fn with_codes(self, codes: &[u8]) -> Self {
        BlockQ4_1 { qs: pack_nibbles(codes), ..self }
    }
}
