//! Smaller models at a loss that is set and measured.
//!
//! Weights are read from any source that the engine reads, one block of layers at a time, and written as an ordinary GGUF.
#![forbid(unsafe_code)]

// In the order of their dependencies: a module uses only those above it.
mod real;
pub mod imatrix;
pub mod recipe;
pub mod feedback;
pub mod kept;
pub mod quantize;
pub mod weights;
pub mod block;
pub mod network;
pub mod statistics;
pub mod calibration;
pub mod sensitivity;
pub mod plan;
pub mod pace;
pub mod prices;
pub mod lessons;
pub mod student;
pub mod train;
pub mod distill;
pub mod estimate;
pub mod prune;

pub use real::Real;
