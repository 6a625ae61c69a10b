//! What tells models apart notices what changes the result.

use std::fs;
use std::path::PathBuf;

use lossy_engine::ModelSource;
use serde_json::json;

use crate::models::{config, gguf_bytes, metadata, open_hf, random, tensors};
use crate::reference::{GGUF, HF};

fn folder(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("fingerprint-{name}"));
    fs::create_dir_all(&folder).expect("a folder for the test");
    folder
}

#[test]
fn every_byte_of_a_gguf_file_counts() {
    let path = folder("gguf").join("model.gguf");
    let bytes = gguf_bytes(&metadata("llama"), &tensors("llama", &GGUF));
    let of = |bytes: &[u8]| {
        fs::write(&path, bytes).expect("a file for the test");
        ModelSource::open(&path).expect("a good model").fingerprint()
    };
    let found = of(&bytes);
    assert_eq!(of(&bytes), found);
    assert_ne!(of(&[&bytes[..], &[0]].concat()), found, "a byte more");
    let mut patched = bytes.clone();
    *patched.last_mut().expect("a file") ^= 1;
    assert_ne!(of(&patched), found, "a bit of a weight");
}

#[test]
fn of_a_directory_weights_and_the_keys_count_that_the_result_depends_on() {
    let folder = folder("directory");
    let of = |config: &serde_json::Value, weights| {
        open_hf(&folder, config, weights).expect("a good model").fingerprint()
    };
    let (config, weights) = (config("llama"), tensors("llama", &HF));
    let found = of(&config, &weights);
    let with = |key: &str, value: serde_json::Value| {
        let mut config = config.clone();
        config[key] = value;
        of(&config, &weights)
    };
    for (key, value) in [
        ("transformers_version", json!("4.0.0")),
        ("_name_or_path", json!("somewhere")),
        ("dtype", json!("bfloat16")),
        ("initializer_range", json!(1.0)),
        ("sliding_window", json!(null)),
        ("hidden_act", json!("silu")),
    ] {
        assert_eq!(with(key, value), found, "{key}");
    }
    for (key, value) in [
        ("rms_norm_eps", json!(1e-6)),
        ("hidden_act", json!("gelu")),
        ("rope_parameters", json!({"rope_type": "default", "rope_theta": 1e6})),
        ("sliding_window", json!(16)),
        ("unheard_of", json!(1)),
    ] {
        assert_ne!(with(key, value), found, "{key}");
    }
    let mut others = weights.clone();
    others.insert("model.norm.weight".to_owned(), random("another norm", &[32]));
    assert_ne!(of(&config, &others), found, "another weight");
}
