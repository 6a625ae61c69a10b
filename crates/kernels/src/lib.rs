//! SIMD kernels and the thread pool.

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
