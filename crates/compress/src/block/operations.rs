//! The operations of a block and their gradients, rows of tokens in and out.
//!
//! `d_x` is the gradient of the loss with respect to `x`; what is added to says so. All are checked against central
//! finite differences in float64.

use lossy_kernels::GateFunction;
use lossy_kernels::dense::{Into, View, ViewMut};

use crate::real::{Real, dot};

/// `y = w · x / √(mean x² + eps)`, each row of `w.len()` values.
pub(crate) fn rms_norm<F: Real>(x: &[F], weight: &[F], eps: F, y: &mut [F]) {
    for (x, y) in x.chunks_exact(weight.len()).zip(y.chunks_exact_mut(weight.len())) {
        let scale = inverse_rms(x, eps);
        for ((y, &x), &w) in y.iter_mut().zip(x).zip(weight) {
            *y = x * scale * w;
        }
    }
}

fn inverse_rms<F: Real>(x: &[F], eps: F) -> F {
    F::ONE / (dot(x, x) / F::of(x.len() as f64) + eps).sqrt()
}

/// Adds to `d_x` and `d_weight`.
pub(crate) fn rms_norm_backward<F: Real>(
    x: &[F],
    weight: &[F],
    eps: F,
    d_y: &[F],
    d_x: &mut [F],
    d_weight: &mut [F],
) {
    let n = weight.len();
    let mut weighted = vec![F::default(); n];
    for ((x, d_y), d_x) in x.chunks_exact(n).zip(d_y.chunks_exact(n)).zip(d_x.chunks_exact_mut(n)) {
        let scale = inverse_rms(x, eps);
        for (i, weighted) in weighted.iter_mut().enumerate() {
            *weighted = d_y[i] * weight[i];
            d_weight[i] += d_y[i] * x[i] * scale;
        }
        let along = dot(&weighted, x) * scale * scale / F::of(n as f64);
        for (i, d_x) in d_x.iter_mut().enumerate() {
            *d_x += scale * (weighted[i] - x[i] * along);
        }
    }
}

/// Cosines and sines `[n_tokens, head_dim / 2]` of positions, and which channels are a pair.
#[derive(Clone, Debug)]
pub struct Rotations<F> {
    pub(super) cos: Vec<F>,
    pub(super) sin: Vec<F>,
    pub(super) head_dim: usize,
    pub(super) is_interleaved: bool,
}

impl<F: Real> Rotations<F> {
    /// From tables `[n_tokens, head_dim / 2]`; pairs are (2i, 2i + 1) if `is_interleaved`, else (i, i + head_dim / 2).
    ///
    /// # Panics
    /// The tables are of different lengths, or no whole rows.
    pub fn new(cos: &[f32], sin: &[f32], head_dim: usize, is_interleaved: bool) -> Rotations<F> {
        assert!(cos.len() == sin.len() && cos.len().is_multiple_of(head_dim / 2));
        let of = |table: &[f32]| table.iter().map(|&x| F::of(f64::from(x))).collect();
        Rotations { cos: of(cos), sin: of(sin), head_dim, is_interleaved }
    }

    /// Turns all heads of rows `[n_tokens, n_heads · head_dim]`.
    pub(super) fn turn(&self, rows: &mut [F], n_heads: usize) {
        self.apply(rows, n_heads, F::ONE);
    }

    /// The gradient's way back: the transposed rotation.
    pub(super) fn turn_back(&self, rows: &mut [F], n_heads: usize) {
        self.apply(rows, n_heads, F::default() - F::ONE);
    }

    fn apply(&self, rows: &mut [F], n_heads: usize, sign: F) {
        let half = self.head_dim / 2;
        let tables = self.cos.chunks_exact(half).zip(self.sin.chunks_exact(half));
        for (row, (cos, sin)) in rows.chunks_exact_mut(n_heads * self.head_dim).zip(tables) {
            for head in row.chunks_exact_mut(self.head_dim) {
                for pair in 0..half {
                    let (a, b) =
                        if self.is_interleaved { (2 * pair, 2 * pair + 1) } else { (pair, pair + half) };
                    let (x, y, c, s) = (head[a], head[b], cos[pair], sign * sin[pair]);
                    head[a] = x * c - y * s;
                    head[b] = x * s + y * c;
                }
            }
        }
    }
}

/// Queries, keys and values of the tokens of one window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attention<'a, F> {
    /// `[n_tokens, n_heads · head_dim]`, rotated
    pub q: &'a [F],
    /// `[n_tokens, n_kv_heads · head_dim]`, rotated
    pub k: &'a [F],
    /// `[n_tokens, n_kv_heads · head_dim]`
    pub v: &'a [F],
    pub n_heads: usize,
    pub n_kv_heads: usize,
    pub head_dim: usize,
}

/// Queries that are computed at once: what lies beyond their last key is left out.
const QUERIES: usize = 128;

/// Some queries of a head and the keys that they see.
struct Piece {
    head: usize,
    first: usize,
    end: usize,
}

impl<'a, F: Real> Attention<'a, F> {
    fn n_tokens(&self) -> usize {
        self.q.len() / (self.n_heads * self.head_dim)
    }

    fn pieces(&self) -> impl Iterator<Item = Piece> + use<F> {
        let n_tokens = self.n_tokens();
        (0..self.n_heads).flat_map(move |head| {
            (0..n_tokens).step_by(QUERIES).map(move |first| Piece {
                head,
                first,
                end: n_tokens.min(first + QUERIES),
            })
        })
    }

