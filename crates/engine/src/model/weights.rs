//! Weights in the layouts that the kernels want.

use std::sync::atomic::{AtomicUsize, Ordering};

use lossy_formats::TensorView;
use lossy_kernels::{Compute, Matrix};

use super::account::Account;
use super::tensors::{BiasGroup, EMBEDDING, OUTPUT, OUTPUT_NORM, in_layer};
use super::{ModelInfo, ModelSource};
use crate::finite::WeightNotFinite;
use crate::positions::Rope;
use crate::{LoadError, RequestError, Unread};

/// The weights of a model and what they are computed with.
pub(crate) struct Model {
    pub(crate) info: ModelInfo,
    pub(crate) rope: Rope,
    pub(crate) embedding: Embedding,
    pub(crate) layers: Vec<Layer>,
    /// `[n_embd]`
    pub(crate) output_norm: Vec<f32>,
    /// `[n_vocab, n_embd]`
    pub(crate) output: Matrix,
}

/// One block: attention, then MLP, each behind an RMSNorm.
pub(crate) struct Layer {
    /// `[n_embd]`
    pub(crate) attn_norm: Vec<f32>,
    /// `[n_heads · head_dim, n_embd]`, `[n_kv_heads · head_dim, n_embd]` twice
    pub(crate) qkv: [Matrix; 3],
    /// `[(n_heads + 2 n_kv_heads) · head_dim]`
    pub(crate) qkv_bias: Option<Vec<f32>>,
    pub(crate) qk_norm: Option<QkNorm>,
    /// `[n_embd, n_heads · head_dim]`
    pub(crate) attn_output: Matrix,
    /// `[n_embd]`
    pub(crate) attn_output_bias: Option<Vec<f32>>,
    /// `[n_embd]`
    pub(crate) ffn_norm: Vec<f32>,
    /// `[n_ff, n_embd]`
    pub(crate) ffn_gate: Matrix,
    /// `[n_ff, n_embd]`
    pub(crate) ffn_up: Matrix,
    /// `[n_embd, n_ff]`
    pub(crate) ffn_down: Matrix,
    pub(crate) ffn_bias: Option<FfnBias>,
}

/// Biases of the MLP.
pub(crate) struct FfnBias {
    /// `[n_ff]` of the gate, `[n_ff]` of up
    pub(crate) gate_up: Vec<f32>,
    /// `[n_embd]`
    pub(crate) down: Vec<f32>,
}

/// Norms of queries and keys per head, each `[head_dim]`.
pub(crate) struct QkNorm {
    pub(crate) q: Vec<f32>,
    pub(crate) k: Vec<f32>,
}

impl Model {
    /// Reads and repacks every weight. Before that all of the file is accounted for.
    pub(crate) fn load(cx: &Compute, source: &ModelSource, unread: &Unread) -> Result<Model, LoadError> {
        let info = source.info().clone();
        let account = Account::of(source)?;
        account.tell(unread)?;
        let loader = Loader { cx, source, info: &info, account: &account };
        // The largest matrix first, and pages that were read given back after each step: at no time are a whole file and
        // its packed weights both in memory.
        let output_name = if account.has_own_output { OUTPUT } else { EMBEDDING };
        let output = loader.matrix(output_name, info.n_vocab, info.n_embd)?;
        source.release_pages();
        let mut layers = Vec::new();
        for layer in 0..info.n_layers {
            layers.push(loader.layer(layer)?);
            source.release_pages();
        }
        let model = Model {
            rope: Rope::new(&info.rope, info.head_dim),
            embedding: Embedding::new(source, &info)?,
            layers,
            output_norm: loader.vector(OUTPUT_NORM, info.n_embd)?,
            output,
            info: info.clone(),
        };
        source.release_pages();
        Ok(model)
    }

