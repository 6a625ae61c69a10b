//! IQ4_NL and IQ4_XS: 4-bit codes that point into 16 unevenly spaced levels.
//!
//! ```text
//! IQ4_NL, 32 values, 18 bytes     d: f16 │ qs: 16 bytes
//!     x = d · level[q]                           nibbles as in Q4_0
//!
//! IQ4_XS, 256 values, 136 bytes   d: f16 │ scales_h: u16 │ scales_l: 4 bytes │ qs: 128 bytes
//!     x = (d · (scale[s] − 32)) · level[q]       s = i / 32; 16 bytes of qs for each sub-block, nibbles as in Q4_0
//!     scale[s]: low four bits in nibble s of scales_l, upper two in bits 2s and 2s + 1 of scales_h
//! ```
//!
//! The levels are denser near zero, where weights are. Source: ggml's `block_iq4_nl`, `block_iq4_xs`, `kvalues_iq4nl`.

use crate::encode::{Codebook, Encode, NO_OFFSET, Scaled, Weighted, best_half};
use crate::q4::{pack_nibbles, unpack_nibbles};
use crate::{Block, DType, f16};
use bytemuck::{Pod, Zeroable};
use std::mem::offset_of;

/// The level of each code.
pub const IQ4_CODEBOOK: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// 32 values: a scale and 4-bit codes.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
pub struct BlockIQ4NL {
    /// Scale.
    pub d: f16,
    /// Two codes a byte: `j` low, `j + 16` high.
    pub qs: [u8; 16],
}

/// 256 values: 8 sub-blocks with 6-bit scales, 4-bit codes.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
pub struct BlockIQ4XS {
    /// Scale of the sub-block scales.
    pub d: f16,
    /// The upper two bits of the scales.
    pub scales_h: [u8; 2],
    /// The low four bits of the scales.
    pub scales_l: [u8; 4],
    /// 16 bytes for each sub-block, two codes a byte: `j` low, `j + 16` high.
    pub qs: [[u8; 16]; 8],
}

/// Levels that the largest magnitude of a block may fall on, on either side: the outer levels lie far apart, so that much
/// lies between clipping and falling short.
const SCALE_TARGETS: [f32; 18] = [
    -94.0, -100.0, -106.0, -111.0, -116.0, -121.0, -127.0, -133.0, -140.0, -150.0, 84.0, 89.0, 95.0, 101.0,
    107.0, 113.0, 119.0, 128.0,
];

const _: () = assert!(size_of::<BlockIQ4NL>() == DType::IQ4NL.block_bytes());
const _: () = assert!(size_of::<BlockIQ4XS>() == DType::IQ4XS.block_bytes());

impl BlockIQ4NL {
    /// The levels that the scale multiplies, −127..=113, in the order of the values.
    pub fn codes(&self) -> [i8; 32] {
        levels(&self.qs)
    }
}

fn levels(qs: &[u8; 16]) -> [i8; 32] {
    unpack_nibbles(qs).map(|q| IQ4_CODEBOOK[usize::from(q)])
}

impl BlockIQ4XS {
    /// The levels that the scales multiply, −127..=113, by sub-block.
    pub fn codes(&self) -> [[i8; 32]; 8] {
        self.qs.each_ref().map(levels)
    }

    /// The scales of the sub-blocks, −32..=31.
    pub fn scales(&self) -> [i8; 8] {
        let high = u16::from_le_bytes(self.scales_h);
        std::array::from_fn(|s| {
            let low = self.scales_l[s / 2] >> (4 * (s % 2)) & 15;
            (low | ((high >> (2 * s) & 3) as u8) << 4) as i8 - 32
        })
    }
}

impl Block for BlockIQ4NL {
    const DTYPE: DType = DType::IQ4NL;

    fn dequantize(&self, out: &mut [f32]) {
        let d = self.d.to_f32();
        out.copy_from_slice(&self.codes().map(|level| d * f32::from(level)));
    }

    fn is_finite(&self) -> bool {
        self.d.is_finite()
    }
}

impl Block for BlockIQ4XS {
    const DTYPE: DType = DType::IQ4XS;

    fn dequantize(&self, out: &mut [f32]) {
        assert_eq!(out.len(), 256);
        for ((out, levels), scale) in out.chunks_exact_mut(32).zip(self.codes()).zip(self.scales()) {
            let scale = self.d.to_f32() * f32::from(scale);
            out.copy_from_slice(&levels.map(|level| scale * f32::from(level)));
        }
    }

    fn is_finite(&self) -> bool {
        self.d.is_finite()
    }
}

impl Encode for BlockIQ4NL {
    const SUB_BLOCK: usize = 32;
    type Levels = Codebook;
    const LEVELS: Self::Levels = Codebook;
    const FACTORS: &[usize] = &[offset_of!(BlockIQ4NL, d)];

    fn fit(of: Weighted<'_>) -> Self {
        BlockIQ4NL { d: best_half(of, Self::LEVELS, &SCALE_TARGETS, -127.0), qs: [0; 16] }
    }

    fn lines(&self) -> impl Iterator<Item = (f32, f32)> {
        [(self.d.to_f32(), NO_OFFSET)].into_iter()
    }

    fn with_codes(self, codes: &[u8]) -> Self {
        BlockIQ4NL { qs: pack_nibbles(codes), ..self }
    }
}

impl Encode for BlockIQ4XS {
    const SUB_BLOCK: usize = 32;
    type Levels = Codebook;
    const LEVELS: Self::Levels = Codebook;
    const FACTORS: &[usize] = &[offset_of!(BlockIQ4XS, d)];

    fn fit(of: Weighted<'_>) -> Self {
        let found: Scaled<8> = Scaled::fit(of, Self::LEVELS, &SCALE_TARGETS, -32);
        let stored = found.scales.map(|scale| (scale + 32) as u8);
        let high = (0..8).fold(0u16, |bits, s| bits | u16::from(stored[s] >> 4) << (2 * s));
        BlockIQ4XS {
            d: found.d,
            scales_h: high.to_le_bytes(),
            scales_l: std::array::from_fn(|i| stored[2 * i] & 15 | stored[2 * i + 1] << 4),
            qs: [[0; 16]; 8],
        }
    }

    fn lines(&self) -> impl Iterator<Item = (f32, f32)> {
        let d = self.d.to_f32();
        self.scales().into_iter().map(move |scale| (d * f32::from(scale), NO_OFFSET))
    }

    fn with_codes(self, codes: &[u8]) -> Self {
        BlockIQ4XS { qs: std::array::from_fn(|s| pack_nibbles(&codes[32 * s..32 * (s + 1)])), ..self }
    }
}
