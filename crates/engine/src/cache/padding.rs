//! Heads of sizes that no code has: zeros between their channels.
//!
//! ```text
//! channels   [first half | second half]
//! stored     [first half | zeros | second half | zeros]
//! ```
//! Rotation pairs channel `i` of the first half with channel `i` of the second, so both halves grow alike. A channel of
//! zeros adds nothing to a score, rotates into zeros, and its outputs are dropped; no result depends on it but through what
//! a code loses. Exact pages have heads of a multiple of 8 channels, and codes of a multiple of 32.
//!
//! Codes store 32 channels together, so some zeros are stored whatever one does, and the question is what they are good for.
//! Padded channels of keys get no bits from [`KeyCode`](lossy_kernels::kv::KeyCode). Values are padded before they are
//! transformed, so what is stored for padded channels is not lost: the transform spreads every value and every error over
//! them, and the share of the error that falls on them is dropped. Where the Hadamard matrix has blocks smaller than a head,
//! [`mix`](Padding::mix) spreads over all of them: an outlier of 80 channels would else stay in 32 of 96. docs/kv-cache.md
//! has the figures. Heads without zeros have blocks only.

use lossy_kernels::Compute;
use lossy_kernels::kv::{hadamard, hadamard_rows};
use lossy_kernels::page::Rows;

/// Where the channels of a head lie among those that are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Padding {
    head_dim: usize,
    stored_dim: usize,
}

impl Padding {
    /// Of heads of `head_dim` channels, an even number, that are stored with `stored_dim`.
    pub(super) fn new(head_dim: usize, stored_dim: usize) -> Padding {
        assert!(
            head_dim.is_multiple_of(2) && stored_dim.is_multiple_of(2) && head_dim <= stored_dim,
            "heads of {head_dim} channels stored with {stored_dim}"
        );
        Padding { head_dim, stored_dim }
    }

    /// Channels that are stored.
    pub(super) fn stored_dim(self) -> usize {
        self.stored_dim
    }

    /// Whether there are zeros at all.
    pub(super) fn is_none(self) -> bool {
        self.head_dim == self.stored_dim
    }

    /// How much of what is stored are channels of the head.
    pub(super) fn share(self) -> f32 {
        self.head_dim as f32 / self.stored_dim as f32
    }

    /// Appends one head `[head_dim]` with its zeros.
    fn push(self, head: &[f32], out: &mut Vec<f32>) {
        for half in head.chunks_exact(self.head_dim / 2) {
            out.extend_from_slice(half);
            out.resize(out.len() + (self.stored_dim - self.head_dim) / 2, 0.0);
        }
    }

    /// Numbers `[head_dim]` of the channels of one head, zeros for the others.
    pub(super) fn padded(self, head: &[f32]) -> Vec<f32> {
        let mut out = Vec::with_capacity(self.stored_dim);
        self.push(head, &mut out);
        out
    }

    /// The first `n_heads` heads of each row: `[n_rows, n_heads * stored_dim]`.
    pub(super) fn padded_rows(self, rows: Rows<'_>, n_heads: usize) -> Vec<f32> {
        let mut out = Vec::with_capacity(rows.n_rows() * n_heads * self.stored_dim);
        for row in 0..rows.n_rows() {
            for head in rows.row(row, n_heads * self.head_dim).chunks_exact(self.head_dim) {
                self.push(head, &mut out);
            }
        }
        out
    }

    /// Transforms rows of stored heads `[n, stored_dim]`; doing it twice gives them back.
    pub(super) fn transform_rows(self, cx: &Compute, rows: &mut [f32]) {
        hadamard_rows(cx, rows, self.stored_dim);
        rows.chunks_exact_mut(self.stored_dim).for_each(|head| self.mix(head));
    }

    /// The transformed head of which `transformed`, as heads without zeros are, is the transform.
    pub(super) fn transformed_with_zeros(self, transformed: &[f32]) -> Vec<f32> {
        let mut head = transformed.to_vec();
        hadamard(&mut head);
        let mut head = self.padded(&head);
        hadamard(&mut head);
        self.mix(&mut head);
        head
    }

    /// Reflects the `n` blocks of the Hadamard matrix: from each goes `2/n` of their sum. That is orthogonal, its own
    /// inverse, and commutes with the transform of the blocks.
    fn mix(self, head: &mut [f32]) {
        let block = 1usize << self.stored_dim.trailing_zeros();
        let n_blocks = self.stored_dim / block;
        if self.is_none() || n_blocks == 1 {
            return;
        }
        for channel in 0..block {
            let sum: f32 = head[channel..].iter().step_by(block).sum();
            let part = sum * 2.0 / n_blocks as f32;
            head[channel..].iter_mut().step_by(block).for_each(|x| *x -= part);
        }
    }

    /// Drops the zeros: `stored` is `[n_heads, stored_dim]`, `out` `[n_heads, head_dim]`.
    pub(super) fn drop_from(self, stored: &[f32], out: &mut [f32]) {
        let halves = stored.chunks_exact(self.stored_dim / 2).zip(out.chunks_exact_mut(self.head_dim / 2));
        halves.for_each(|(stored, out)| out.copy_from_slice(&stored[..out.len()]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_stand_behind_each_half_and_go_again() {
        let padding = Padding::new(4, 8);
        let rows: Vec<f32> = (1..=9u8).map(f32::from).collect();
        let padded = padding.padded_rows(Rows::new(&rows, 9, 1), 2);
        assert_eq!(padded, [2., 3., 0., 0., 4., 5., 0., 0., 6., 7., 0., 0., 8., 9., 0., 0.]);
        let mut again = [0.0; 8];
        padding.drop_from(&padded, &mut again);
        assert_eq!(again, rows[1..]);
        assert!(Padding::new(8, 8).is_none() && !padding.is_none());
    }

    /// 80 channels are stored as three blocks of 32.
    #[test]
    fn an_outlier_is_spread_over_all_blocks_and_comes_back() {
        let padding = Padding::new(80, 96);
        let cx = Compute::with_isa(1, lossy_kernels::Isa::Scalar);
        let mut head = [0.0f32; 96];
        head[5] = 9.0;
        padding.transform_rows(&cx, &mut head);
        assert!(head.iter().all(|x| (0.5..1.1).contains(&x.abs())), "{head:?}");
        padding.transform_rows(&cx, &mut head);
        let rest = head.iter().enumerate().map(|(i, x)| if i == 5 { x - 9.0 } else { *x });
        assert!(rest.into_iter().all(|x| x.abs() < 1e-5), "{head:?}");
    }

    #[test]
    fn the_transform_of_a_head_with_zeros_follows_from_that_without() {
        let padding = Padding::new(80, 96);
        let cx = Compute::with_isa(1, lossy_kernels::Isa::Scalar);
        let own: Vec<f32> = (0..80).map(|i| (i as f32 * 0.7).sin()).collect();
        let mut wanted = padding.padded(&own);
        padding.transform_rows(&cx, &mut wanted);
        let mut transformed = own;
        hadamard(&mut transformed);
        let got = padding.transformed_with_zeros(&transformed);
        assert!(got.iter().zip(&wanted).all(|(a, b)| (a - b).abs() < 1e-5));
    }
}
