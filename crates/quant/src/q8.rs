//! Q8_0: 32 signed bytes with one half-precision scale.
//!
//! ```text
//! 34 bytes   d: f16 │ qs: 32 × i8     x = d · q
//! ```
//!
//! Source: ggml's `block_q8_0`. The encoder gives the same bytes as ggml's reference: codes −127..=127, halves rounded
//! away from zero.

use crate::block::{extreme, reciprocal};
use crate::registry::Encode;
use crate::{Block, DType, f16};
use bytemuck::{Pod, Zeroable};

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
    fn encode(values: &[f32]) -> Self {
        let d = extreme(values).abs() / 127.0;
        let inverse = reciprocal(d);
        BlockQ8_0 { d: f16::from_f32(d), qs: std::array::from_fn(|i| (values[i] * inverse).round() as i8) }
    }
}
