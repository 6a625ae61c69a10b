//! Q5_0 and Q5_1: 32 values of 5 bits with one half-precision scale, and for Q5_1 a minimum.
//!
//! ```text
//! Q5_0, 22 bytes   d: f16 │ qh: 4 bytes │ qs: 16 bytes              x = d · (q − 16)     q in 0..32
//! Q5_1, 24 bytes   d: f16 │ m: f16 │ qh: 4 bytes │ qs: 16 bytes     x = d · q + m
//!
//! byte j of qs     low nibble: low bits of value j      high nibble: of value j + 16
//! qh               bit i of the little-endian 32-bit number: bit 4 of value i
//! ```
//!
//! Source: ggml's `block_q5_0` and `block_q5_1`.

use crate::encode::{Encode, Integers, NO_OFFSET, Weighted, best_half, best_line, exact_scale};
use crate::q4::{LINE_SLACK, pack_nibbles, unpack_nibbles};
use crate::{Block, DType, f16};
use bytemuck::{Pod, Zeroable};
use std::mem::offset_of;

/// 32 values: a scale and 5-bit codes around 16.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
pub struct BlockQ5_0 {
    /// Scale.
    pub d: f16,
    /// Bit 4 of every code, value 0 first.
    pub qh: [u8; 4],
    /// The low four bits, two codes a byte: `j` low, `j + 16` high.
    pub qs: [u8; 16],
}

/// 32 values: a scale, a minimum and 5-bit codes.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
pub struct BlockQ5_1 {
    /// Scale.
    pub d: f16,
    /// Minimum: the value of code 0.
    pub m: f16,
    /// Bit 4 of every code, value 0 first.
    pub qh: [u8; 4],
    /// The low four bits, two codes a byte: `j` low, `j + 16` high.
    pub qs: [u8; 16],
}

const _: () = assert!(size_of::<BlockQ5_0>() == DType::Q5_0.block_bytes());
const _: () = assert!(size_of::<BlockQ5_1>() == DType::Q5_1.block_bytes());

/// Levels that the largest magnitude of a block may fall on, on either side.
const SCALE_TARGETS: [f32; 18] = [
    -15.1, -15.3, -15.5, -15.7, -15.9, -16.0, -16.2, -16.4, -16.7, -17.0, 14.3, 14.6, 14.8, 15.0, 15.2, 15.4,
    15.7, 16.0,
];

fn unpack(qh: [u8; 4], qs: &[u8; 16]) -> [u8; 32] {
    let (low, high) = (unpack_nibbles(qs), u32::from_le_bytes(qh));
    std::array::from_fn(|i| low[i] | (((high >> i) & 1) as u8) << 4)
}

fn pack_high_bits(codes: &[u8]) -> [u8; 4] {
    let bits = codes.iter().enumerate().fold(0u32, |bits, (i, code)| bits | u32::from(code >> 4 & 1) << i);
    bits.to_le_bytes()
}

impl BlockQ5_0 {
    /// The integers that the scale multiplies, −16..=15, in the order of the values.
    pub fn codes(&self) -> [i8; 32] {
        unpack(self.qh, &self.qs).map(|q| q as i8 - 16)
    }
}

impl BlockQ5_1 {
    /// The integers that the scale multiplies, 0..=31, in the order of the values.
    pub fn codes(&self) -> [u8; 32] {
        unpack(self.qh, &self.qs)
    }
}

impl Block for BlockQ5_0 {
    const DTYPE: DType = DType::Q5_0;

    fn dequantize(&self, out: &mut [f32]) {
        let d = self.d.to_f32();
        out.copy_from_slice(&self.codes().map(|q| d * f32::from(q)));
    }

    fn is_finite(&self) -> bool {
        self.d.is_finite()
    }
}

impl Block for BlockQ5_1 {
    const DTYPE: DType = DType::Q5_1;

    fn dequantize(&self, out: &mut [f32]) {
        let (d, m) = (self.d.to_f32(), self.m.to_f32());
        out.copy_from_slice(&self.codes().map(|q| d * f32::from(q) + m));
    }

    fn is_finite(&self) -> bool {
        self.d.is_finite() && self.m.is_finite()
    }
}

impl Encode for BlockQ5_0 {
    const SUB_BLOCK: usize = 32;
    type Levels = Integers<-16, 15>;
    const LEVELS: Self::Levels = Integers;
    const FACTORS: &[usize] = &[offset_of!(BlockQ5_0, d)];

    fn fit(of: Weighted<'_>) -> Self {
        let search = || best_half(of, Self::LEVELS, &SCALE_TARGETS, -16.0);
        let d = exact_scale(of.values, -16, 15).unwrap_or_else(search);
        BlockQ5_0 { d, qh: [0; 4], qs: [0; 16] }
    }

    fn lines(&self) -> impl Iterator<Item = (f32, f32)> {
        [(self.d.to_f32(), NO_OFFSET)].into_iter()
    }

    fn with_codes(self, codes: &[u8]) -> Self {
        BlockQ5_0 { qh: pack_high_bits(codes), qs: pack_nibbles(codes), ..self }
    }
}

impl Encode for BlockQ5_1 {
    const SUB_BLOCK: usize = 32;
    type Levels = Integers<0, 31>;
    const LEVELS: Self::Levels = Integers;
    const FACTORS: &[usize] = &[offset_of!(BlockQ5_1, d), offset_of!(BlockQ5_1, m)];

    fn fit(of: Weighted<'_>) -> Self {
        let line = best_line(of, Self::LEVELS, &LINE_SLACK, false);
        BlockQ5_1 { d: f16::from_f32(line.step), m: f16::from_f32(line.offset), qh: [0; 4], qs: [0; 16] }
    }

    fn lines(&self) -> impl Iterator<Item = (f32, f32)> {
        [(self.d.to_f32(), self.m.to_f32())].into_iter()
    }

    fn with_codes(self, codes: &[u8]) -> Self {
        BlockQ5_1 { qh: pack_high_bits(codes), qs: pack_nibbles(codes), ..self }
    }
}
