//! A loaded model with the threads, the cache pool and the buffers to run it.

use std::ops::ControlFlow;
use std::sync::Arc;

use lossy_kernels::{ActivationKind, Compute, KvType};

use crate::cache::{KvGeometry, KvPool, KvSequence};
use crate::model::{Forward, ForwardItem, Model};
use crate::{EngineError, ModelInfo, ModelSource};

/// How to load and run.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// threads; `None`: the machine's cores
    pub n_threads: Option<usize>,
    /// int8 or float32 activations
    pub activations: ActivationKind,
    /// element type of the cache; `None`: f16, or f32 with f32 activations
    pub kv_type: Option<KvType>,
    /// context in tokens; `None` or `Some(0)`: the model's
    pub n_ctx: Option<usize>,
    /// most bytes that all caches together may use; `None`: no limit
    pub kv_budget: Option<usize>,
    /// allow a context beyond the trained one, where the model's text is worthless: for measuring speed
    pub beyond_trained: bool,
    /// tokens of a prefill chunk
    pub chunk: usize,
}

impl Default for EngineOptions {
    fn default() -> Self {
        EngineOptions {
            n_threads: None,
            activations: ActivationKind::Q8,
            kv_type: None,
            n_ctx: None,
            kv_budget: None,
            beyond_trained: false,
            chunk: 512,
        }
    }
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
    n_vocab: usize,
    values: Vec<f32>,
}

impl LogitRows {
    /// `[n_vocab]` of a row.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.n_vocab..(row + 1) * self.n_vocab]
    }

    /// How many rows.
    pub fn len(&self) -> usize {
        self.values.len() / self.n_vocab
    }

    /// No rows.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// All rows, `[n_rows, n_vocab]`.
    pub fn into_values(self) -> Vec<f32> {
        self.values
    }
}

/// The tokens of one conversation and their cache.
pub struct Sequence {
    tokens: Vec<u32>,
    cache: KvSequence,
}

impl Sequence {
    /// Tokens in the cache.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Number of tokens in the cache.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// No tokens yet.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Bytes of cache in use, shared pages included.
    pub fn kv_bytes(&self) -> usize {
        self.cache.bytes()
    }

    /// Forgets everything from token `n_tokens` on.
    pub fn truncate(&mut self, n_tokens: usize) {
        self.tokens.truncate(n_tokens);
        self.cache.truncate(self.tokens.len());
    }

    /// A second sequence that shares the cache so far.
    pub fn fork(&self) -> Sequence {
        Sequence { tokens: self.tokens.clone(), cache: self.cache.fork() }
    }
}

/// A loaded model, ready to run.
pub struct Engine {
    cx: Compute,
    model: Model,
    pool: Arc<KvPool>,
    forward: Forward,
    n_ctx: usize,
    chunk: usize,
}

impl Engine {
    /// Loads the weights of `source`.
    ///
    /// # Errors
    /// A tensor is missing, has another shape than the file's configuration says, or a type that cannot be computed;
    /// `n_ctx` is beyond what the model was trained for.
    pub fn load(source: &ModelSource, options: &EngineOptions) -> Result<Engine, EngineError> {
        let info = source.info();
        let n_ctx = match options.n_ctx.unwrap_or(0) {
            0 => info.n_ctx_train,
            n_ctx if n_ctx <= info.n_ctx_train || options.beyond_trained => n_ctx,
            n_ctx => return Err(EngineError::ContextTooLong { n_ctx, n_ctx_train: info.n_ctx_train }),
        };
        let n_cores = std::thread::available_parallelism().map_or(1, |n| n.get());
        let cx = Compute::new(options.n_threads.unwrap_or(n_cores).max(1))?;
        let model = Model::load(&cx, source)?;
        let geometry = KvGeometry {
            n_layers: info.n_layers,
            n_kv_heads: info.n_kv_heads,
            heads_per_kv: info.n_heads / info.n_kv_heads,
            head_dim: info.head_dim,
        };
        let kv_type = options.kv_type.unwrap_or(match options.activations {
            ActivationKind::F32 => KvType::F32,
            ActivationKind::Q8 => KvType::F16,
        });
        Ok(Engine {
            pool: KvPool::new(geometry, kv_type, options.kv_budget),
            forward: Forward::new(options.activations),
            chunk: options.chunk.max(1),
            cx,
            model,
            n_ctx,
        })
    }

