//! A model and the way in which a server reads prompts.

use std::sync::Arc;

use lossy_engine::prefix_cache::{Found, PrefixCache, PrefixCacheOptions, Scope};
use lossy_engine::{
    Cache, CacheOptions, Engine, EngineOptions, Generation, GenerationOptions, ModelSource, PositionScheme,
    RequestError, Sequence,
};
use lossy_testkit::{TestModel, testdata};
use lossy_tokenizer::Tokenizer;

pub const PAGE: usize = 128;

/// An exact scheme, and packed ones with every kind of window.
pub const SCHEMES: [&str; 6] = [
    "f16",
    "q8",
    "k2v2:calibration=none",
    "k4v4:calibration=none,residual=256",
    "kivi2",
    "kivi2:residual=200",
];

/// An engine and one of its caches.
pub struct Reader {
    pub engine: Engine,
    pub cache: Arc<Cache>,
    pub scope: Scope,
    tokenizer: Tokenizer,
}

/// What a prompt found, and the bits of the logits after it.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    pub n_ram: usize,
    pub n_disk: usize,
    pub n_damaged: usize,
    pub logits: Vec<u32>,
}

impl Answer {
    pub fn n_found(&self) -> usize {
        self.n_ram + self.n_disk
    }
}

pub fn scope(name: &str) -> Scope {
    Scope::new(&[name.as_bytes()])
}

pub fn in_memory() -> PrefixCache {
    PrefixCache::new(PrefixCacheOptions::default()).unwrap()
}

pub fn cache_options(scheme: &str) -> CacheOptions {
    CacheOptions {
        n_ctx: Some(4000),
        positions: PositionScheme::linear(),
        beyond_trained: true,
        ..CacheOptions::scheme(scheme.parse().unwrap())
    }
}

impl Reader {
    /// A random model that is quick.
    pub fn tiny(scheme: &str) -> Reader {
        Reader::tiny_within(scheme, None)
    }

    /// The same within a budget.
    pub fn tiny_within(scheme: &str, kv_budget: Option<usize>) -> Reader {
        let source = ModelSource::open(&testdata().join("tiny/llama")).unwrap();
        let options = EngineOptions { n_threads: Some(2), kv_budget, ..EngineOptions::default() };
        let mut engine = Engine::load(&source, &options).unwrap();
        let cache = engine.cache(&cache_options(scheme)).unwrap();
        // Texts are of no interest here, so any tokenizer serves.
        let tokenizer = ModelSource::open(&TestModel::SmolLm2.path()).unwrap().tokenizer().unwrap();
        Reader { engine, cache, scope: scope("somebody"), tokenizer }
    }

    /// A model that was trained for a context in which position maps can be used.
    pub fn real(options: &CacheOptions) -> Reader {
        let source = ModelSource::open(&TestModel::SmolLm2.path()).unwrap();
        let engine_options = EngineOptions { n_threads: Some(2), ..EngineOptions::default() };
        let mut engine = Engine::load(&source, &engine_options).unwrap();
        let cache = engine.cache(options).unwrap();
        Reader { engine, cache, scope: scope("somebody"), tokenizer: source.tokenizer().unwrap() }
    }

    /// A text by its number: no two have a page in common.
    pub fn text(&self, number: usize, n_tokens: usize) -> Vec<u32> {
        let n_vocab = self.engine.n_vocab() as u64;
        let mut state = number as u64 + 1;
        let mut next = || {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            ((state >> 33) % n_vocab) as u32
        };
        (0..n_tokens).map(|_| next()).collect()
    }

    pub fn generation(&self, sequence: Sequence, prompt: &[u32]) -> Generation {
        let options = GenerationOptions::default();
        Generation::new(self.tokenizer.clone(), sequence, prompt.to_vec(), options).unwrap()
    }

    /// The logits of a prompt that is read anew, in pieces of at most `max` tokens.
    pub fn cold(&mut self, prompt: &[u32], max: usize) -> Vec<u32> {
        let mut generation = self.generation(self.cache.sequence(), prompt);
        loop {
            let logits = self.engine.forward(&mut [generation.item(max)]).unwrap().into_values();
            if !logits.is_empty() {
                return logits.iter().map(|logit| logit.to_bits()).collect();
            }
        }
    }

    /// Reads a prompt as a server does: from what is there, keeping whole pages as they come, and everything at the end.
    pub fn warm(&mut self, store: &mut PrefixCache, prompt: &[u32], max: usize) -> Answer {
        self.try_warm(store, prompt, max).unwrap().0
    }

    /// The same, and the sequence of the prompt.
    pub fn try_warm(
        &mut self,
        store: &mut PrefixCache,
        prompt: &[u32],
        max: usize,
    ) -> Result<(Answer, Sequence), RequestError> {
        let Found { sequence, mut cursor, n_ram, n_disk, damaged } =
            store.find(&self.cache, &self.scope, prompt);
        assert_eq!(sequence.tokens(), &prompt[..n_ram + n_disk]);
        assert!(sequence.len() < prompt.len());
        let mut generation = self.generation(sequence, prompt);
        loop {
            let n_before = generation.n_read();
            let needed = generation.sequence().bytes_needed(generation.wanted(max).len());
            if self.engine.budget().bytes_left().is_some_and(|left| left < needed) {
                store.make_room(needed);
            }
            let logits = self.engine.forward(&mut [generation.item(max)])?.into_values();
            let n_read = generation.n_read();
            let is_end = n_read == prompt.len();
            if n_before / PAGE < n_read / PAGE || is_end {
                store.keep(&mut cursor, generation.sequence(), n_read, is_end);
            }
            if is_end {
                let logits = logits.iter().map(|logit| logit.to_bits()).collect();
                let answer = Answer { n_ram, n_disk, n_damaged: damaged.len(), logits };
                return Ok((answer, generation.into_sequence()));
            }
        }
    }
}
