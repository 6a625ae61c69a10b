//! Number formats: what the bytes of a tensor mean.
//!
//! A tensor is a sequence of *blocks*; a block is a fixed number of values in a fixed number of bytes, with its own
//! scales. [`DType`] is the table of all formats that ggml numbers. For each format that can be computed there is one
//! `#[repr(C)]` type (`BlockQ4_0`, `BlockQ6K`, …) whose fields are the bytes in file order, and one scalar
//! [`Block::dequantize`], written to be read: it is the specification that faster code is compared with. [`quantize`] is the way back: see `encode`.
//!
//! | file | formats | bits a value |
//! |---|---|---|
//! | `floats` | F32, F16, BF16 | 32, 16, 16 |
//! | `q4` | Q4_0, Q4_1 | 4.5, 5.0 |
//! | `q5` | Q5_0, Q5_1 | 5.5, 6.0 |
//! | `q8` | Q8_0 | 8.5 |
//! | `q2k`, `q3k`, `q4k`, `q5k`, `q6k` | Q2_K … Q6_K | 2.625, 3.4375, 4.5, 5.5, 6.5625 |
//! | `iq4` | IQ4_NL, IQ4_XS | 4.5, 4.25 |
//!
//! Everything is little-endian, as in the files. Nothing here knows about threads, SIMD or models.
#![forbid(unsafe_code)]

mod block;
mod dtype;
mod encode;
mod error;
mod floats;
mod iq4;
mod q2k;
mod q3k;
mod q4;
mod q4k;
mod q5;
mod q5k;
mod q6k;
mod q8;
mod registry;
mod scale;

pub use block::{Block, read_blocks};
pub use dtype::DType;
pub use encode::{Grid, Rounded, fit, quantize};
pub use error::QuantError;
pub use floats::{ValueBF16, ValueF16, ValueF32};
pub use half::{bf16, f16};
pub use iq4::{BlockIQ4NL, BlockIQ4XS, IQ4_CODEBOOK};
pub use q2k::BlockQ2K;
pub use q3k::BlockQ3K;
pub use q4::{BlockQ4_0, BlockQ4_1};
pub use q4k::{BlockQ4K, pack_scales_mins, unpack_scales_mins};
pub use q5::{BlockQ5_0, BlockQ5_1};
pub use q5k::BlockQ5K;
pub use q6k::BlockQ6K;
pub use q8::BlockQ8_0;
pub use registry::{dequantize, first_not_finite};
pub use scale::scale;

const _: () = assert!(cfg!(target_endian = "little"), "block types are read as little-endian bytes");
