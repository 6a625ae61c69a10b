//! A loaded model with the threads and the buffers to run it.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::{Arc, OnceLock};

use lossy_kernels::page::HeadShape;
use lossy_kernels::{ActivationKind, Compute, Isa, KvType};
use lossy_tokenizer::EncodeOptions;

use crate::cache::{Budget, Calibration, Calibrator, Context, KvGeometry, KvPool, KvScheme, Rows};
use crate::calibrate::{self, Calibrated};
use crate::extent::Extent;
use crate::forward::{Forward, ForwardItem};
use crate::hooks::Hooks;
use crate::model::Model;
use crate::positions::{PositionScheme, Positions};
use crate::round::{Beside, Runner, Steps};
use crate::sequence::EngineId;
use crate::speculation::PassCosts;
use crate::{
    BatchItem, Cache, CacheOptions, CalibrationOptions, EngineOptions, Generation, LoadError, LogitRows,
    Logits, ModelInfo, ModelSource, RequestError, Sequence, SettingError,
};

/// How far a prompt has been read.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// tokens processed
    pub n_done: usize,
    /// tokens of the prompt
    pub n_total: usize,
    /// [`Sequence::share_of_pages_read`]; `None` too where no sequence is read
    pub share_of_pages_read: Option<f64>,
}

impl Progress {
    /// So many of so many tokens, or of whatever else is counted.
    pub fn new(n_done: usize, n_total: usize) -> Progress {
        Progress { n_done, n_total, share_of_pages_read: None }
    }
}

/// Is told about progress, and stops the work by breaking.
pub type OnProgress<'a> = dyn FnMut(Progress) -> ControlFlow<()> + 'a;

/// Weights, and what it takes to compute with them. Sequences live in its [caches](Engine::cache).
pub struct Engine {
    id: EngineId,
    cx: Compute,
    model: Model,
    forward: Forward,
    /// buffers of rounds that run between the layers of a pass
    beside: Forward,
    costs: PassCosts,
    activations: ActivationKind,
    chunk: usize,
    budget: Arc<Budget>,
    /// statistics that were found or made, each with its text
    calibrations: Vec<(Arc<str>, Arc<Calibration>)>,
    source: ModelSource,
}

impl Engine {
    /// Loads the weights of `source`.
    ///
    /// # Errors
    /// A tensor is missing, has another shape than the file's configuration says, or a type that cannot be computed.
    pub fn load(source: &ModelSource, options: &EngineOptions) -> Result<Engine, LoadError> {
        let info = source.info();
        if info.head_dim > HeadShape::MAX_HEAD_DIM {
            return Err(LoadError::Config(format!(
                "attention heads of {} channels cannot be computed: they may have {} at most",
                info.head_dim,
                HeadShape::MAX_HEAD_DIM
            )));
        }
        let n_cores = std::thread::available_parallelism().map_or(1, |n| n.get());
        let cx = Compute::with_isa(options.n_threads.unwrap_or(n_cores).max(1), options.isa);
        let model = Model::load(&cx, source, &options.unread)?;
        let forward = Forward::new(options.activations, model.reads_floats());
        Ok(Engine {
            id: EngineId::default(),
            beside: forward.fresh(),
            costs: PassCosts::default(),
            forward,
            activations: options.activations,
            chunk: options.chunk.max(1),
            budget: Budget::new(options.kv_budget),
            calibrations: Vec::new(),
            source: source.clone(),
            cx,
            model,
        })
    }

    /// Where sequences of one KV scheme and one kind of positions live. If the scheme needs statistics of the model, they
    /// are found where `options` say, or made, which takes some seconds.
    ///
    /// # Errors
    /// The scheme does not fit the model, the positions do not reach the context, or calibration fails.
    pub fn cache(&mut self, options: &CacheOptions) -> Result<Arc<Cache>, SettingError> {
        self.cache_with(options, &mut |_| ControlFlow::Continue(()))
    }