    fn matrices(&self) -> impl Iterator<Item = &Matrix> {
        fn of_layer(layer: &Layer) -> [&Matrix; 7] {
            let Layer { qkv: [q, k, v], attn_output, ffn_gate, ffn_up, ffn_down, .. } = layer;
            [q, k, v, attn_output, ffn_gate, ffn_up, ffn_down]
        }
        self.layers.iter().flat_map(of_layer).chain([&self.output])
    }

    /// Bytes of the packed matrices.
    pub(crate) fn weight_bytes(&self) -> usize {
        self.matrices().map(Matrix::bytes).sum()
    }

    /// Whether a product reads activations as float32, of whatever kind they are.
    pub(crate) fn reads_floats(&self) -> bool {
        self.matrices().any(Matrix::reads_floats)
    }
}

struct Loader<'a> {
    cx: &'a Compute,
    source: &'a ModelSource,
    info: &'a ModelInfo,
    account: &'a Account,
}

impl Loader<'_> {
    fn layer(&self, layer: usize) -> Result<Layer, LoadError> {
        let info = self.info;
        let (n_q, n_kv) = (info.n_heads * info.head_dim, info.n_kv_heads * info.head_dim);
        let name = |part: &str| in_layer(layer, part);
        Ok(Layer {
            attn_norm: self.vector(&name("attn_norm.weight"), info.n_embd)?,
            qkv: [
                self.rotated(&name("attn_q.weight"), info.n_heads)?,
                self.rotated(&name("attn_k.weight"), info.n_kv_heads)?,
                self.matrix(&name("attn_v.weight"), n_kv, info.n_embd)?,
            ],
            qkv_bias: self.has(BiasGroup::Qkv, || self.qkv_bias(layer))?,
            qk_norm: self.qk_norm(layer)?,
            attn_output: self.matrix(&name("attn_output.weight"), info.n_embd, n_q)?,
            attn_output_bias: self
                .has(BiasGroup::Output, || self.vector(&name("attn_output.bias"), info.n_embd))?,
            ffn_norm: self.vector(&name("ffn_norm.weight"), info.n_embd)?,
            ffn_gate: self.matrix(&name("ffn_gate.weight"), info.n_ff, info.n_embd)?,
            ffn_up: self.matrix(&name("ffn_up.weight"), info.n_ff, info.n_embd)?,
            ffn_down: self.matrix(&name("ffn_down.weight"), info.n_embd, info.n_ff)?,
            ffn_bias: self.has(BiasGroup::Mlp, || {
                let of = |part: &str| self.vector(&name(part), info.n_ff);
                let down = self.vector(&name("ffn_down.bias"), info.n_embd)?;
                Ok(FfnBias { gate_up: [of("ffn_gate.bias")?, of("ffn_up.bias")?].concat(), down })
            })?,
        })
    }

    /// The biases of a group, if the model has it.
    fn has<T>(
        &self,
        group: BiasGroup,
        read: impl FnOnce() -> Result<T, LoadError>,
    ) -> Result<Option<T>, LoadError> {
        self.account.biases.contains(&group).then(read).transpose()
    }

    fn qkv_bias(&self, layer: usize) -> Result<Vec<f32>, LoadError> {
        let mut bias = Vec::new();
        for (part, n_heads) in [("attn_q.bias", self.info.n_heads), ("attn_k.bias", self.info.n_kv_heads)] {
            let rows = self.vector(&in_layer(layer, part), n_heads * self.info.head_dim)?;
            bias.extend(RowOrder::of(self.source, self.info).rows(n_heads).map(|row| rows[row]));
        }
        bias.extend(self.vector(&in_layer(layer, "attn_v.bias"), self.info.n_kv_heads * self.info.head_dim)?);
        Ok(bias)
    }

    fn qk_norm(&self, layer: usize) -> Result<Option<QkNorm>, LoadError> {
        if !self.info.family.qk_norm {
            return Ok(None);
        }
        let norm = |part: &str| self.vector(&in_layer(layer, part), self.info.head_dim);
        Ok(Some(QkNorm { q: norm("attn_q_norm.weight")?, k: norm("attn_k_norm.weight")? }))
    }

    fn vector(&self, name: &str, len: usize) -> Result<Vec<f32>, LoadError> {
        let tensor = self.source.tensor_of_shape(name, &[len])?;
        check_finite(self.cx, &tensor)?;
        dequantized(&tensor)
    }

    fn matrix(&self, name: &str, n_rows: usize, n_cols: usize) -> Result<Matrix, LoadError> {
        let tensor = self.source.tensor_of_shape(name, &[n_rows, n_cols])?;
        self.pack(&tensor, tensor.bytes)
    }

    /// A matrix whose rows are rotated: Q or K, brought to the order of half-split pairs (i, i + head_dim/2).
    fn rotated(&self, name: &str, n_heads: usize) -> Result<Matrix, LoadError> {
        let n_rows = n_heads * self.info.head_dim;
        let tensor = self.source.tensor_of_shape(name, &[n_rows, self.info.n_embd])?;
        let order = RowOrder::of(self.source, self.info);
        if !order.interleaved {
            return self.pack(&tensor, tensor.bytes);
        }
        let row_bytes = tensor.bytes.len() / n_rows;
        let mut bytes = Vec::with_capacity(tensor.bytes.len());
        for row in order.rows(n_heads) {
            bytes.extend_from_slice(&tensor.bytes[row * row_bytes..(row + 1) * row_bytes]);
        }
        self.pack(&tensor, &bytes)
    }

    fn pack(&self, tensor: &TensorView<'_>, bytes: &[u8]) -> Result<Matrix, LoadError> {
        check_finite(self.cx, tensor)?;
        Matrix::pack(self.cx, tensor.dtype, tensor.shape[0], tensor.shape[1], bytes)
            .map_err(|problem| LoadError::Pack { name: tensor.name.to_string(), problem })
    }
}

