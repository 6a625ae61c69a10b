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
//! Source: ggml's `block_q3_K`. The encoder rounds each value to nearest; ggml's searches for better scales.

use crate::block::{extreme, reciprocal};
use crate::q2k::{pack_pairs, unpack_pairs};
use crate::registry::Encode;
use crate::{Block, DType, f16};
use bytemuck::{Pod, Zeroable};

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

/// What Q3_K and Q6_K store: 16 sub-blocks of 16 around zero.
pub(crate) struct SignedSubBlocks {
    pub d: f16,
    pub scales: [i8; 16],
    pub codes: [i8; 256],
}

/// Round to nearest: the largest magnitude of a sub-block becomes `min_code`, the largest scale becomes `min_scale`
/// (both negative, since that side reaches one further), and the codes are chosen for the rounded scales.
pub(crate) fn encode_signed(values: &[f32], min_code: i8, min_scale: i8) -> SignedSubBlocks {
    assert_eq!(values.len(), 256);
    let wanted: [f32; 16] =
        std::array::from_fn(|s| extreme(&values[16 * s..16 * (s + 1)]) / f32::from(min_code));
    let d = f16::from_f32(extreme(&wanted) / f32::from(min_scale));
    let limit = |min: i8| (f32::from(min), -1.0 - f32::from(min));
    let nearest = |x: f32, (low, high): (f32, f32)| x.round().clamp(low, high) as i8;
    let scales = wanted.map(|scale| nearest(scale * reciprocal(d.to_f32()), limit(min_scale)));
    let codes = std::array::from_fn(|i| {
        let scale = d.to_f32() * f32::from(scales[i / 16]);
        nearest(values[i] * reciprocal(scale), limit(min_code))
    });
    SignedSubBlocks { d, scales, codes }
}

impl Encode for BlockQ3K {
    fn encode(values: &[f32]) -> Self {
        let sub = encode_signed(values, -4, -32);
        let stored = sub.codes.map(|code| (code + 4) as u8);
        let hmask = std::array::from_fn(|j| (0..8).fold(0, |bits, k| bits | (stored[32 * k + j] >> 2) << k));
        BlockQ3K { hmask, qs: pack_pairs(&stored), scales: pack_scales(&sub.scales), d: sub.d }
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