    /// The same; `progress` is called while the model is calibrated, and stops that by breaking.
    ///
    /// # Errors
    /// As [`cache`](Engine::cache); [`RequestError::Stopped`] if calibration was stopped.
    pub fn cache_with(
        &mut self,
        options: &CacheOptions,
        progress: &mut OnProgress<'_>,
    ) -> Result<Arc<Cache>, SettingError> {
        let trained = self.model.info.trained();
        let extent = Extent::new(options, trained);
        let positions = Arc::new(extent.resolve(&options.positions, trained)?);
        let scheme = options.kv.clone().unwrap_or_else(|| self.exact_scheme());
        let calibrated = match scheme.needs_calibration() {
            true => Some(self.calibration(&options.calibration, progress)?),
            false => None,
        };
        let geometry = geometry(&self.model.info);
        let statistics = calibrated.as_ref().map(|calibrated| &*calibrated.calibration);
        let layout = scheme.layout(&Context { geometry: &geometry, calibration: statistics })?;
        if layout.packed.as_ref().is_some_and(|packed| packed.sparsity.is_some()) {
            self.check_sparse(&scheme, &positions, &options.positions)?;
        }
        Ok(Arc::new(Cache {
            engine: self.id.clone(),
            pool: KvPool::with_layout(geometry, layout, positions, self.budget.clone()),
            scheme,
            extent,
            exact_prefill: options.exact_prefill,
            calibrated,
            source: self.source.clone(),
            activations: self.activations,
            saved_key: OnceLock::new(),
        }))
    }

    /// That attention can skip pages: these are read as codes, with integers.
    fn check_sparse(
        &self,
        scheme: &KvScheme,
        positions: &Positions,
        map: &PositionScheme,
    ) -> Result<(), SettingError> {
        let refused = |with, instead| Err(SettingError::Sparse { scheme: scheme.to_string(), with, instead });
        if self.activations == ActivationKind::F32 {
            return refused("attention with f32 activations".to_owned(), "take q8 activations");
        }
        match positions.map().token_position(0) {
            Some(_) => refused(format!("attention with positions {map}"), "take adaptive or dca"),
            None => Ok(()),
        }
    }

    /// The scheme of a cache that asks for none: f16, or f32 with f32 activations.
    pub fn exact_scheme(&self) -> KvScheme {
        KvScheme::exact(match self.activations {
            ActivationKind::F32 => KvType::F32,
            ActivationKind::Q8 => KvType::F16,
        })
    }

    /// Statistics of the model's keys and values: those that are given, in use already, or saved; or else those of the
    /// text, which the model reads now. That they cannot be saved is not an error.
    ///
    /// # Errors
    /// Those that are given are of another model; the text cannot be encoded, is too short, or cannot be read; `progress`
    /// breaks.
    pub fn calibration(
        &mut self,
        options: &CalibrationOptions,
        progress: &mut OnProgress<'_>,
    ) -> Result<Calibrated, SettingError> {
        let geometry = geometry(&self.model.info);
        if let Some(calibration) = &options.statistics {
            let calibration = calibration.clone();
            return match calibration.fits(&geometry) {
                true => Ok(Calibrated { calibration, n_tokens: None, file: None }),
                false => Err(SettingError::OtherCalibration),
            };
        }
        // Where nothing is saved, the model's files need not be read for a name.
        let file = options.directory.as_ref().map(|directory| {
            let model = self.source.fingerprint();
            directory.join(calibrate::file_name(model, self.activations, options.text()))
        });
        if let Some((_, calibration)) = self.calibrations.iter().find(|(text, _)| **text == *options.text()) {
            let file = file.filter(|file| file.exists());
            return Ok(Calibrated { calibration: calibration.clone(), n_tokens: None, file });
        }
        let calibrated = match file.as_deref().and_then(|file| calibrate::load(file, &geometry)) {
            Some(saved) => Calibrated { calibration: Arc::new(saved), n_tokens: None, file },
            None => {
                let tokens =
                    self.source.load_tokenizer()?.encode(options.text(), EncodeOptions::default())?;
                let calibration = self.calibrate(&tokens, progress)?;
                let file = file.filter(|file| calibrate::save(file, &calibration).is_ok());
                Calibrated { calibration, n_tokens: Some(tokens.len()), file }
            }
        };
        self.calibrations.push((options.text().into(), calibrated.calibration.clone()));
        Ok(calibrated)
    }

