//! A block's way forward and back.

use lossy_kernels::dense::{Into, View, ViewMut};

use super::operations::{Attention, Rotations, gated, gated_backward, rms_norm, rms_norm_backward};
use super::{Block, Linear, Norm, Projection};
use crate::real::Real;

/// What a block computed for the tokens of one window, rows of tokens all.
#[derive(Clone, Debug)]
pub struct Tape<F> {
    /// what Q, K and V multiply, `[n_tokens, n_embd]`
    attn_normed: Vec<F>,
    /// queries and keys before their norms, where the family has them
    unnormed: Option<[Vec<F>; 2]>,
    q: Vec<F>,
    k: Vec<F>,
    v: Vec<F>,
    /// what attention read, `[n_tokens, n_heads · head_dim]`
    read: Vec<F>,
    /// the residual stream between attention and MLP
    middle: Vec<F>,
    /// what gate and up multiply
    ffn_normed: Vec<F>,
    gate: Vec<F>,
    up: Vec<F>,
    /// `[n_tokens, n_ff]`
    h: Vec<F>,
}

impl<F> Tape<F> {
    /// The input of a matrix, `[n_tokens, columns]`.
    pub fn input(&self, projection: Projection) -> &[F] {
        match projection {
            Projection::Query | Projection::Key | Projection::Value => &self.attn_normed,
            Projection::AttentionOutput => &self.read,
            Projection::Gate | Projection::Up => &self.ffn_normed,
            Projection::Down => &self.h,
        }
    }
}

/// A gradient that the way back comes by.
#[derive(Debug)]
pub enum Gradient<'a, F> {
    /// with respect to a matrix's output (bias included), `[n_tokens, rows]`, and what the matrix multiplied
    Output {
        /// which
        projection: Projection,
        /// `[n_tokens, columns]`
        input: &'a [F],
        /// `[n_tokens, rows]`
        gradient: &'a [F],
    },
    /// with respect to a norm's weight
    Norm {
        /// which
        norm: Norm,
        /// as long as the weight
        gradient: &'a [F],
    },
}

impl<F: Real> Linear<F> {
    fn n_out(&self) -> usize {
        self.weight.len() / self.n_in
    }

    /// `W x + bias`, or that added to `y`.
    fn forward(&self, into: Into, x: &[F], y: &mut [F]) {
        let weight = View::rows(&self.weight, self.n_in).transposed();
        F::product(into, ViewMut::rows(y, self.n_out()), View::rows(x, self.n_in), weight);
        if let Some(bias) = &self.bias {
            for row in y.chunks_exact_mut(bias.len()) {
                row.iter_mut().zip(bias).for_each(|(y, &bias)| *y += bias);
            }
        }
    }

    fn output(&self, x: &[F]) -> Vec<F> {
        let mut y = vec![F::default(); x.len() / self.n_in * self.n_out()];
        self.forward(Into::Set, x, &mut y);
        y
    }

    /// Adds `Wᵀ d_y` to `d_x`.
    fn backward(&self, d_y: &[F], d_x: &mut [F]) {
        let weight = View::rows(&self.weight, self.n_in);
        F::product(Into::Add, ViewMut::rows(d_x, self.n_in), View::rows(d_y, self.n_out()), weight);
    }
}

impl<F: Real> Block<F> {
    /// From the residual stream before the block, `[n_tokens, n_embd]`, to the one behind it.
    pub fn forward(&self, rotations: &Rotations<F>, x: &mut [F]) -> Tape<F> {
        let attn_normed = self.normed(x, &self.attn_norm);
        let output = |projection: Projection, input: &[F]| self.linear(projection).output(input);
        let mut q = output(Projection::Query, &attn_normed);
        let mut k = output(Projection::Key, &attn_normed);
        let v = output(Projection::Value, &attn_normed);
        let unnormed = self.qk_norm.as_ref().map(|[q_norm, k_norm]| {
            let normed = [self.normed(&q, q_norm), self.normed(&k, k_norm)];
            let [new_q, new_k] = normed;
            [std::mem::replace(&mut q, new_q), std::mem::replace(&mut k, new_k)]
        });
        rotations.turn(&mut q, self.n_heads);
        rotations.turn(&mut k, self.n_kv_heads);
        let mut read = vec![F::default(); q.len()];
        self.attention(&q, &k, &v).forward(&mut read);
        self.linear(Projection::AttentionOutput).forward(Into::Add, &read, x);
        let middle = x.to_vec();
        let ffn_normed = self.normed(x, &self.ffn_norm);
        let gate = output(Projection::Gate, &ffn_normed);
        let up = output(Projection::Up, &ffn_normed);
        let mut h = vec![F::default(); gate.len()];
        gated(self.gate, &gate, &up, &mut h);
        self.linear(Projection::Down).forward(Into::Add, &h, x);
        Tape { attn_normed, unnormed, q, k, v, read, middle, ffn_normed, gate, up, h }
    }

