//! Number formats: what the bytes of a tensor mean.
#![forbid(unsafe_code)]
