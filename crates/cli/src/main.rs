//! The program `lossy`.
#![forbid(unsafe_code)]

fn main() {}
