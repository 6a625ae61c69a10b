//! A server on a real model, asked over real connections.

mod bytes;
mod client;
mod clients;
mod documents;
mod errors;
mod faults;
mod forms;
mod guarded;
mod guesses;
mod interfaces;
mod page;
mod start;
mod unwell;
