//! Model files: GGUF and Hugging Face directories, mapped and read without trust.
//!
//! Everything in a file is checked once, when it is opened: after that a tensor is a name, a type, a shape and bytes
//! of exactly the length that these imply. A file that breaks a rule of its format gives an error with the values; it
//! never panics, never reads outside the file and never allocates more than a small multiple of the file's own size.
//!
//! ```text
//! gguf::Gguf::open(path)   one file, or all parts of a split one
//! hf::HfDir::open(dir)     config.json, model.safetensors or its shards, tokenizer files
//!        │
//!        └─► TensorView { name, dtype, shape, bytes }       zero copy
//! ```
//!
//! [`AtomicFile`] is the other direction: files of ours that appear whole or not at all.
//!
//! What is in a file may be hostile to the eye too: [`Escaped`] is how it is shown.
//!
//! What the bytes of a tensor mean is the business of `lossy-quant`.
#![deny(unsafe_code)]

// In the order of their dependencies: a module uses only those above it.
mod atomic_file;
mod escaped;
mod instead;
mod map;
mod name;
mod tensor;
pub mod gguf;
pub mod hf;

pub use atomic_file::{AtomicFile, WriteError};
pub use escaped::{Escaped, EscapedLines, Escaping};
pub use instead::{Instead, without_bom};
pub use tensor::TensorView;
