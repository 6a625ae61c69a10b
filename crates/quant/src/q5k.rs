//! Q5_K: 256 values of 5 bits in 8 sub-blocks of 32, each with a 6-bit scale and a 6-bit minimum.
//!
//! ```text
//! 176 bytes   d: f16 │ dmin: f16 │ scales: 12 bytes │ qh: 32 bytes │ qs: 128 bytes
//!
//! x = (d · scale[s]) · q − dmin · min[s]        s = i / 32, q in 0..32
//!
//! qs      four runs of 32 bytes; byte j of run r: low nibble value 64 r + j, high nibble value 64 r + 32 + j
//! qh      bit s of byte j: bit 4 of value 32 s + j
//! scales  as in Q4_K
//! ```
//!
//! Source: ggml's `block_q5_K`.

use crate::encode::{Encode, Integers, Lines, Weighted};
use crate::q4::LINE_SLACK;
use crate::q4k::{dequantize_sub_blocks, pack_scales_mins, unpack_scales_mins};
use crate::{Block, DType, f16};
use bytemuck::{Pod, Zeroable};
use std::mem::offset_of;

/// 256 values: 8 sub-blocks with scale and minimum, 5-bit codes.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
pub struct BlockQ5K {
    /// Scale of the sub-block scales.
    pub d: f16,
    /// Scale of the sub-block minima.
    pub dmin: f16,
    /// Eight 6-bit scales and eight 6-bit minima: see [`crate::unpack_scales_mins`].
    pub scales: [u8; 12],
    /// Bit 4 of every code.
    pub qh: [u8; 32],
    /// The low four bits of the codes, two a byte.
    pub qs: [u8; 128],
}

const _: () = assert!(size_of::<BlockQ5K>() == DType::Q5K.block_bytes());

impl BlockQ5K {
    /// The scales and the minima of the sub-blocks, 0..=63.
    pub fn scales_mins(&self) -> ([u8; 8], [u8; 8]) {
        unpack_scales_mins(&self.scales)
    }

    /// The integers that the scales multiply, 0..=31, in the order of the values.
    pub fn codes(&self) -> [u8; 256] {
        std::array::from_fn(|i| {
            let (run, half, sub, j) = (i / 64, i / 32 % 2, i / 32, i % 32);
            let low = self.qs[32 * run + j] >> (4 * half) & 15;
            low | (self.qh[j] >> sub & 1) << 4
        })
    }
}

impl Block for BlockQ5K {
    const DTYPE: DType = DType::Q5K;

    fn dequantize(&self, out: &mut [f32]) {
        let (scales, mins) = self.scales_mins();
        dequantize_sub_blocks((self.d, &scales), (self.dmin, &mins), &self.codes(), out);
    }

    fn is_finite(&self) -> bool {
        self.d.is_finite() && self.dmin.is_finite()
    }
}

impl Encode for BlockQ5K {
    const SUB_BLOCK: usize = 32;
    type Levels = Integers<0, 31>;
    const LEVELS: Self::Levels = Integers;
    const FACTORS: &[usize] = &[offset_of!(BlockQ5K, d), offset_of!(BlockQ5K, dmin)];

    fn fit(of: Weighted<'_>) -> Self {
        let found: Lines<8> = Lines::fit(of, Self::LEVELS, &LINE_SLACK, 63);
        BlockQ5K {
            d: found.d,
            dmin: found.dmin,
            scales: pack_scales_mins(&found.scales, &found.mins),
            qh: [0; 32],
            qs: [0; 128],
        }
    }

    fn lines(&self) -> impl Iterator<Item = (f32, f32)> {
        let (d, dmin, (scales, mins)) = (self.d.to_f32(), self.dmin.to_f32(), self.scales_mins());
        scales.into_iter().zip(mins).map(move |(scale, min)| (d * f32::from(scale), -(dmin * f32::from(min))))
    }

    fn with_codes(self, codes: &[u8]) -> Self {
        let qs = std::array::from_fn(|j| {
            let first = 64 * (j / 32) + j % 32;
            codes[first] & 15 | codes[first + 32] << 4
        });
        let qh = std::array::from_fn(|j| (0..8).fold(0, |bits, s| bits | (codes[32 * s + j] >> 4) << s));
        BlockQ5K { qs, qh, ..self }
    }
}
