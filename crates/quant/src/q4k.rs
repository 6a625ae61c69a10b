//! Q4_K: 256 values of 4 bits in 8 sub-blocks of 32, each with a 6-bit scale and a 6-bit minimum.
//!
//! ```text
//! 144 bytes   d: f16 │ dmin: f16 │ scales: 12 bytes │ qs: 128 bytes
//!
//! x = (d · scale[s]) · q − dmin · min[s]        s = i / 32, q in 0..16
//!
//! qs      four runs of 32 bytes; byte j of run r: low nibble value 64 r + j, high nibble value 64 r + 32 + j
//! scales  byte 0..4    scale[0..4] in bits 0–5, upper two bits of scale[4..8] in bits 6–7
//!         byte 4..8    min[0..4]   in bits 0–5, upper two bits of min[4..8]   in bits 6–7
//!         byte 8..12   lower four bits of scale[4..8] in the low nibble, of min[4..8] in the high nibble
//! ```
//!
//! Source: ggml's `block_q4_K`.

use crate::encode::{Encode, Integers, Lines, Weighted};
use crate::q4::LINE_SLACK;
use crate::{Block, DType, f16};
use bytemuck::{Pod, Zeroable};
use std::mem::offset_of;

/// 256 values: 8 sub-blocks with scale and minimum, 4-bit codes.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
pub struct BlockQ4K {
    /// Scale of the sub-block scales.
    pub d: f16,
    /// Scale of the sub-block minima.
    pub dmin: f16,
    /// Eight 6-bit scales and eight 6-bit minima: see [`unpack_scales_mins`].
    pub scales: [u8; 12],
    /// Codes, two a byte.
    pub qs: [u8; 128],
}

const _: () = assert!(size_of::<BlockQ4K>() == DType::Q4K.block_bytes());

/// The eight scales and the eight minima, 0..=63, out of the 12 bytes that Q4_K and Q5_K pack them in.
pub fn unpack_scales_mins(packed: &[u8; 12]) -> ([u8; 8], [u8; 8]) {
    let high = |s: usize| (packed[s - 4] >> 6) << 4;
    let scales = std::array::from_fn(|s| if s < 4 { packed[s] & 63 } else { packed[s + 4] & 15 | high(s) });
    let mins =
        std::array::from_fn(|s| if s < 4 { packed[s + 4] & 63 } else { packed[s + 4] >> 4 | high(s + 4) });
    (scales, mins)
}

/// The inverse of [`unpack_scales_mins`]; takes the low six bits of each number.
pub fn pack_scales_mins(scales: &[u8; 8], mins: &[u8; 8]) -> [u8; 12] {
    std::array::from_fn(|byte| match byte {
        0..4 => scales[byte] & 63 | (scales[byte + 4] >> 4) << 6,
        4..8 => mins[byte - 4] & 63 | (mins[byte] >> 4) << 6,
        _ => scales[byte - 4] & 15 | mins[byte - 4] << 4,
    })
}

impl BlockQ4K {
    /// The scales and the minima of the sub-blocks, 0..=63.
    pub fn scales_mins(&self) -> ([u8; 8], [u8; 8]) {
        unpack_scales_mins(&self.scales)
    }

    /// The integers that the scales multiply, 0..=15, in the order of the values.
    pub fn codes(&self) -> [u8; 256] {
        std::array::from_fn(|i| {
            let (run, half, j) = (i / 64, i / 32 % 2, i % 32);
            self.qs[32 * run + j] >> (4 * half) & 15
        })
    }
}

impl Block for BlockQ4K {
    const DTYPE: DType = DType::Q4K;

    fn dequantize(&self, out: &mut [f32]) {
        let (scales, mins) = self.scales_mins();
        dequantize_sub_blocks((self.d, &scales), (self.dmin, &mins), &self.codes(), out);
    }

    fn is_finite(&self) -> bool {
        self.d.is_finite() && self.dmin.is_finite()
    }
}

/// The formula that Q2_K, Q4_K and Q5_K share: `N` sub-blocks of equal length, the unit of their scales and of their
/// minima next to these.
pub(crate) fn dequantize_sub_blocks<const N: usize>(
    (d, scales): (f16, &[u8; N]),
    (dmin, mins): (f16, &[u8; N]),
    codes: &[u8; 256],
    out: &mut [f32],
) {
    assert_eq!(out.len(), 256);
    let (d, dmin) = (d.to_f32(), dmin.to_f32());
    let sub_blocks = out.chunks_exact_mut(256 / N).zip(codes.chunks_exact(256 / N));
    for ((out, codes), (&scale, &min)) in sub_blocks.zip(scales.iter().zip(mins)) {
        let (scale, min) = (d * f32::from(scale), dmin * f32::from(min));
        for (out, &code) in out.iter_mut().zip(codes) {
            *out = scale * f32::from(code) - min;
        }
    }
}

impl Encode for BlockQ4K {
    const SUB_BLOCK: usize = 32;
    type Levels = Integers<0, 15>;
    const LEVELS: Self::Levels = Integers;
    const FACTORS: &[usize] = &[offset_of!(BlockQ4K, d), offset_of!(BlockQ4K, dmin)];

    fn fit(of: Weighted<'_>) -> Self {
        let found: Lines<8> = Lines::fit(of, Self::LEVELS, &LINE_SLACK, 63);
        BlockQ4K {
            d: found.d,
            dmin: found.dmin,
            scales: pack_scales_mins(&found.scales, &found.mins),
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
            codes[first] | codes[first + 32] << 4
        });
        BlockQ4K { qs, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::{pack_scales_mins, unpack_scales_mins};

    #[test]
    fn scales_and_minima_survive_packing() {
        let scales = [0, 63, 1, 32, 16, 47, 63, 5];
        let mins = [63, 0, 21, 9, 48, 15, 0, 63];
        assert_eq!(unpack_scales_mins(&pack_scales_mins(&scales, &mins)), (scales, mins));
    }

    #[test]
    fn every_bit_of_the_packed_scales_is_used_once() {
        for bit in 0..96 {
            let mut packed = [0; 12];
            packed[bit / 8] = 1 << (bit % 8);
            let (scales, mins) = unpack_scales_mins(&packed);
            assert_eq!(scales.iter().chain(&mins).map(|x| x.count_ones()).sum::<u32>(), 1);
            assert_eq!(pack_scales_mins(&scales, &mins), packed);
        }
    }
}
