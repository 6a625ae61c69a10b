//! SIMD kernels and the thread pool: how fast, with no knowledge of any model.
//!
//! A [`Compute`] (threads and an [`Isa`]) is passed to every call. Each kernel has a scalar twin that is its
//! specification; parity tests hold every instruction set to it.

mod activations;
pub mod attention;
mod compute;
mod elementwise;
mod isa;
pub mod kv;
mod math;
mod matmul;
pub mod memory;
pub mod peak;
mod threads;

pub use activations::Activations;
pub use attention::KvType;
pub use compute::Compute;
pub use elementwise::{GateFunction, HeadRows, add_bias, gate, rms_norm, rms_norm_heads, rope};
#[cfg(target_arch = "x86_64")]
pub use isa::Avx2;
pub use isa::{Isa, IsaError};
pub use matmul::{Matrix, PackError, matmul, matmul_add, matmul_swiglu};
pub use threads::ThreadPool;

/// How the operand of a quantized matrix is represented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActivationKind {
    /// float32, exact
    F32,
    /// int8 in blocks of 32 with a float32 scale
    Q8,
}

impl ActivationKind {
    /// `f32` or `q8`
    pub fn name(self) -> &'static str {
        match self {
            ActivationKind::F32 => "f32",
            ActivationKind::Q8 => "q8",
        }
    }
}
