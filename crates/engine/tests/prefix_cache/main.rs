//! Documents stay loaded: what a prompt finds, and that going on from there changes no bit.

mod bits;
mod damage;
mod memory;
mod reader;
mod restart;