    fn of_queries<'b>(&self, rows: &'b [F], piece: &Piece) -> View<'b, F> {
        let stride = self.n_heads * self.head_dim;
        let start = piece.first * stride + piece.head * self.head_dim;
        View::new(&rows[start..], piece.end - piece.first, self.head_dim, stride)
    }

    fn of_queries_mut<'b>(&self, rows: &'b mut [F], piece: &Piece) -> ViewMut<'b, F> {
        let stride = self.n_heads * self.head_dim;
        let start = piece.first * stride + piece.head * self.head_dim;
        ViewMut::new(&mut rows[start..], piece.end - piece.first, self.head_dim, stride)
    }

    fn kv_start(&self, piece: &Piece) -> usize {
        piece.head / (self.n_heads / self.n_kv_heads) * self.head_dim
    }

    fn of_keys<'b>(&self, rows: &'b [F], piece: &Piece) -> View<'b, F> {
        View::new(&rows[self.kv_start(piece)..], piece.end, self.head_dim, self.n_kv_heads * self.head_dim)
    }

    fn of_keys_mut<'b>(&self, rows: &'b mut [F], piece: &Piece) -> ViewMut<'b, F> {
        let (start, stride) = (self.kv_start(piece), self.n_kv_heads * self.head_dim);
        ViewMut::new(&mut rows[start..], piece.end, self.head_dim, stride)
    }

    fn scale(&self) -> F {
        F::of(1.0 / (self.head_dim as f64).sqrt())
    }

    /// What each query weighs each key with, `[queries, end]`.
    fn weights(&self, piece: &Piece, weights: &mut Vec<F>) {
        weights.resize((piece.end - piece.first) * piece.end, F::default());
        let keys = self.of_keys(self.k, piece).transposed();
        F::product(Into::Set, ViewMut::rows(weights, piece.end), self.of_queries(self.q, piece), keys);
        let scale = self.scale();
        for (row, weights) in weights.chunks_exact_mut(piece.end).enumerate() {
            let (seen, unseen) = weights.split_at_mut(piece.first + row + 1);
            unseen.fill(F::default());
            let largest = seen.iter().copied().fold(seen[0], |a, b| if b > a { b } else { a });
            seen.iter_mut().for_each(|weight| *weight = ((*weight - largest) * scale).exp());
            let sum = seen.iter().fold(F::default(), |sum, &weight| sum + weight);
            let inverse = F::ONE / sum;
            seen.iter_mut().for_each(|weight| *weight = *weight * inverse);
        }
    }

    /// What the queries read, `[n_tokens, n_heads · head_dim]`.
    pub(super) fn forward(&self, out: &mut [F]) {
        let mut weights = Vec::new();
        for piece in self.pieces() {
            self.weights(&piece, &mut weights);
            let view = View::rows(&weights, piece.end);
            F::product(Into::Set, self.of_queries_mut(out, &piece), view, self.of_keys(self.v, &piece));
        }
    }

    /// Gradients of queries, keys and values from that of what was read; the weights are computed anew.
    pub(super) fn backward(&self, d_out: &[F]) -> [Vec<F>; 3] {
        let mut d_q = vec![F::default(); self.q.len()];
        let mut d_k = vec![F::default(); self.k.len()];
        let mut d_v = vec![F::default(); self.v.len()];
        let (mut weights, mut d_scores) = (Vec::new(), Vec::new());
        for piece in self.pieces() {
            self.weights(&piece, &mut weights);
            let d_read = self.of_queries(d_out, &piece);
            let view = View::rows(&weights, piece.end);
            F::product(Into::Add, self.of_keys_mut(&mut d_v, &piece), view.transposed(), d_read);
            d_scores.resize(weights.len(), F::default());
            let values = self.of_keys(self.v, &piece).transposed();
            F::product(Into::Set, ViewMut::rows(&mut d_scores, piece.end), d_read, values);
            let scale = self.scale();
            for (weights, d_scores) in
                weights.chunks_exact(piece.end).zip(d_scores.chunks_exact_mut(piece.end))
            {
                let mean = dot(weights, d_scores);
                for (d_score, &weight) in d_scores.iter_mut().zip(weights) {
                    *d_score = weight * (*d_score - mean) * scale;
                }
            }
            let view = View::rows(&d_scores, piece.end);
            F::product(Into::Set, self.of_queries_mut(&mut d_q, &piece), view, self.of_keys(self.k, &piece));
            let queries = self.of_queries(self.q, &piece);
            F::product(Into::Add, self.of_keys_mut(&mut d_k, &piece), view.transposed(), queries);
        }
        [d_q, d_k, d_v]
    }
}

/// The gate's function and its derivative.
#[inline(always)]
fn gate_at<F: Real>(function: GateFunction, x: F) -> (F, F) {
    if function == GateFunction::Silu {
        let sigmoid = F::ONE / (F::ONE + (F::default() - x).exp());
        return (x * sigmoid, sigmoid * (F::ONE + x * (F::ONE - sigmoid)));
    }
    (F::of(function.value(x.wide())), F::of(function.slope(x.wide())))
}

/// `h = f(gate) · up`
pub(super) fn gated<F: Real>(function: GateFunction, gate: &[F], up: &[F], h: &mut [F]) {
    for ((h, &gate), &up) in h.iter_mut().zip(gate).zip(up) {
        *h = gate_at(function, gate).0 * up;
    }
}

/// Gradients of gate and up take the place of the two.
pub(super) fn gated_backward<F: Real>(function: GateFunction, gate: &mut [F], up: &mut [F], d_h: &[F]) {
    for ((gate, up), &d_h) in gate.iter_mut().zip(up).zip(d_h) {
        let (value, slope) = gate_at(function, *gate);
        (*gate, *up) = (d_h * *up * slope, d_h * value);
    }
}

#[cfg(test)]
#[path = "operations_tests.rs"]
mod tests;
