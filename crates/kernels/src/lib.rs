//! SIMD kernels and the thread pool: how fast, with no knowledge of any model.
//!
//! A [`Compute`] (threads and an [`Isa`]) is passed to every call. Each kernel has a scalar twin that is its
//! specification; parity tests hold every instruction set to it.

mod compute;
mod isa;
mod math;
mod threads;

pub use compute::Compute;
#[cfg(target_arch = "x86_64")]
pub use isa::Avx2;
pub use isa::{Isa, IsaError};
pub use threads::ThreadPool;

/// How the operand of a quantized matrix is represented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActivationKind {
    /// float32, exact
    F32,
    /// int8 in blocks of 32 with a float32 scale
    Q8,
}

/// Element type of an exact KV cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvType {
    /// float32
    F32,
    /// IEEE half
    F16,
}