    /// Statistics of the model's keys and values over `tokens`, which are read in windows of 1024 with an exact cache.
    ///
    /// # Errors
    /// There are fewer than 256 tokens, or fewer than 64 different ones; otherwise as [`prefill`](Engine::prefill).
    pub fn calibrate(
        &mut self,
        tokens: &[u32],
        progress: &mut OnProgress<'_>,
    ) -> Result<Arc<Calibration>, SettingError> {
        const LEAST: usize = 256;
        const LEAST_DISTINCT: usize = 64;
        let n_total = tokens.len();
        if n_total < LEAST {
            return Err(SettingError::CalibrationTooShort { n_tokens: n_total, least: LEAST });
        }
        let n_distinct = tokens.iter().collect::<HashSet<_>>().len();
        if n_distinct < LEAST_DISTINCT {
            return Err(SettingError::CalibrationTooUniform { n_distinct, least: LEAST_DISTINCT });
        }
        let n_window = 1024.min(self.model.info.n_ctx_train).min(n_total);
        let geometry = geometry(&self.model.info);
        let mut calibrator = Calibrator::new(geometry, &self.model.rope, n_window);
        // A pool with a count of its own: what it takes for a while is no cache of a user.
        let own = Arc::new(Positions::linear(self.model.rope.clone(), n_window));
        let pool = KvPool::new(geometry, KvType::F32, own, Budget::new(None));
        // Its windows are longer than most chunks, so buffers of its own, which go when it ends.
        let mut forward = self.forward.fresh();
        let mut n_done = 0;
        let mut is_stopped = progress(Progress::new(n_done, n_total)).is_break();
        // What is left at the end is too short to be worth a window.
        for window in tokens.chunks_exact(n_window) {
            if is_stopped {
                return Err(RequestError::Stopped { n_done, n_total }.into());
            }
            let mut cache = pool.sequence();
            let mut items = [ForwardItem { cache: &mut cache, tokens: window, logits: Logits::None }];
            let mut observe = |layer: usize, [queries, keys, values]: [Rows<'_>; 3]| {
                calibrator.observe(&self.cx, layer, queries, keys, values);
                let n_done = n_done + window.len() * (layer + 1) / geometry.n_layers;
                is_stopped |= progress(Progress::new(n_done, n_total)).is_break();
            };
            let hooks = Hooks { observe: Some(&mut observe), ..Hooks::default() };
            forward.run(&self.cx, &self.model, &mut items, hooks)?;
            n_done += window.len();
        }
        let _ = progress(Progress::new(n_total, n_total));
        Ok(Arc::new(calibrator.finish()))
    }

    /// What the file says about the model.
    pub fn info(&self) -> &ModelInfo {
        &self.model.info
    }

    /// The model's file.
    pub fn source(&self) -> &ModelSource {
        &self.source
    }

    /// Tokens of the vocabulary (columns of the logits).
    pub fn n_vocab(&self) -> usize {
        self.model.info.n_vocab
    }

    /// Threads in use.
    pub fn n_threads(&self) -> usize {
        self.cx.pool.n_threads()
    }

    /// Instructions that kernels use.
    pub fn isa(&self) -> Isa {
        self.cx.isa
    }

    /// int8 or float32 activations.
    pub fn activations(&self) -> ActivationKind {
        self.activations
    }

    /// Tokens that [`prefill`](Engine::prefill) computes at once.
    pub fn chunk(&self) -> usize {
        self.chunk
    }

    /// The bytes that all its caches may take together.
    pub fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// Bytes of the packed weights.
    pub fn weight_bytes(&self) -> usize {
        self.model.weight_bytes()
    }

    /// Bytes of the buffers that a forward pass works in; they grow with the largest chunk or batch so far.
    pub fn scratch_bytes(&self) -> usize {
        self.forward.bytes() + self.beside.bytes()
    }

