//! Where the tests find the real models and their data.
#![allow(dead_code, reason = "every test file uses a part")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use lossy_formats::gguf::Gguf;
use lossy_tokenizer::Tokenizer;

pub const SMOLLM2: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";
pub const QWEN: &str = "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf";

/// A model file, from `LOSSY_TEST_MODELS` or the cache.
pub fn open(file: &str) -> Gguf {
    Gguf::open(&lossy_testkit::model_path(file)).unwrap()
}

/// The tokenizer of a model file, built once.
pub fn tokenizer(file: &'static str) -> Tokenizer {
    static BUILT: Mutex<BTreeMap<&str, Tokenizer>> = Mutex::new(BTreeMap::new());
    // a test that found no file has poisoned the lock; the others say so as well
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    built.entry(file).or_insert_with(|| Tokenizer::from_gguf(open(file).metadata()).unwrap()).clone()
}

/// A folder of the repository's `testdata`.
pub fn testdata(name: &str) -> PathBuf {
    lossy_testkit::testdata().join(name)
}

/// FNV-1a of ids as little-endian numbers.
#[allow(dead_code, reason = "not every test binary compares hashes")]
pub fn fnv1a(ids: &[u32]) -> u32 {
    let bytes = ids.iter().flat_map(|id| id.to_le_bytes());
    bytes.fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}
