//! Text to token ids and back; chat templates.
#![forbid(unsafe_code)]
