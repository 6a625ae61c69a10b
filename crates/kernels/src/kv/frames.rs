//! By how much keys are turned back: the rotation of each frame's first position.

/// Cosines and sines `[n_frames][head_dim / 2]` of the frames' first positions; channel `i` is turned with channel
/// `i + head_dim/2`.
#[derive(Clone, Debug)]
pub struct FrameTable {
    n_pairs: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

/// One frame's row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame<'a> {
    pub cos: &'a [f32],
    pub sin: &'a [f32],
}

impl FrameTable {
    /// From cosines and sines `[n_frames, n_pairs]` of pure rotations.
    ///
    /// # Panics
    /// The lengths differ, or are not whole rows.
    pub fn new(n_pairs: usize, cos: Vec<f32>, sin: Vec<f32>) -> FrameTable {
        assert!(n_pairs > 0 && cos.len() == sin.len() && cos.len().is_multiple_of(n_pairs), "rows of frames");
        FrameTable { n_pairs, cos, sin }
    }

    /// Frames in the table.
    pub fn len(&self) -> usize {
        self.cos.len() / self.n_pairs
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.cos.is_empty()
    }

    /// Frame `index`.
    pub(super) fn frame(&self, index: usize) -> Frame<'_> {
        let row = index * self.n_pairs..(index + 1) * self.n_pairs;
        Frame { cos: &self.cos[row.clone()], sin: &self.sin[row] }
    }
}
