//! A page of one KV head as float32, laid out for a register block of 6 rows × 16 columns.

use bytemuck::{Pod, Zeroable};

use super::frames::{PageFrames, PageTurns, turn_keys};
use super::{LANES, PAGE_TOKENS};
use crate::Isa;

/// Channels of values that are computed together.
pub(crate) const TILE_COLUMNS: usize = 16;

/// A cache line.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([f32; 16]);

/// Float32 values that begin at a cache line.
#[derive(Debug, Default)]
pub(crate) struct Lines(Vec<Line>);

impl Lines {
    /// At least `n` values; those that were there stay.
    pub(crate) fn grow(&mut self, n: usize) {
        if self.0.len() * 16 < n {
            self.0.resize(n.div_ceil(16), Line([0.0; 16]));
        }
    }
    pub(crate) fn values(&self) -> &[f32] {
        bytemuck::cast_slice(&self.0)
    }
    pub(crate) fn values_mut(&mut self) -> &mut [f32] {
        bytemuck::cast_slice_mut(&mut self.0)
    }
}

/// Keys and values of one page of one KV head as float32.
///
/// ```text
/// keys   [PAGE_TOKENS/8][head_dim][8]
/// values [⌈head_dim/16⌉][PAGE_TOKENS][16]    columns beyond head_dim are never used
/// ```
#[derive(Debug, Default)]
pub struct Tile {
    head_dim: usize,
    keys: Lines,
    values: Lines,
}

impl Tile {
    /// Makes room for heads of `head_dim` channels.
    pub fn set_shape(&mut self, head_dim: usize) {
        self.head_dim = head_dim;
        self.keys.grow(PAGE_TOKENS * head_dim);
        self.values.grow(PAGE_TOKENS * head_dim.next_multiple_of(TILE_COLUMNS));
    }

    /// Channels of a head.
    pub fn head_dim(&self) -> usize {
        self.head_dim
    }

    /// `[PAGE_TOKENS/8 * head_dim][8]`
    pub fn keys(&self) -> &[[f32; LANES]] {
        &self.keys.values().as_chunks().0[..PAGE_TOKENS / LANES * self.head_dim]
    }

    /// Moves the frames of the first `n_tokens`.
    pub fn move_frames(&mut self, isa: Isa, frames: PageFrames<'_>, n_tokens: usize) {
        turn_keys(isa, frames, n_tokens, self.keys_mut());
    }

    /// Turns the key of each token by its angle.
    pub fn turn(&mut self, isa: Isa, turns: PageTurns<'_>) {
        turns.turn_keys(isa, self.keys_mut());
    }

    /// `[PAGE_TOKENS/8 * head_dim][8]`
    pub fn keys_mut(&mut self) -> &mut [[f32; LANES]] {
        &mut self.keys.values_mut().as_chunks_mut().0[..PAGE_TOKENS / LANES * self.head_dim]
    }

    /// Channels `16·column..` of all tokens: `[PAGE_TOKENS][16]`.
    ///
    /// # Panics
    /// There is no such column.
    pub fn values(&self, column: usize) -> &[[f32; TILE_COLUMNS]] {
        &self.values.values().as_chunks().0[column * PAGE_TOKENS..][..PAGE_TOKENS]
    }

    /// Channels `16·column..` of all tokens: `[PAGE_TOKENS][16]`.
    ///
    /// # Panics
    /// There is no such column.
    pub fn values_mut(&mut self, column: usize) -> &mut [[f32; TILE_COLUMNS]] {
        &mut self.values.values_mut().as_chunks_mut().0[column * PAGE_TOKENS..][..PAGE_TOKENS]
    }
}