/// In which order a file has the rows of Q and K inside a head.
struct RowOrder {
    head_dim: usize,
    /// rotary pairs are neighbours (2i, 2i + 1) in the file
    interleaved: bool,
}

impl RowOrder {
    fn of(source: &ModelSource, info: &ModelInfo) -> RowOrder {
        let interleaved = source.gguf().is_some() && info.family.interleaved_in_gguf;
        RowOrder { head_dim: info.head_dim, interleaved }
    }

    /// The file's rows in the order of half-split pairs.
    fn rows(&self, n_heads: usize) -> impl Iterator<Item = usize> + '_ {
        let half = self.head_dim / 2;
        (0..n_heads * self.head_dim).map(move |row| {
            let (head, channel) = (row / self.head_dim, row % self.head_dim);
            let in_head = if self.interleaved { 2 * (channel % half) + channel / half } else { channel };
            head * self.head_dim + in_head
        })
    }
}

/// The embedding stays in the file: a batch needs only its tokens' rows.
pub(crate) struct Embedding {
    source: ModelSource,
    n_vocab: usize,
    n_embd: usize,
}

impl Embedding {
    fn new(source: &ModelSource, info: &ModelInfo) -> Result<Embedding, LoadError> {
        let tensor = source.tensor_of_shape(EMBEDDING, &[info.n_vocab, info.n_embd])?;
        if !tensor.dtype.is_computable() {
            return Err(LoadError::Dequantize {
                name: tensor.name.to_string(),
                message: format!("type {} cannot be computed", tensor.dtype.name()),
            });
        }
        Ok(Embedding { source: source.clone(), n_vocab: info.n_vocab, n_embd: info.n_embd })
    }

