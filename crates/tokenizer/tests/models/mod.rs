//! Where the tests find the real models and their data.
#![allow(dead_code, reason = "every test file uses a part")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use lossy_formats::gguf::Gguf;
use lossy_tokenizer::Tokenizer;

pub const SMOLLM2: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";
pub const QWEN: &str = "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf";

/// A model file, from `LOSSY_TEST_MODELS` or the cache.
pub fn open(file: &str) -> Gguf {
    let folder = std::env::var_os("LOSSY_TEST_MODELS").map(PathBuf::from).unwrap_or_else(|| {
        let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
        cache.unwrap_or_default().join("lossy/test-models")
    });
    let path = folder.join(file);
    assert!(path.exists(), "{} is missing: run `python3 tools/fetch_test_models.py`", path.display());
    Gguf::open(&path).unwrap()
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
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata").join(name)
}
