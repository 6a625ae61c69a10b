//! Q2_K: 256 values of 2 bits in 16 sub-blocks of 16, each with a 4-bit scale and a 4-bit minimum.
//!
//! ```text
//! 84 bytes   scales: 16 bytes │ qs: 64 bytes │ d: f16 │ dmin: f16
//!
//! x = (d · scale[s]) · q − dmin · min[s]        s = i / 16, q in 0..4
//!
//! scales  byte s: scale[s] in the low nibble, min[s] in the high one
//! qs      two runs of 32 bytes; bits 2k and 2k + 1 of byte j of run r: value 128 r + 32 k + j
//! ```
//!
//! Source: ggml's `block_q2_K`.

use crate::encode::{Encode, Integers, Lines, Weighted};
use crate::q4k::dequantize_sub_blocks;
use crate::{Block, DType, f16};
use bytemuck::{Pod, Zeroable};
use std::mem::offset_of;

/// 256 values: 16 sub-blocks with scale and minimum, 2-bit codes.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
pub struct BlockQ2K {
    /// Scale (low nibble) and minimum (high nibble) of each sub-block.
    pub scales: [u8; 16],
    /// Codes, four a byte.
    pub qs: [u8; 64],
    /// Scale of the sub-block scales.
    pub d: f16,
    /// Scale of the sub-block minima.
    pub dmin: f16,
}

const _: () = assert!(size_of::<BlockQ2K>() == DType::Q2K.block_bytes());

/// Steps more or fewer than 3 that the range of a sub-block may be taken for.
const SLACK: [f32; 12] = [-0.6, -0.4, -0.2, 0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.3, 1.7, 2.2];

/// The 2-bit codes of Q2_K, and the low two bits of those of Q3_K, in the order of the values.
pub(crate) fn unpack_pairs(qs: &[u8; 64]) -> [u8; 256] {
    std::array::from_fn(|i| {
        let (run, k, j) = (i / 128, i / 32 % 4, i % 32);
        qs[32 * run + j] >> (2 * k) & 3
    })
}

/// The inverse of [`unpack_pairs`]; takes the low two bits of each of 256 codes.
pub(crate) fn pack_pairs(codes: &[u8]) -> [u8; 64] {
    std::array::from_fn(|byte| {
        let first = 128 * (byte / 32) + byte % 32;
        (0..4).fold(0, |bits, k| bits | (codes[first + 32 * k] & 3) << (2 * k))
    })
}

impl BlockQ2K {
    /// The integers that the scales multiply, 0..=3, in the order of the values.
    pub fn codes(&self) -> [u8; 256] {
        unpack_pairs(&self.qs)
    }

    /// The scales and the minima of the sub-blocks, 0..=15.
    pub fn scales_mins(&self) -> ([u8; 16], [u8; 16]) {
        (self.scales.map(|byte| byte & 15), self.scales.map(|byte| byte >> 4))
    }
}

impl Block for BlockQ2K {
    const DTYPE: DType = DType::Q2K;

    fn dequantize(&self, out: &mut [f32]) {
        let (scales, mins) = self.scales_mins();
        dequantize_sub_blocks((self.d, &scales), (self.dmin, &mins), &self.codes(), out);
    }

    fn is_finite(&self) -> bool {
        self.d.is_finite() && self.dmin.is_finite()
    }
}

impl Encode for BlockQ2K {
    const SUB_BLOCK: usize = 16;
    type Levels = Integers<0, 3>;
    const LEVELS: Self::Levels = Integers;
    const FACTORS: &[usize] = &[offset_of!(BlockQ2K, d), offset_of!(BlockQ2K, dmin)];

    fn fit(of: Weighted<'_>) -> Self {
        let found: Lines<16> = Lines::fit(of, Self::LEVELS, &SLACK, 15);
        BlockQ2K {
            scales: std::array::from_fn(|s| found.scales[s] | found.mins[s] << 4),
            qs: [0; 64],
            d: found.d,
            dmin: found.dmin,
        }
    }

    fn lines(&self) -> impl Iterator<Item = (f32, f32)> {
        let (d, dmin, (scales, mins)) = (self.d.to_f32(), self.dmin.to_f32(), self.scales_mins());
        scales.into_iter().zip(mins).map(move |(scale, min)| (d * f32::from(scale), -(dmin * f32::from(min))))
    }

    fn with_codes(self, codes: &[u8]) -> Self {
        BlockQ2K { qs: pack_pairs(codes), ..self }
    }
}