    /// What the file says about the model.
    pub fn info(&self) -> &ModelInfo {
        &self.model.info
    }

    /// Context in tokens.
    pub fn n_ctx(&self) -> usize {
        self.n_ctx
    }

    /// Tokens of the vocabulary (columns of the logits).
    pub fn n_vocab(&self) -> usize {
        self.model.info.n_vocab
    }

    /// Threads in use.
    pub fn n_threads(&self) -> usize {
        self.cx.pool.n_threads()
    }

    /// Bytes that one token takes in the cache.
    pub fn kv_bytes_per_token(&self) -> usize {
        self.pool.bytes_per_token()
    }

    /// Bytes that all sequences together take in the cache.
    pub fn kv_bytes_in_use(&self) -> usize {
        self.pool.bytes_in_use()
    }

    /// Bytes of the packed weights.
    pub fn weight_bytes(&self) -> usize {
        self.model.weight_bytes()
    }

    /// An empty sequence.
    pub fn sequence(&self) -> Sequence {
        Sequence { tokens: Vec::new(), cache: self.pool.sequence() }
    }

    /// Runs a batch of several sequences once. A token's logits are bit-identical whatever else is in the batch.
    ///
    /// # Errors
    /// A sequence would outgrow the context, the cache's budget does not hold the new tokens, or a token is not in the
    /// vocabulary. No sequence has changed then.
    pub fn forward(&mut self, batch: &mut [BatchItem<'_>]) -> Result<LogitRows, EngineError> {
        for item in batch.iter() {
            self.check(item.sequence.len() + item.tokens.len(), item.tokens)?;
        }
        let mut items: Vec<ForwardItem<'_>> = batch
            .iter_mut()
            .map(|item| ForwardItem {
                cache: &mut item.sequence.cache,
                tokens: item.tokens,
                logits: item.logits,
            })
            .collect();
        let values = self.forward.run(&self.cx, &self.model, &mut items)?;
        for item in batch {
            item.sequence.tokens.extend_from_slice(item.tokens);
        }
        Ok(LogitRows { n_vocab: self.n_vocab(), values })
    }

    /// Appends `tokens` in chunks; returns the logits `[n_vocab]` after the last. Calls `progress` before the first
    /// chunk and after each, and stops when it breaks.
    ///
    /// # Errors
    /// As [`Engine::forward`]; and [`EngineError::Stopped`], after which the sequence holds the chunks that were done.
    /// A prompt that does not fit is an error before any work; an empty prompt has no logits and is an error.
    pub fn prefill(
        &mut self,
        sequence: &mut Sequence,
        tokens: &[u32],
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Vec<f32>, EngineError> {
        if tokens.is_empty() {
            return Err(EngineError::EmptyPrompt);
        }
        self.check(sequence.len() + tokens.len(), tokens)?;
        let n_total = tokens.len();
        let mut n_done = 0;
        let mut last = Vec::new();
        for chunk in tokens.chunks(self.chunk) {
            if progress(Progress { n_done, n_total }).is_break() {
                return Err(EngineError::Stopped { n_done, n_total });
            }
            n_done += chunk.len();
            let logits = if n_done == n_total { Logits::Last } else { Logits::None };
            last = self.forward(&mut [BatchItem { sequence, tokens: chunk, logits }])?.into_values();
        }
        let _ = progress(Progress { n_done, n_total });
        Ok(last)
    }

    fn check(&self, n_prompt: usize, tokens: &[u32]) -> Result<(), EngineError> {
        if n_prompt > self.n_ctx {
            return Err(EngineError::PromptTooLong { n_prompt, n_ctx: self.n_ctx });
        }
        let n_vocab = self.n_vocab();
        match tokens.iter().find(|&&id| id as usize >= n_vocab) {
            Some(&id) => Err(EngineError::NoSuchToken { id, n_vocab }),
            None => Ok(()),
        }
    }
}
