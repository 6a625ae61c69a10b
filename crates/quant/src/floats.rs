//! F32, F16 and BF16: a block is one value.
//!
//! BF16 is the upper half of a single, so its conversion is a shift and always exact; so is that of F16, whose
//! subnormals become normal singles.

use crate::registry::Convert;
use crate::{Block, DType, bf16, f16};
use bytemuck::{Pod, Zeroable};

/// One single.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
pub struct ValueF32(pub f32);

/// One half.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
pub struct ValueF16(pub f16);

/// One bfloat.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
pub struct ValueBF16(pub bf16);

const _: () = assert!(size_of::<ValueF32>() == DType::F32.block_bytes());
const _: () = assert!(size_of::<ValueF16>() == DType::F16.block_bytes());
const _: () = assert!(size_of::<ValueBF16>() == DType::BF16.block_bytes());

impl Block for ValueF32 {
    const DTYPE: DType = DType::F32;

    fn dequantize(&self, out: &mut [f32]) {
        out.copy_from_slice(&[self.0]);
    }

    fn is_finite(&self) -> bool {
        self.0.is_finite()
    }
}

impl Block for ValueF16 {
    const DTYPE: DType = DType::F16;

    fn dequantize(&self, out: &mut [f32]) {
        out.copy_from_slice(&[self.0.to_f32()]);
    }

    fn is_finite(&self) -> bool {
        self.0.is_finite()
    }
}

impl Block for ValueBF16 {
    const DTYPE: DType = DType::BF16;

    fn dequantize(&self, out: &mut [f32]) {
        out.copy_from_slice(&[self.0.to_f32()]);
    }

    fn is_finite(&self) -> bool {
        self.0.is_finite()
    }
}

impl Convert for ValueF32 {
    fn of(value: f32) -> Self {
        ValueF32(value)
    }
}

impl Convert for ValueF16 {
    fn of(value: f32) -> Self {
        ValueF16(f16::from_f32(value))
    }
}

impl Convert for ValueBF16 {
    fn of(value: f32) -> Self {
        ValueBF16(bf16::from_f32(value))
    }
}
