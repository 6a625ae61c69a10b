//! Model files: GGUF and Hugging Face directories.
#![deny(unsafe_code)]
