//! Real models, the golden files that belong to them, and what else several crates' tests share; for tests only.
//!
//! The golden files lie in `testdata/golden/` and were made by `testdata/golden/make_golden.py`: transformers in float32
//! on the dequantized weights of the same files. The models are too large for the repository: a test that needs one fails
//! with the command that fetches it.
#![forbid(unsafe_code)]

pub mod deep_model;
mod instruction_sets;
pub mod tiny_directory;
pub mod tiny_model;
pub mod toy_tokenizer;

pub use instruction_sets::instruction_sets;

use std::path::{Path, PathBuf};

use serde::Deserialize;

/// A model that tests run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TestModel {
    /// SmolLM2-135M-Instruct, Q4_1 and Q8_0, tied embedding
    SmolLm2,
    /// Qwen2.5-Coder-0.5B-Instruct, Q5_0, Q8_0, Q6_K and Q4_K, biases on Q, K and V
    QwenCoder,
}

impl TestModel {
    /// Both.
    pub const ALL: [TestModel; 2] = [TestModel::SmolLm2, TestModel::QwenCoder];

    fn file_name(self) -> &'static str {
        match self {
            TestModel::SmolLm2 => "SmolLM2-135M-Instruct.Q4_1.gguf",
            TestModel::QwenCoder => "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
        }
    }

    fn golden_name(self) -> &'static str {
        match self {
            TestModel::SmolLm2 => "smollm2",
            TestModel::QwenCoder => "qwen2.5-coder-0.5b",
        }
    }

    /// Where the file is: in `LOSSY_TEST_MODELS`, or else in `lossy/test-models` of the user's cache directory.
    ///
    /// # Panics
    /// If it is not there.
    pub fn path(self) -> PathBuf {
        model_path(self.file_name())
    }

    /// The golden files of this model: prose, code, unicode and chat.
    ///
    /// # Panics
    /// If one is missing or malformed.
    pub fn golden(self) -> Vec<Golden> {
        ["prose", "code", "unicode", "chat"].map(|name| self.golden_text(name)).into()
    }

    fn golden_text(self, name: &str) -> Golden {
        let dir = testdata().join("golden").join(self.golden_name());
        let json = read(&dir.join(format!("{name}.json")));
        let mut golden: Golden = serde_json::from_slice(&json).expect("a golden file is JSON");
        golden.name = name.to_string();
        golden.last_logits = read(&dir.join(format!("{name}.logits.f32")))
            .chunks_exact(4)
            .map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
            .collect();
        golden
    }
}

/// Folders of `testdata/tiny`: a random model of every family, as `tools/make_tiny_models.py` makes them.
pub const TINY_MODELS: [&str; 10] = [
    "llama",
    "llama3",
    "llama-linear",
    "llama-dynamic",
    "llama-longrope",
    "llama-biased",
    "mistral",
    "qwen2",
    "qwen2-yarn",
    "qwen3",
];

/// The repository's `testdata` directory.
pub fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata")
}

/// A test model by its file name: see [`TestModel::path`].
///
/// # Panics
/// If it is not there.
pub fn model_path(file_name: &str) -> PathBuf {
    let path = models_dir().join(file_name);
    assert!(
        path.is_file(),
        "the test model {} is missing: run `python3 tools/fetch_test_models.py` first",
        path.display()
    );
    path
}

fn models_dir() -> PathBuf {
    variable("LOSSY_TEST_MODELS").unwrap_or_else(|| cache_home().join("lossy/test-models"))
}

/// The user's cache directory: `XDG_CACHE_HOME`, or else `.cache` in the home directory.
///
/// # Panics
/// If neither variable is set.
pub fn cache_home() -> PathBuf {
    variable("XDG_CACHE_HOME")
        .or_else(|| variable("HOME").map(|home| home.join(".cache")))
        .expect("HOME or XDG_CACHE_HOME is set")
}

fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What transformers computed in float32 for one text.
#[derive(Debug, Deserialize)]
pub struct Golden {
    /// "prose", "code", "unicode" or "chat"
    #[serde(skip)]
    pub name: String,
    /// the text
    pub text: String,
    /// its tokens, special tokens parsed, none added
    pub ids: Vec<u32>,
    /// the last 32 positions
    pub positions: Vec<GoldenPosition>,
    /// 48 tokens, decoded greedily
    pub greedy: Vec<u32>,
    /// how far each greedy token's logit is above the runner-up's
    pub greedy_margin: Vec<f32>,
    /// the greedy tokens as text, special tokens included
    pub greedy_text: String,
    /// logits after the last token, `[n_vocab]`
    #[serde(skip)]
    pub last_logits: Vec<f32>,
}

/// The logits after one token of a text.
#[derive(Debug, Deserialize)]
pub struct GoldenPosition {
    /// index of the token
    pub pos: usize,
    /// ln Σ exp(logit)
    pub logsumexp: f64,
    /// the 20 largest logits with their ids, largest first
    pub top: Vec<(u32, f32)>,
}

impl GoldenPosition {
    /// How far the largest logit is above the second.
    pub fn margin(&self) -> f32 {
        self.top[0].1 - self.top[1].1
    }
}

/// Numbers like those of a normal distribution with a deviation of 1, below 3; the same for the same seed.
pub fn noise(seed: u64, n: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next() + next() + next()).collect()
}

/// KL(softmax(reference) ‖ softmax(found)) in nats, in float64.
///
/// # Panics
/// If the lengths differ.
pub fn kl_divergence(reference: &[f32], found: &[f32]) -> f64 {
    assert_eq!(reference.len(), found.len(), "rows of logits of different lengths");
    let (p, q) = (log_softmax(reference), log_softmax(found));
    p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum()
}

fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let max = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let normalizer = max + logits.iter().map(|&logit| (f64::from(logit) - max).exp()).sum::<f64>().ln();
    logits.iter().map(|&logit| f64::from(logit) - normalizer).collect()
}

/// FNV-1a, 64 bits: tells whether values are the same, bit for bit, as those that a test remembers.
pub struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Fnv {
        Fnv(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    /// Adds bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.0 =
            bytes.iter().fold(self.0, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    }

    /// Adds the bits of numbers.
    pub fn floats(&mut self, values: &[f32]) {
        values.iter().for_each(|value| self.bytes(&value.to_bits().to_le_bytes()));
    }

    /// The hash so far.
    pub fn finish(&self) -> u64 {
        self.0
    }
}
