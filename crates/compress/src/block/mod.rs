//! The Llama block for the tokens of one window, and its gradients.
//!
//! ```text
//! a = rmsnorm(x)                 q, k, v = W a + bias, q and k normed per head where the family does, and rotated
//! m = x + Wo · attention + bias
//! f = rmsnorm(m)                 h = gate(Wg f + bias) · (Wu f + bias)
//! y = m + Wd h + bias
//! ```
//!
//! A window begins with an empty cache, so attention is causal within it. What [`Block::forward`] computed on the way is a
//! [`Tape`]; attention weights are not on it, and are computed anew on the way back. Everything is generic over
//! [`Real`]: gradients are checked in float64, and computed in float32.

mod operations;
mod pass;

use crate::real::Real;
use crate::weights::{WeightError, WeightSource};
pub use operations::Rotations;
pub(crate) use operations::{rms_norm, rms_norm_backward};
pub use pass::{Gradient, Tape};

use lossy_engine::{GateFunction, ModelInfo};

/// A matrix of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Projection {
    /// of queries
    Query,
    /// of keys
    Key,
    /// of values
    Value,
    /// of what attention read
    AttentionOutput,
    /// of the MLP's gate
    Gate,
    /// of what the gate is multiplied with
    Up,
    /// from the MLP back to the residual stream
    Down,
}

impl Projection {
    /// All, in the order of GGUF.
    pub const ALL: [Projection; 7] = [
        Projection::Query,
        Projection::Key,
        Projection::Value,
        Projection::AttentionOutput,
        Projection::Gate,
        Projection::Up,
        Projection::Down,
    ];

    /// GGUF's name, without layer and `.weight`.
    pub fn name(self) -> &'static str {
        match self {
            Projection::Query => "attn_q",
            Projection::Key => "attn_k",
            Projection::Value => "attn_v",
            Projection::AttentionOutput => "attn_output",
            Projection::Gate => "ffn_gate",
            Projection::Up => "ffn_up",
            Projection::Down => "ffn_down",
        }
    }

    /// GGUF's name of the weight in a layer.
    pub fn weight(self, layer: usize) -> String {
        format!("blk.{layer}.{}.weight", self.name())
    }

    /// GGUF's name of the bias in a layer.
    pub fn bias(self, layer: usize) -> String {
        format!("blk.{layer}.{}.bias", self.name())
    }

    /// Rows and columns.
    pub fn shape(self, info: &ModelInfo) -> [usize; 2] {
        let (queries, keys) = (info.n_heads * info.head_dim, info.n_kv_heads * info.head_dim);
        match self {
            Projection::Query => [queries, info.n_embd],
            Projection::Key | Projection::Value => [keys, info.n_embd],
            Projection::AttentionOutput => [info.n_embd, queries],
            Projection::Gate | Projection::Up => [info.n_ff, info.n_embd],
            Projection::Down => [info.n_embd, info.n_ff],
        }
    }
}

/// A norm of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Norm {
    /// before attention
    Attention,
    /// of each query head
    Query,
    /// of each key head
    Key,
    /// before the MLP
    Mlp,
}

impl Norm {
    /// GGUF's name in a layer.
    pub fn weight(self, layer: usize) -> String {
        let name = match self {
            Norm::Attention => "attn_norm",
            Norm::Query => "attn_q_norm",
            Norm::Key => "attn_k_norm",
            Norm::Mlp => "ffn_norm",
        };
        format!("blk.{layer}.{name}.weight")
    }
}

/// A matrix `[n_out, n_in]` and its bias.
#[derive(Clone, Debug)]
pub struct Linear<F> {
    weight: Vec<F>,
    bias: Option<Vec<F>>,
    n_in: usize,
}

/// One layer's weights.
#[derive(Clone, Debug)]
pub struct Block<F> {
    attn_norm: Vec<F>,
    /// in the order of [`Projection::ALL`]
    linears: Vec<Linear<F>>,
    qk_norm: Option<[Vec<F>; 2]>,
    ffn_norm: Vec<F>,
    n_heads: usize,
    n_kv_heads: usize,
    head_dim: usize,
    eps: F,
    gate: GateFunction,
}

impl<F: Real> Block<F> {
    /// Reads the weights of a layer.
    ///
    /// # Errors
    /// One is missing, of another shape, or no number.
    pub fn load(source: &dyn WeightSource, layer: usize) -> Result<Block<F>, WeightError> {
        let info = source.info();
        let norm = |norm: Norm, len: usize| read(source, &norm.weight(layer), &[len]);
        let linear = |projection: Projection| {
            let [n_out, n_in] = projection.shape(info);
            let bias = projection.bias(layer);
            Ok(Linear {
                weight: read(source, &projection.weight(layer), &[n_out, n_in])?,
                bias: source.shape(&bias).map(|_| read(source, &bias, &[n_out])).transpose()?,
                n_in,
            })
        };
        let qk_norm = || -> Result<[Vec<F>; 2], WeightError> {
            Ok([norm(Norm::Query, info.head_dim)?, norm(Norm::Key, info.head_dim)?])
        };
        let block = Block {
            attn_norm: norm(Norm::Attention, info.n_embd)?,
            linears: Projection::ALL.into_iter().map(linear).collect::<Result<_, WeightError>>()?,
            qk_norm: info.family.qk_norm.then(qk_norm).transpose()?,
            ffn_norm: norm(Norm::Mlp, info.n_embd)?,
            n_heads: info.n_heads,
            n_kv_heads: info.n_kv_heads,
            head_dim: info.head_dim,
            eps: F::of(f64::from(info.rms_eps)),
            gate: info.gate,
        };
        source.release();
        Ok(block)
    }

    fn linear(&self, projection: Projection) -> &Linear<F> {
        &self.linears[projection as usize]
    }

    /// The matrix of a projection, row by row.
    pub fn weight(&self, projection: Projection) -> &[F] {
        &self.linear(projection).weight
    }
}

/// A tensor of this shape.
pub(crate) fn read<F: Real>(
    source: &dyn WeightSource,
    name: &str,
    wanted: &[usize],
) -> Result<Vec<F>, WeightError> {
    let found = source.shape(name).ok_or_else(|| WeightError::NoSuchTensor { name: name.to_owned() })?;
    if found != wanted {
        return Err(WeightError::Shape { name: name.to_owned(), found, wanted: wanted.to_vec() });
    }
    Ok(source.values(name)?.into_iter().map(|value| F::of(f64::from(value))).collect())
}
