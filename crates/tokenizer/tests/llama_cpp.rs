//! Token ids of hostile strings equal llama.cpp's: `tools/make_token_fixtures.py`.
//!
//! llama.cpp does not compose characters where a model's tokenizer does, and takes Qwen2's ordinary token `</s>` for a control
//! token. Strings that this changes are compared with the `tokenizers` package instead, in `published.rs`.

mod models;

use lossy_tokenizer::{EncodeOptions, Tokenizer, TokenizerKeys};
use serde_json::Value;
use unicode_normalization_alignments::is_nfc;

fn read(name: &str) -> Value {
    let path = models::testdata("tokens").join(name);
    serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap()
}

/// Differences, as lines that say what both have.
fn differences(
    tokenizer: &Tokenizer,
    strings: &Value,
    fixture: &Value,
    kind: &str,
    is_qwen2: bool,
) -> Vec<String> {
    let options = EncodeOptions { add_special: false, parse_special: kind == "special" };
    let strings = strings.as_array().unwrap();
    let expected = fixture[kind].as_array().unwrap();
    assert_eq!(strings.len(), expected.len());
    assert!(strings.len() > 400);
    let mut differences = Vec::new();
    for (text, expected) in strings.iter().zip(expected) {
        let text = text.as_str().unwrap();
        if is_qwen2 && (!is_nfc(text) || text == "</s>") {
            continue;
        }
        let expected: Vec<u32> = serde_json::from_value(expected.clone()).unwrap();
        let ids = tokenizer.encode(text, options).unwrap();
        if ids != expected {
            let spell = |ids: &[u32]| {
                ids.iter().map(|&id| tokenizer.token_text(id).unwrap()).collect::<Vec<_>>().join("|")
            };
            differences.push(format!("{text:?}: ours {} theirs {}", spell(&ids), spell(&expected)));
        }
    }
    differences
}

fn check(name: &str, file: &'static str, is_qwen2: bool) {
    let tokenizer = models::tokenizer(file);
    let (strings, fixture) = (read("strings.json"), read(&format!("{name}.json")));
    for kind in ["plain", "special"] {
        let differences = differences(&tokenizer, &strings, &fixture, kind, is_qwen2);
        assert!(differences.is_empty(), "{kind}: {} differ\n{}", differences.len(), differences.join("\n"));
    }
}

#[test]
fn ids_of_smollm2_equal_those_of_llama_cpp() {
    check("smollm2", models::SMOLLM2, false);
}

#[test]
fn ids_of_qwen_equal_those_of_llama_cpp() {
    check("qwen2.5-coder-0.5b", models::QWEN, true);
}

#[test]
fn every_pre_tokenizer_cuts_as_llama_cpp_does() {
    let gguf = models::open(models::SMOLLM2);
    let mut keys = TokenizerKeys::from_gguf(gguf.metadata()).unwrap();
    let (strings, fixture) = (read("strings.json"), read("pre_tokenizers.json"));
    let mut wrong = Vec::new();
    for (name, hashes) in fixture["fnv1a"].as_object().unwrap() {
        keys.pre = Some(name);
        let tokenizer = Tokenizer::from_keys(&keys).unwrap();
        for (text, hash) in strings.as_array().unwrap().iter().zip(hashes.as_array().unwrap()) {
            let text = text.as_str().unwrap();
            if ["qwen2", "qwen35"].contains(&name.as_str()) && !is_nfc(text) {
                continue;
            }
            let options = EncodeOptions { add_special: false, parse_special: false };
            let ids = tokenizer.encode(text, options).unwrap();
            if u64::from(models::fnv1a(&ids)) != hash.as_u64().unwrap() {
                wrong.push(format!("{name}: {text:?} {ids:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} differ\n{}", wrong.len(), wrong.join("\n"));
}
