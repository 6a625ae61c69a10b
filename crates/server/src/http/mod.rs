//! What every interface needs of HTTP: bodies, streams, and who may ask.

pub mod guard;
pub mod json;
pub mod listen;
pub mod stream;
