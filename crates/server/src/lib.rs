//! Serves a model to many users at once, over the interfaces that clients speak.
#![forbid(unsafe_code)]
