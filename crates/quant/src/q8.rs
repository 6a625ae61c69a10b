//! Q8_0: 32 signed bytes with one half-precision scale.
//!
//! ```text
//! 34 bytes   d: f16 │ qs: 32 × i8     x = d · q
//! ```
//!
//! Source: ggml's `block_q8_0`. The encoder gives codes −127..=127; −128 would be no number's
//! opposite.

use crate::encode::{Encode, Integers, NO_OFFSET, Weighted, best_half, exact_scale};
use crate::{Block, DType, f16};
use bytemuck::{Pod, Zeroable};
use std::mem::offset_of;

/// 32 values: a scale and signed bytes.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
pub struct BlockQ8_0 {
    /// Scale.
    pub d: f16,
    /// Codes in the order of the values.
    pub qs: [i8; 32],
}

const _: () = assert!(size_of::<BlockQ8_0>() == DType::Q8_0.block_bytes());

/// Levels that the largest magnitude of a block may fall on.
const SCALE_TARGETS: [f32; 7] = [126.4, 126.6, 126.8, 127.0, 127.2, 127.4, 127.7];

impl Block for BlockQ8_0 {
    const DTYPE: DType = DType::Q8_0;

    fn dequantize(&self, out: &mut [f32]) {
        let d = self.d.to_f32();
        out.copy_from_slice(&self.qs.map(|q| d * f32::from(q)));
    }

    fn is_finite(&self) -> bool {
        self.d.is_finite()
    }
}

impl Encode for BlockQ8_0 {
    const SUB_BLOCK: usize = 32;
    type Levels = Integers<-127, 127>;
    const LEVELS: Self::Levels = Integers;
    const FACTORS: &[usize] = &[offset_of!(BlockQ8_0, d)];

    fn fit(of: Weighted<'_>) -> Self {
        let search = || best_half(of, Self::LEVELS, &SCALE_TARGETS, 127.0);
        BlockQ8_0 { d: exact_scale(of.values, -127, 127).unwrap_or_else(search), qs: [0; 32] }
    }

    fn lines(&self) -> impl Iterator<Item = (f32, f32)> {
        [(self.d.to_f32(), NO_OFFSET)].into_iter()
    }

    fn with_codes(self, codes: &[u8]) -> Self {
        BlockQ8_0 { qs: std::array::from_fn(|i| (i16::from(codes[i]) - 127) as i8), ..self }
    }
}