    /// Runs a batch of several sequences once, of one cache or of several. A token's logits are bit-identical whatever else
    /// is in the batch.
    ///
    /// # Errors
    /// A sequence would outgrow its context, the budget does not hold the new tokens, a token is not in the vocabulary, or
    /// a sequence is of another engine. No sequence has changed then.
    pub fn forward(&mut self, batch: &mut [BatchItem<'_>]) -> Result<LogitRows, RequestError> {
        self.runner().forward(batch, Hooks::default())
    }

    fn runner(&mut self) -> Runner<'_> {
        let Engine { id, cx, model, forward, costs, .. } = self;
        Runner { id, cx, model, forward, costs: Some(costs) }
    }

    /// Runs what each generation [wants](Generation::wanted) next, as one batch, at most so many of its tokens; returns the
    /// steps that each has made. A generation that has ended, or is given no tokens, is left out. One that is given more than
    /// one token and has one to run may run guessed ones with it, as its [options](crate::GenerationOptions::speculation) say;
    /// its steps are the same.
    ///
    /// # Errors
    /// As [`forward`](Engine::forward), and then no generation has changed. That one generation cannot choose a token does
    /// not hold up the others: its error stands in its place.
    pub fn advance(&mut self, batch: &mut [(&mut Generation, usize)]) -> Result<Steps, RequestError> {
        self.runner().advance(batch, Hooks::default())
    }

    /// The same for a batch that takes long, such as a long piece of a prompt: `between` is called after each of its layers,
    /// and can run rounds of other generations meanwhile. They have the same bits as in any other round.
    ///
    /// # Errors
    /// As [`advance`](Engine::advance). Rounds of others that `between` has run stay.
    pub fn advance_beside(
        &mut self,
        batch: &mut [(&mut Generation, usize)],
        between: &mut dyn FnMut(&mut Beside<'_>),
    ) -> Result<Steps, RequestError> {
        let Engine { id, cx, model, forward, beside, costs, .. } = self;
        let mut beside = Beside(Runner { id, cx, model, forward: beside, costs: Some(costs) });
        let mut between = || between(&mut beside);
        let hooks = Hooks { between: Some(&mut between), ..Hooks::default() };
        Runner { id, cx, model, forward, costs: None }.advance(batch, hooks)
    }

    /// Appends `tokens` in chunks; returns the logits `[n_vocab]` after the last. Calls `progress` before the first
    /// chunk and after each, and stops when it breaks.
    ///
    /// # Errors
    /// As [`Engine::forward`]; and [`RequestError::Stopped`], after which the sequence holds the chunks that were done.
    /// A prompt that does not fit is an error before any work; an empty prompt has no logits and is an error.
    pub fn prefill(
        &mut self,
        sequence: &mut Sequence,
        tokens: &[u32],
        progress: &mut OnProgress<'_>,
    ) -> Result<Vec<f32>, RequestError> {
        if tokens.is_empty() {
            return Err(RequestError::EmptyPrompt);
        }
        sequence.check(tokens)?;
        let n_total = tokens.len();
        let mut n_done = 0;
        let mut last = Vec::new();
        sequence.begin_prompt();
        for chunk in tokens.chunks(self.chunk) {
            let share_of_pages_read = sequence.share_of_pages_read();
            if progress(Progress { n_done, n_total, share_of_pages_read }).is_break() {
                return Err(RequestError::Stopped { n_done, n_total });
            }
            n_done += chunk.len();
            let logits = if n_done == n_total { Logits::Last } else { Logits::None };
            last = self.forward(&mut [BatchItem { sequence, tokens: chunk, logits }])?.into_values();
        }
        sequence.end_prompt();
        let share_of_pages_read = sequence.share_of_pages_read();
        let _ = progress(Progress { n_done, n_total, share_of_pages_read });
        Ok(last)
    }
}

/// What of a model its caches depend on.
fn geometry(info: &ModelInfo) -> KvGeometry {
    KvGeometry {
        n_layers: info.n_layers,
        n_kv_heads: info.n_kv_heads,
        heads_per_kv: info.n_heads / info.n_kv_heads,
        head_dim: info.head_dim,
    }
}
