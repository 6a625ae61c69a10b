//! A loaded model with the threads, the cache pool and the buffers to run it.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::sync::Arc;

use lossy_kernels::attention::HeadShape;
use lossy_kernels::{ActivationKind, Compute, KvType};
use sha2::{Digest, Sha256};

use crate::cache::{
    CacheLayout, Calibration, Calibrator, Context, KvGeometry, KvPool, KvScheme, KvSequence, Rows, SavedError,
};
use crate::forward::{Forward, ForwardItem};
use crate::model::Model;
use crate::positions::{PositionScheme, Positions};
use crate::{EngineError, ModelInfo, ModelSource};

mod copies;
mod extent;

use extent::Extent;

/// How to load and run.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// threads; `None`: the machine's cores
    pub n_threads: Option<usize>,
    /// int8 or float32 activations
    pub activations: ActivationKind,
    /// how keys and values are stored; `None`: as f16, or f32 with f32 activations
    pub kv: Option<KvScheme>,
    /// a prompt's keys and values stay exact, whatever the scheme, until the prompt has been read
    pub exact_prefill: bool,
    /// statistics that some KV schemes need; see [`Engine::calibrate`]
    pub calibration: Option<Arc<Calibration>>,
    /// what they are made of where there are none yet; `None`: [`CALIBRATION_TEXT`](crate::CALIBRATION_TEXT)
    pub calibration_text: Option<Arc<str>>,
    /// context in tokens; `None` or `Some(0)`: the model's
    pub n_ctx: Option<usize>,
    /// how positions are told to the model; beyond its trained context this decides what it makes of the text
    pub positions: PositionScheme,
    /// Position of the first token of every text, for measuring: the model's own positions are needed then.
    pub start_position: usize,
    /// most bytes that all caches together may use; `None`: no limit
    pub kv_budget: Option<usize>,
    /// allow positions beyond those that they are good for, where the model's text is worthless: for measuring
    pub beyond_trained: bool,
    /// tokens of a prefill chunk
    pub chunk: usize,
}

