//! Positions: how far apart query and key are for the model, and the rotations that make it so.
//!
//! A [`PositionScheme`] is what a user writes. With a model and a context it becomes [`Positions`]: a [`PositionMap`], a
//! [`Rope`], and tables of both. A new map is one file with a `Family`, a `Choice` and a [`PositionMap`], one line in
//! `scheme.rs`, and one line in `MAPS` of `tests.rs`.

// In the order of dependency: each uses those before it.
mod error;
mod rope;
mod map;
mod family;
mod linear;
mod adaptive;
mod self_extend;
mod dual_chunk;
mod scaled;
mod yarn;
mod ntk;
mod auto;
mod scheme;
mod table;

#[cfg(test)]
pub(crate) mod tests;

pub use error::PositionError;
pub use map::PositionMap;
pub use rope::{LongRope, Rope, RopeConfig, RopeScaling, Trained, Yarn};
pub use scheme::PositionScheme;
pub(crate) use table::Moved;
pub use table::Positions;