    /// Writes the rows of `tokens` into `out` `[n_tokens, n_embd]`.
    pub(crate) fn rows(&self, tokens: &[u32], out: &mut [f32]) -> Result<(), RequestError> {
        let tensor =
            self.source.tensor(EMBEDDING).expect("the embedding was checked when the model was loaded");
        let row_bytes = tensor.bytes.len() / self.n_vocab;
        for (&id, row) in tokens.iter().zip(out.chunks_exact_mut(self.n_embd)) {
            let start = id as usize * row_bytes;
            let bytes = tensor
                .bytes
                .get(start..start + row_bytes)
                .ok_or(RequestError::NoSuchToken { id, n_vocab: self.n_vocab })?;
            if let Some(block) = lossy_quant::first_not_finite(tensor.dtype, bytes) {
                let first = id as usize * (row_bytes / tensor.dtype.block_bytes());
                return Err(not_finite(&tensor, first + block).into());
            }
            lossy_quant::dequantize(tensor.dtype, bytes, row).expect("rows of a type that was checked");
        }
        if tokens.len() >= RELEASE_TOKENS {
            self.source.release_pages();
        }
        Ok(())
    }
}

/// From so many tokens on, the pages of the file that their rows lie in are given back. The system maps 64 KiB around each
/// row, so a long prompt would leave most of the table in memory; rows of the next chunk are mapped again in microseconds.
const RELEASE_TOKENS: usize = 64;

/// Looks for weights that are no numbers, on all threads. Kernels do not all pass them on: a maximum may lose NaN, and then
/// what comes out are numbers, but not the model's.
fn check_finite(cx: &Compute, tensor: &TensorView<'_>) -> Result<(), WeightNotFinite> {
    const BLOCKS_OF_TASK: usize = 1 << 16;
    let pieces: Vec<&[u8]> = tensor.bytes.chunks(BLOCKS_OF_TASK * tensor.dtype.block_bytes()).collect();
    let first = AtomicUsize::new(usize::MAX);
    cx.pool.run(pieces.len(), |task| {
        if let Some(block) = lossy_quant::first_not_finite(tensor.dtype, pieces[task]) {
            first.fetch_min(task * BLOCKS_OF_TASK + block, Ordering::Relaxed);
        }
    });
    match first.into_inner() {
        usize::MAX => Ok(()),
        block => Err(not_finite(tensor, block)),
    }
}

/// The error for a block with a value that is no number.
fn not_finite(tensor: &TensorView<'_>, block: usize) -> WeightNotFinite {
    let (block_len, block_bytes) = (tensor.dtype.block_len(), tensor.dtype.block_bytes());
    let mut values = vec![0.0; block_len];
    let bytes = &tensor.bytes[block * block_bytes..][..block_bytes];
    lossy_quant::dequantize(tensor.dtype, bytes, &mut values).expect("a block of a type that was looked at");
    let in_block = values.iter().position(|value| !value.is_finite()).unwrap_or(0);
    let at = block * block_len + in_block;
    let place = match tensor.shape {
        [_, n_cols] => format!("row {}, column {}", at / n_cols, at % n_cols),
        _ => format!("index {at}"),
    };
    WeightNotFinite { name: tensor.name.to_string(), value: values[in_block], place }
}

fn dequantized(tensor: &TensorView<'_>) -> Result<Vec<f32>, LoadError> {
    let mut values = vec![0.0; tensor.shape.iter().product()];
    dequantize(tensor, tensor.bytes, &mut values)?;
    Ok(values)
}

fn dequantize(tensor: &TensorView<'_>, bytes: &[u8], out: &mut [f32]) -> Result<(), LoadError> {
    lossy_quant::dequantize(tensor.dtype, bytes, out)
        .map_err(|error| LoadError::Dequantize { name: tensor.name.to_string(), message: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interleaved_rows_come_out_as_half_split_pairs() {
        let order = RowOrder { head_dim: 6, interleaved: true };
        assert_eq!(order.rows(2).collect::<Vec<_>>(), [0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11]);
        let order = RowOrder { head_dim: 4, interleaved: false };
        assert_eq!(order.rows(1).collect::<Vec<_>>(), [0, 1, 2, 3]);
    }
}
