//! SIMD kernels and the thread pool: how fast, with no knowledge of any model.
//!
//! A [`Compute`] (threads and an [`Isa`]) is passed to every call. Each kernel has a scalar twin that is its
//! specification; parity tests hold every instruction set to it.

// In the order of their dependencies: a module uses only those above it.
mod isa;
#[cfg(target_arch = "x86_64")]
mod simd;
#[cfg(target_arch = "x86_64")]
mod tiles;
mod threads;
mod compute;
pub mod memory;
pub mod dense;
mod math;
mod elementwise;
mod activations;
mod matmul;
pub mod page;
pub mod attention;
pub mod kv;
pub mod peak;

pub use activations::{ActivationKind, Activations};
pub use compute::Compute;
pub use elementwise::{GateFunction, HeadRows, add_bias, gate, rms_norm, rms_norm_heads, rope};
#[cfg(target_arch = "x86_64")]
pub use isa::Avx2;
pub use isa::{Isa, IsaError};
pub use kv::KvType;
pub use matmul::{Matrix, PackError, matmul, matmul_add, matmul_swiglu};
pub use threads::ThreadPool;
