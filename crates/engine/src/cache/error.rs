//! What a cache can refuse.

use lossy_kernels::kv::Part;

/// Why tokens cannot be cached.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// the budget of all sequences together is spent
    #[error(
        "the KV cache needs {needed} bytes more, but {used} bytes of its budget of {budget} are in use; raise the budget, or end or shorten other sequences"
    )]
    Budget {
        /// bytes that the new tokens need
        needed: usize,
        /// bytes in use
        used: usize,
        /// bytes that may be in use
        budget: usize,
    },
    /// the system has no memory for a page
    #[error("the system gives no {bytes} bytes for a KV cache page: {error}")]
    Memory {
        /// bytes of a page
        bytes: usize,
        /// the system's reason
        error: std::io::Error,
    },
    /// the model computed a key or value that cannot be stored: NaN, infinite, or too large
    #[error(
        "layer {layer}, KV head {kv_head}: the {part} at position {position} has the value {value}, which a cache of type {scheme} cannot hold"
    )]
    Unstorable {
        /// layer
        layer: usize,
        /// KV head
        kv_head: usize,
        /// position in the sequence
        position: usize,
        /// key or value
        part: Part,
        /// the value
        value: f32,
        /// the cache's scheme
        scheme: String,
    },
}
