//! Placeholder of the model, its engine and its sequences.

use std::ops::ControlFlow;

use crate::{EngineError, ModelSource};

/// Shapes of a model, as its file states them.
#[derive(Clone, Debug)]
pub struct ModelInfo {
    /// "llama", "qwen2", …
    pub architecture: String,
    /// the file's name for the model, if any
    pub name: Option<String>,
    /// layers
    pub n_layers: usize,
    /// query heads
    pub n_heads: usize,
    /// key/value heads
    pub n_kv_heads: usize,
    /// channels of a head
    pub head_dim: usize,
    /// width of the residual stream
    pub n_embd: usize,
    /// width of the MLP
    pub n_ff: usize,
    /// tokens
    pub n_vocab: usize,
    /// trained context, tokens
    pub n_ctx_train: usize,
    /// parameters
    pub n_params: u64,
    /// bytes of all tensors in the file
    pub tensor_bytes: u64,
    /// "Q4_1" or so: the type that most weights have
    pub weight_type: String,
}

/// How to load and run.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// threads; `None`: the machine's cores
    pub n_threads: Option<usize>,
    /// int8 or float32 activations
    pub activations: lossy_kernels::ActivationKind,
    /// element type of the cache; `None`: f16, or f32 with f32 activations
    pub kv_type: Option<lossy_kernels::KvType>,
    /// context in tokens; `None` or `Some(0)`: the model's
    pub n_ctx: Option<usize>,
    /// most bytes that all caches together may use
    pub kv_budget: Option<usize>,
    /// tokens of a prefill chunk
    pub chunk: usize,
}

/// Progress of a prefill.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// tokens processed
    pub n_done: usize,
    /// tokens of the prompt
    pub n_total: usize,
}

/// Which logits of an item are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logits {
    /// none (a chunk in the middle of a prompt)
    None,
    /// after the last token
    Last,
    /// after every token
    All,
}

/// One sequence's share of a batch.
pub struct BatchItem<'a> {
    /// the sequence that the tokens continue
    pub sequence: &'a mut Sequence,
    /// the new tokens
    pub tokens: &'a [u32],
    /// which logits to compute
    pub logits: Logits,
}

/// Rows of logits, in the order of the batch.
pub struct LogitRows {
    _private: (),
}

impl LogitRows {
    /// `[n_vocab]` of a row.
    pub fn row(&self, _row: usize) -> &[f32] {
        todo!()
    }
    /// How many rows.
    pub fn len(&self) -> usize {
        todo!()
    }
    /// No rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The tokens of one conversation and their cache.
pub struct Sequence {
    _private: (),
}

impl Sequence {
    /// Tokens in the cache.
    pub fn tokens(&self) -> &[u32] {
        todo!()
    }
    /// Bytes of cache in use.
    pub fn kv_bytes(&self) -> usize {
        todo!()
    }
    /// Forgets everything from token `n_tokens` on.
    pub fn truncate(&mut self, _n_tokens: usize) {
        todo!()
    }
    /// A second sequence that shares the cache so far.
    pub fn fork(&self) -> Sequence {
        todo!()
    }
}

/// A loaded model, ready to run.
pub struct Engine {
    _private: (),
}

impl Engine {
    /// Loads the weights.
    pub fn load(_source: &ModelSource, _options: &EngineOptions) -> Result<Engine, EngineError> {
        todo!()
    }
    /// Context in tokens.
    pub fn n_ctx(&self) -> usize {
        todo!()
    }
    /// Tokens of the vocabulary (columns of the logits).
    pub fn n_vocab(&self) -> usize {
        todo!()
    }
    /// Threads in use.
    pub fn n_threads(&self) -> usize {
        todo!()
    }
    /// Bytes that one token takes in the cache.
    pub fn kv_bytes_per_token(&self) -> usize {
        todo!()
    }
    /// Bytes of the packed weights.
    pub fn weight_bytes(&self) -> usize {
        todo!()
    }
    /// An empty sequence.
    pub fn sequence(&self) -> Sequence {
        todo!()
    }
    /// Runs a batch of several sequences once.
    pub fn forward(&mut self, _batch: &mut [BatchItem<'_>]) -> Result<LogitRows, EngineError> {
        todo!()
    }
    /// Appends `tokens` in chunks; returns the logits `[n_vocab]` after the last. Stops when `progress` breaks.
    pub fn prefill(
        &mut self,
        _sequence: &mut Sequence,
        _tokens: &[u32],
        _progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Vec<f32>, EngineError> {
        todo!()
    }
}
