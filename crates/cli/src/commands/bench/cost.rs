//! What a workload must cost at least: the bytes that must be read and the operations that must be done.
//!
//! For each token at position `p` (from 0):
//!
//! ```text
//! matrix operations     2 · parameters of the layers, + 2 · n_vocab · n_embd where logits are wanted
//! attention operations  4 · n_layers · n_heads · head_dim · (p + 1)
//! ```
//!
//! and for each forward pass (one token of a generation, one chunk of a prompt)
//!
//! ```text
//! bytes                 packed weights of the layers and the head, + KV bytes per token · tokens in the cache
//! ```
//!
//! The share of the bandwidth is bytes / bandwidth / time; that of arithmetic is the time that a machine at its peak
//! would need for the operations (matrices in int8 or float32, attention in float32), divided by the time. Norms,
//! rotations, the softmax and activations are not counted: a share of 100 % cannot be reached.

use lossy_engine::ModelInfo;

use super::workload::Workload;

/// What a model costs, apart from the workload.
#[derive(Clone, Copy, Debug)]
pub struct ModelCost {
    /// weights that every forward pass reads
    pub weight_bytes: f64,
    /// of the cache
    pub kv_bytes_per_token: f64,
    /// weights that multiply every token
    pub layer_params: f64,
    /// weights that multiply a token whose logits are wanted
    pub head_params: f64,
    /// attention operations of a token for each token that it sees
    pub attention_ops: f64,
    /// tokens of a prefill chunk
    pub chunk: usize,
}

/// The least that a workload needs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// to be read from memory
    pub bytes: f64,
    /// multiplications and additions with weights
    pub matrix_ops: f64,
    /// multiplications and additions with the cache
    pub attention_ops: f64,
}

impl ModelCost {
    /// `weight_bytes`: packed; `is_tied`: the head is the embedding, so that it is read whole.
    pub fn new(
        info: &ModelInfo,
        is_tied: bool,
        weight_bytes: usize,
        kv_bytes_per_token: usize,
        chunk: usize,
    ) -> Self {
        let head_params = (info.n_vocab * info.n_embd) as f64;
        let n_params = info.n_params as f64;
        let n_tables = if is_tied { 1.0 } else { 2.0 };
        // A table of embeddings that is not the head is looked up, not read.
        let unread = if is_tied { 0.0 } else { weight_bytes as f64 * head_params / n_params };
        ModelCost {
            weight_bytes: weight_bytes as f64 - unread,
            kv_bytes_per_token: kv_bytes_per_token as f64,
            layer_params: n_params - n_tables * head_params,
            head_params,
            attention_ops: 4.0 * (info.n_layers * info.n_heads * info.head_dim) as f64,
            chunk,
        }
    }

    /// Of a whole workload.
    pub fn of(&self, workload: &Workload) -> Cost {
        let mut cost = Cost::default();
        let mut at = workload.n_depth;
        let end_of_prompt = at + workload.n_prompt;
        while at < end_of_prompt {
            let n_tokens = self.chunk.min(end_of_prompt - at);
            let is_last = at + n_tokens == end_of_prompt;
            self.add_pass(&mut cost, at, n_tokens, usize::from(is_last));
            at += n_tokens;
        }
        for _ in 0..workload.n_gen {
            self.add_pass(&mut cost, at, 1, 1);
            at += 1;
        }
        cost
    }

    /// A forward pass of `n_tokens` after `n_before` in the cache.
    fn add_pass(&self, cost: &mut Cost, n_before: usize, n_tokens: usize, n_logits: usize) {
        let (before, tokens) = (n_before as f64, n_tokens as f64);
        cost.bytes += self.weight_bytes + self.kv_bytes_per_token * (before + tokens);
        cost.matrix_ops += 2.0 * (self.layer_params * tokens + self.head_params * n_logits as f64);
        cost.attention_ops += self.attention_ops * (before * tokens + tokens * (tokens + 1.0) / 2.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODEL: ModelCost = ModelCost {
        weight_bytes: 1000.0,
        kv_bytes_per_token: 10.0,
        layer_params: 100.0,
        head_params: 7.0,
        attention_ops: 1.0,
        chunk: 4,
    };

    #[test]
    fn a_generation_reads_the_weights_for_each_token() {
        let cost = MODEL.of(&Workload { n_prompt: 0, n_gen: 2, n_depth: 5 });
        assert_eq!(cost, Cost { bytes: 2000.0 + 10.0 * 13.0, matrix_ops: 2.0 * 214.0, attention_ops: 13.0 });
    }

    #[test]
    fn a_prompt_reads_them_for_each_chunk_and_computes_one_row_of_logits() {
        let cost = MODEL.of(&Workload { n_prompt: 6, n_gen: 0, n_depth: 0 });
        assert_eq!(cost, Cost { bytes: 2000.0 + 10.0 * 10.0, matrix_ops: 2.0 * 607.0, attention_ops: 21.0 });
    }
}
