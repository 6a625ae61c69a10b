//! Q3_K: 256 values of 3 bits in 16 sub-blocks of 16, each with a signed 6-bit scale.
//!
//! ```text
//! 110 bytes   hmask: 32 bytes │ qs: 64 bytes │ scales: 12 bytes │ d: f16
//!
//! x = (d · scale[s]) · q        s = i / 16, q in −4..4, scale in −32..32
//!
//! q       low two bits from qs, as in Q2_K; bit k of byte j of hmask says whether value 32 k + j gets 0 (set) or
//!         −4 (clear) added
//! scales  stored as scale + 32; low four bits: byte s % 8, low nibble for s < 8, high nibble for the others;
//!         upper two bits: byte 8 + s % 4, bits 2 (s / 4) and 2 (s / 4) + 1
//! ```
//!
//! Source: ggml's `block_q3_K`.

use crate::encode::{Encode, Integers, NO_OFFSET, Scaled, Weighted};
use crate::q2k::{pack_pairs, unpack_pairs};
use crate::{Block, DType, f16};
use bytemuck::{Pod, Zeroable};
use std::mem::offset_of;

/// 256 values: 16 sub-blocks with signed scale, 3-bit codes.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
pub struct BlockQ3K {
    /// Bit 2 of every code.
    pub hmask: [u8; 32],
    /// The low two bits of the codes, four a byte.
    pub qs: [u8; 64],
    /// Sixteen 6-bit scales: see [`BlockQ3K::scales`].
    pub scales: [u8; 12],
    /// Scale of the sub-block scales.
    pub d: f16,
}

/// Levels that the largest magnitude of a sub-block may fall on, on either side.
const SCALE_TARGETS: [f32; 18] =
    [-3.1, -3.3, -3.5, -3.7, -3.9, -4.1, -4.3, -4.5, -4.8, -5.2, 2.2, 2.5, 2.7, 2.9, 3.1, 3.3, 3.6, 4.0];

const _: () = assert!(size_of::<BlockQ3K>() == DType::Q3K.block_bytes());

impl BlockQ3K {
    /// The integers that the scales multiply, −4..=3, in the order of the values.
    pub fn codes(&self) -> [i8; 256] {
        let low = unpack_pairs(&self.qs);
        std::array::from_fn(|i| {
            let set = self.hmask[i % 32] >> (i / 32) & 1;
            (low[i] | set << 2) as i8 - 4
        })
    }

    /// The scales of the sub-blocks, −32..=31.
    pub fn scales(&self) -> [i8; 16] {
        std::array::from_fn(|s| {
            let low = self.scales[s % 8] >> (4 * (s / 8)) & 15;
            let high = self.scales[8 + s % 4] >> (2 * (s / 4)) & 3;
            (low | high << 4) as i8 - 32
        })
    }
}

fn pack_scales(scales: &[i8; 16]) -> [u8; 12] {
    let stored = scales.map(|scale| (scale + 32) as u8);
    std::array::from_fn(|byte| match byte {
        0..8 => stored[byte] & 15 | stored[byte + 8] << 4,
        _ => (0..4).fold(0, |bits, k| bits | (stored[byte - 8 + 4 * k] >> 4) << (2 * k)),
    })
}

impl Block for BlockQ3K {
    const DTYPE: DType = DType::Q3K;

    fn dequantize(&self, out: &mut [f32]) {
        assert_eq!(out.len(), 256);
        for ((out, codes), scale) in
            out.chunks_exact_mut(16).zip(self.codes().chunks_exact(16)).zip(self.scales())
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

impl Encode for BlockQ3K {
    const SUB_BLOCK: usize = 16;
    type Levels = Integers<-4, 3>;
    const LEVELS: Self::Levels = Integers;
    const FACTORS: &[usize] = &[offset_of!(BlockQ3K, d)];

    fn fit(of: Weighted<'_>) -> Self {
        let found: Scaled<16> = Scaled::fit(of, Self::LEVELS, &SCALE_TARGETS, -32);
        BlockQ3K { hmask: [0; 32], qs: [0; 64], scales: pack_scales(&found.scales), d: found.d }
    }

    fn lines(&self) -> impl Iterator<Item = (f32, f32)> {
        let d = self.d.to_f32();
        self.scales().into_iter().map(move |scale| (d * f32::from(scale), NO_OFFSET))
    }

    fn with_codes(self, codes: &[u8]) -> Self {
        let hmask = std::array::from_fn(|j| (0..8).fold(0, |bits, k| bits | (codes[32 * k + j] >> 2) << k));
        BlockQ3K { hmask, qs: pack_pairs(codes), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::{BlockQ3K, pack_scales};
    use bytemuck::Zeroable;

    #[test]
    fn scales_survive_packing() {
        let scales = [-32, 31, 0, -1, 1, 15, 16, -16, -17, 8, -8, 30, -31, 5, 21, -21];
        let block = BlockQ3K { scales: pack_scales(&scales), ..BlockQ3K::zeroed() };
        assert_eq!(block.scales(), scales);
    }
}
