//! Q6_K: 256 values of 6 bits in 16 sub-blocks of 16, each with a signed 8-bit scale.
//!
//! ```text
//! 210 bytes   ql: 128 bytes │ qh: 64 bytes │ scales: 16 × i8 │ d: f16
//!
//! x = (d · scale[s]) · (q − 32)        s = i / 16, q in 0..64
//!
//! ql      low four bits; two runs of 64 bytes; byte j of run r: low nibble value 128 r + j, high nibble 128 r + 64 + j
//! qh      upper two bits; two runs of 32 bytes; bits 2k and 2k + 1 of byte j of run r: value 128 r + 32 k + j
//! ```
//!
//! Source: ggml's `block_q6_K`.

use crate::encode::{Encode, Integers, NO_OFFSET, Scaled, Weighted};
use crate::q2k::{pack_pairs, unpack_pairs};
use crate::{Block, DType, f16};
use bytemuck::{Pod, Zeroable};
use std::mem::offset_of;

/// 256 values: 16 sub-blocks with signed scale, 6-bit codes around 32.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
pub struct BlockQ6K {
    /// The low four bits of the codes, two a byte.
    pub ql: [u8; 128],
    /// The upper two bits of the codes, four a byte.
    pub qh: [u8; 64],
    /// Scales of the sub-blocks.
    pub scales: [i8; 16],
    /// Scale of the sub-block scales.
    pub d: f16,
}

/// Levels that the largest magnitude of a sub-block may fall on, on either side.
const SCALE_TARGETS: [f32; 14] =
    [-31.2, -31.4, -31.6, -31.8, -32.0, -32.2, -32.4, -32.8, 30.4, 30.7, 31.0, 31.2, 31.4, 31.8];

const _: () = assert!(size_of::<BlockQ6K>() == DType::Q6K.block_bytes());

impl BlockQ6K {
    /// The integers that the scales multiply, −32..=31, in the order of the values.
    pub fn codes(&self) -> [i8; 256] {
        let high = unpack_pairs(&self.qh);
        std::array::from_fn(|i| {
            let (run, half, j) = (i / 128, i / 64 % 2, i % 64);
            let low = self.ql[64 * run + j] >> (4 * half) & 15;
            (low | high[i] << 4) as i8 - 32
        })
    }
}

impl Block for BlockQ6K {
    const DTYPE: DType = DType::Q6K;

    fn dequantize(&self, out: &mut [f32]) {
        assert_eq!(out.len(), 256);
        for ((out, codes), scale) in
            out.chunks_exact_mut(16).zip(self.codes().chunks_exact(16)).zip(self.scales)
        {
            let scale = self.d.to_f32() * f32::from(scale);
            for (out, &code) in out.iter_mut().zip(codes) {
                *out = scale * f32::from(code);
            }
        }
    }

    fn is_finite(&self) -> bool {
        self.d.is_finite()
    }
}

impl Encode for BlockQ6K {
    const SUB_BLOCK: usize = 16;
    type Levels = Integers<-32, 31>;
    const LEVELS: Self::Levels = Integers;
    const FACTORS: &[usize] = &[offset_of!(BlockQ6K, d)];

    fn fit(of: Weighted<'_>) -> Self {
        let found: Scaled<16> = Scaled::fit(of, Self::LEVELS, &SCALE_TARGETS, -128);
        BlockQ6K { ql: [0; 128], qh: [0; 64], scales: found.scales, d: found.d }
    }

    fn lines(&self) -> impl Iterator<Item = (f32, f32)> {
        let d = self.d.to_f32();
        self.scales.into_iter().map(move |scale| (d * f32::from(scale), NO_OFFSET))
    }

    fn with_codes(self, codes: &[u8]) -> Self {
        let ql = std::array::from_fn(|byte| {
            let first = 128 * (byte / 64) + byte % 64;
            codes[first] & 15 | codes[first + 64] << 4
        });
        let high: [u8; 256] = std::array::from_fn(|i| codes[i] >> 4);
        BlockQ6K { ql, qh: pack_pairs(&high), ..self }
    }
}