    /// From the gradient of the residual stream behind the block, `d_x` `[n_tokens, n_embd]`, to the one before it. `x` is
    /// what went in, `tape` what [`forward`](Block::forward) made of it; `see` is shown every gradient on the way.
    pub fn backward(
        &self,
        rotations: &Rotations<F>,
        x: &[F],
        tape: Tape<F>,
        d_x: &mut [F],
        see: &mut dyn FnMut(Gradient<'_, F>),
    ) {
        let Tape { attn_normed, unnormed, q, k, v, read, middle, ffn_normed, mut gate, mut up, h } = tape;
        let mut d_h = vec![F::default(); h.len()];
        self.linear_backward(Projection::Down, &h, d_x, &mut d_h, see);
        gated_backward(self.gate, &mut gate, &mut up, &d_h);
        let mut d_normed = vec![F::default(); ffn_normed.len()];
        self.linear_backward(Projection::Gate, &ffn_normed, &gate, &mut d_normed, see);
        self.linear_backward(Projection::Up, &ffn_normed, &up, &mut d_normed, see);
        self.norm_backward(Norm::Mlp, &middle, &self.ffn_norm, &d_normed, d_x, see);

        let mut d_read = vec![F::default(); read.len()];
        self.linear_backward(Projection::AttentionOutput, &read, d_x, &mut d_read, see);
        let [mut d_q, mut d_k, d_v] = self.attention(&q, &k, &v).backward(&d_read);
        rotations.turn_back(&mut d_q, self.n_heads);
        rotations.turn_back(&mut d_k, self.n_kv_heads);
        if let (Some([q_norm, k_norm]), Some([q, k])) = (&self.qk_norm, &unnormed) {
            d_q = self.head_norm_backward(Norm::Query, q, q_norm, &d_q, see);
            d_k = self.head_norm_backward(Norm::Key, k, k_norm, &d_k, see);
        }
        let mut d_normed = vec![F::default(); attn_normed.len()];
        for (projection, d_y) in
            [(Projection::Query, &d_q), (Projection::Key, &d_k), (Projection::Value, &d_v)]
        {
            self.linear_backward(projection, &attn_normed, d_y, &mut d_normed, see);
        }
        self.norm_backward(Norm::Attention, x, &self.attn_norm, &d_normed, d_x, see);
    }

    fn normed(&self, x: &[F], weight: &[F]) -> Vec<F> {
        let mut y = vec![F::default(); x.len()];
        rms_norm(x, weight, self.eps, &mut y);
        y
    }

    fn attention<'a>(&self, q: &'a [F], k: &'a [F], v: &'a [F]) -> Attention<'a, F> {
        let Block { n_heads, n_kv_heads, head_dim, .. } = *self;
        Attention { q, k, v, n_heads, n_kv_heads, head_dim }
    }

    fn linear_backward(
        &self,
        projection: Projection,
        input: &[F],
        d_y: &[F],
        d_input: &mut [F],
        see: &mut dyn FnMut(Gradient<'_, F>),
    ) {
        see(Gradient::Output { projection, input, gradient: d_y });
        self.linear(projection).backward(d_y, d_input);
    }

    fn norm_backward(
        &self,
        norm: Norm,
        x: &[F],
        weight: &[F],
        d_y: &[F],
        d_x: &mut [F],
        see: &mut dyn FnMut(Gradient<'_, F>),
    ) {
        let mut d_weight = vec![F::default(); weight.len()];
        rms_norm_backward(x, weight, self.eps, d_y, d_x, &mut d_weight);
        see(Gradient::Norm { norm, gradient: &d_weight });
    }

    fn head_norm_backward(
        &self,
        norm: Norm,
        x: &[F],
        weight: &[F],
        d_y: &[F],
        see: &mut dyn FnMut(Gradient<'_, F>),
    ) -> Vec<F> {
        let mut d_x = vec![F::default(); x.len()];
        self.norm_backward(norm, x, weight, d_y, &mut d_x, see);
        d_x
    }
}