impl Default for EngineOptions {
    fn default() -> Self {
        EngineOptions {
            n_threads: None,
            activations: ActivationKind::Q8,
            kv: None,
            exact_prefill: false,
            calibration: None,
            calibration_text: None,
            n_ctx: None,
            positions: PositionScheme::auto(),
            start_position: 0,
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
    scheme: KvScheme,
    calibration: Option<Arc<Calibration>>,
    calibration_text: Option<Arc<str>>,
    forward: Forward,
    extent: Extent,
    chunk: usize,
    exact_prefill: bool,
    /// the model's file, by which saved caches are told apart
    source: ModelSource,
}

impl Engine {
    /// Loads the weights of `source`.
    ///
    /// # Errors
    /// A tensor is missing, has another shape than the file's configuration says, or a type that cannot be computed;
    /// `n_ctx` is beyond what the positions are good for.
    pub fn load(source: &ModelSource, options: &EngineOptions) -> Result<Engine, EngineError> {
        let info = source.info();
        let extent = Extent::new(options, info);
        let positions = extent.resolve(&options.positions, info)?;
        let geometry = KvGeometry {
            n_layers: info.n_layers,
            n_kv_heads: info.n_kv_heads,
            heads_per_kv: info.n_heads / info.n_kv_heads,
            head_dim: info.head_dim,
        };
        if !geometry.heads().is_supported() {
            return Err(EngineError::Config(format!(
                "attention heads of {} channels cannot be computed: they must be a multiple of 8, at most {}",
                info.head_dim,
                HeadShape::MAX_HEAD_DIM
            )));
        }
        let n_cores = std::thread::available_parallelism().map_or(1, |n| n.get());
        let cx = Compute::new(options.n_threads.unwrap_or(n_cores).max(1))?;
        let model = Model::load(&cx, source)?;
        let exact = match options.activations {
            ActivationKind::F32 => KvType::F32,
            ActivationKind::Q8 => KvType::F16,
        };
        let mut engine = Engine {
            pool: KvPool::new(geometry, exact, Arc::new(positions), options.kv_budget),
            scheme: KvScheme::exact(exact),
            calibration: options.calibration.clone(),
            calibration_text: options.calibration_text.clone(),
            forward: Forward::new(options.activations),
            chunk: options.chunk.max(1),
            exact_prefill: options.exact_prefill,
            source: source.clone(),
            cx,
            model,
            extent,
        };
        if let Some(scheme) = &options.kv {
            engine.set_kv(scheme)?;
        }
        Ok(engine)
    }

    /// From now on new sequences are stored in another KV scheme. Sequences made before cannot be in a batch with them.
    ///
    /// # Errors
    /// The scheme does not fit the model, or needs a calibration that is not there.
    pub fn set_kv(&mut self, scheme: &KvScheme) -> Result<(), EngineError> {
        let geometry = *self.pool.geometry();
        let context = Context { geometry: &geometry, calibration: self.calibration.as_deref() };
        self.replace_pool(scheme.layout(&context)?, self.pool.positions().clone());
        self.scheme = scheme.clone();
        Ok(())
    }

    /// From now on new sequences have other positions. Sequences made before cannot be in a batch with them.
    ///
    /// # Errors
    /// The positions do not reach the engine's context, or do not fit the model.
    pub fn set_positions(&mut self, scheme: &PositionScheme) -> Result<(), EngineError> {
        let positions = self.extent.resolve(scheme, &self.model.info)?;
        self.replace_pool(self.pool.layout().clone(), Arc::new(positions));
        Ok(())
    }

    fn replace_pool(&mut self, layout: CacheLayout, positions: Arc<Positions>) {
        self.pool = KvPool::with_layout(*self.pool.geometry(), layout, positions, self.pool.budget());
    }

    /// The positions of new sequences.
    pub fn positions(&self) -> &Positions {
        self.pool.positions()
    }

    /// The user's own text for statistics, if there is one.
    pub fn calibration_text(&self) -> Option<&Arc<str>> {
        self.calibration_text.as_ref()
    }

    /// The statistics in use.
    pub fn calibration(&self) -> Option<&Arc<Calibration>> {
        self.calibration.as_ref()
    }

    pub(crate) fn kv_geometry(&self) -> KvGeometry {
        *self.pool.geometry()
    }

    /// The KV scheme of new sequences.
    pub fn kv(&self) -> &KvScheme {
        &self.scheme
    }

    /// Statistics of the model's keys and values over `tokens`, which are read in windows of 1024 with an exact cache;
    /// the engine uses them from now on for schemes that need them. Calls `progress` as [`prefill`](Engine::prefill)
    /// does.
    ///
    /// # Errors
    /// There are fewer than 256 tokens, or fewer than 64 different ones; otherwise as [`prefill`](Engine::prefill).
    pub fn calibrate(
        &mut self,
        tokens: &[u32],
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Arc<Calibration>, EngineError> {
        const LEAST: usize = 256;
        const LEAST_DISTINCT: usize = 64;
        let n_total = tokens.len();
        if n_total < LEAST {
            return Err(EngineError::CalibrationTooShort { n_tokens: n_total, least: LEAST });
        }
        let n_distinct = tokens.iter().collect::<HashSet<_>>().len();
        if n_distinct < LEAST_DISTINCT {
            return Err(EngineError::CalibrationTooUniform { n_distinct, least: LEAST_DISTINCT });
        }
        let n_window = 1024.min(self.model.info.n_ctx_train).min(n_total);
        let geometry = *self.pool.geometry();
        let mut calibrator = Calibrator::new(geometry, &self.model.rope, n_window);
        let own = Positions::linear(self.model.rope.clone(), n_window);
        let pool = KvPool::new(geometry, KvType::F32, Arc::new(own), None);
        let mut n_done = 0;
        let mut is_stopped = progress(Progress { n_done, n_total }).is_break();
        // What is left at the end is too short to be worth a window.
        for window in tokens.chunks_exact(n_window) {
            if is_stopped {
                return Err(EngineError::Stopped { n_done, n_total });
            }
            self.check_ids(window)?;
            let mut cache = pool.sequence();
            let mut items = [ForwardItem { cache: &mut cache, tokens: window, logits: Logits::None }];
            let mut observe = |layer: usize, [queries, keys, values]: [Rows<'_>; 3]| {
                calibrator.observe(&self.cx, layer, queries, keys, values);
                let n_done = n_done + window.len() * (layer + 1) / geometry.n_layers;
                is_stopped |= progress(Progress { n_done, n_total }).is_break();
            };
            self.forward.run(&self.cx, &self.model, &mut items, Some(&mut observe))?;
            n_done += window.len();
        }
        let _ = progress(Progress { n_done: n_total, n_total });
        let calibration = Arc::new(calibrator.finish());
        self.calibration = Some(calibration.clone());
        Ok(calibration)
    }

    /// Uses statistics that were made before.
    ///
    /// # Errors
    /// [`EngineError::Config`] if they are those of another model, or of another version of the program.
    pub fn set_calibration(&mut self, calibration: Arc<Calibration>) -> Result<(), EngineError> {
        if !calibration.fits(self.pool.geometry()) {
            let message = "the calibration was made for another model or by another version";
            return Err(EngineError::Config(message.to_owned()));
        }
        self.calibration = Some(calibration);
        Ok(())
    }

    /// What the file says about the model.
    pub fn info(&self) -> &ModelInfo {
        &self.model.info
    }

    /// Context in tokens.
    pub fn n_ctx(&self) -> usize {
        self.extent.n_ctx
    }

    /// Tokens of the vocabulary (columns of the logits).
    pub fn n_vocab(&self) -> usize {
        self.model.info.n_vocab
    }

    /// Threads in use.
    pub fn n_threads(&self) -> usize {
        self.cx.pool.n_threads()
    }

    /// Bits of one cached key or value far from both ends of a sequence, scales and padding included.
    pub fn kv_bits_per_value(&self) -> f64 {
        self.pool.bits_per_value()
    }

    /// Bytes that one token takes in the cache, far from both ends of a sequence.
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

    /// Writes a sequence's tokens and cache, to be [restored](Engine::restore) later.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn save(&self, sequence: &Sequence, out: impl Write) -> Result<(), EngineError> {
        sequence.cache.save(&self.cache_fingerprint(), &sequence.tokens, out).map_err(SavedError::Io)?;
        Ok(())
    }

    /// Reads a sequence that was saved with this model, scheme and calibration.
    ///
    /// # Errors
    /// It was saved with others, is longer than the context, or is damaged.
    pub fn restore(&self, input: impl Read) -> Result<Sequence, EngineError> {
        let (cache, tokens) = self.pool.restore(&self.cache_fingerprint(), self.n_ctx(), input)?;
        self.check_ids(&tokens)?;
        Ok(Sequence { tokens, cache })
    }

    /// What the bytes of a cache depend on besides the scheme.
    fn cache_fingerprint(&self) -> [u8; 32] {
        let mut hash = Sha256::new().chain_update(self.source.fingerprint());
        let positions = self.positions().scheme();
        // Those of `auto` go on where the model's own end, so a cache can grow from one into the other. Others decide the
        // keys (YaRN), or at least what the model made of the text that it read.
        if !positions.is_auto(self.info().trained()) {
            hash.update(positions.to_string());
        }
        if self.extent.start > 0 {
            hash.update(self.extent.start.to_le_bytes());
        }
        if self.scheme.needs_calibration()
            && let Some(calibration) = &self.calibration
        {
            hash.update(serde_json::to_vec(&**calibration).unwrap_or_default());
        }
        hash.finalize().into()
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
        let values = self.forward.run(&self.cx, &self.model, &mut items, None)?;
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
        if self.exact_prefill {
            sequence.cache.keep_exact();
        }
        for chunk in tokens.chunks(self.chunk) {
            if progress(Progress { n_done, n_total }).is_break() {
                return Err(EngineError::Stopped { n_done, n_total });
            }
            n_done += chunk.len();
            let logits = if n_done == n_total { Logits::Last } else { Logits::None };
            last = self.forward(&mut [BatchItem { sequence, tokens: chunk, logits }])?.into_values();
        }
        sequence.cache.pack();
        let _ = progress(Progress { n_done, n_total });
        Ok(last)
    }

    fn check(&self, n_prompt: usize, tokens: &[u32]) -> Result<(), EngineError> {
        let n_ctx = self.n_ctx();
        if n_prompt > n_ctx {
            return Err(EngineError::PromptTooLong { n_prompt, n_ctx });
        }
        self.check_ids(tokens)
    }

    fn check_ids(&self, tokens: &[u32]) -> Result<(), EngineError> {
        let n_vocab = self.n_vocab();
        match tokens.iter().find(|&&id| id as usize >= n_vocab) {
            Some(&id) => Err(EngineError::NoSuchToken { id, n_vocab }),
            None => Ok(()),
        }
    }
}
