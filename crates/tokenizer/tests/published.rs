//! Token ids of hostile strings equal those of the `tokenizers` package with the published pipelines of models:
//! `tools/make_published_token_fixtures.py`.

mod models;

use lossy_tokenizer::{EncodeOptions, Tokenizer, TokenizerKeys};
use serde_json::Value;

fn read(name: &str) -> Value {
    let path = models::testdata("tokens").join(name);
    serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap()
}

#[test]
fn pre_tokenizers_cut_as_the_published_ones_do() {
    let gguf = models::open(models::SMOLLM2);
    let mut keys = TokenizerKeys::from_gguf(gguf.metadata()).unwrap();
    let (strings, fixture) = (read("strings.json"), read("published.json"));
    let mut wrong = Vec::new();
    let names = fixture["fnv1a"].as_object().unwrap();
    assert_eq!(names.len(), 6);
    for (name, hashes) in names {
        keys.pre = Some(name);
        let tokenizer = Tokenizer::from_keys(&keys).unwrap();
        let hashes = hashes.as_array().unwrap();
        assert_eq!(hashes.len(), strings.as_array().unwrap().len());
        for (text, hash) in strings.as_array().unwrap().iter().zip(hashes) {
            let text = text.as_str().unwrap();
            // a user-defined token is none of the pipelines
            let options = EncodeOptions { add_special: false, parse_special: false };
            let ids = tokenizer.encode(text, options).unwrap();
            if u64::from(models::fnv1a(&ids)) != hash.as_u64().unwrap() {
                wrong.push(format!("{name}: {text:?} {ids:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} differ\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn qwen2_composes_characters_as_its_published_normalizer_does() {
    let tokenizer = models::tokenizer(models::QWEN);
    let fixture = read("published.json");
    let composed = fixture["composed"].as_array().unwrap();
    assert!(composed.len() > 50);
    for case in composed {
        let (text, ids): (String, Vec<u32>) = serde_json::from_value(case.clone()).unwrap();
        let options = EncodeOptions { add_special: false, parse_special: true };
        assert_eq!(tokenizer.encode(&text, options).unwrap(), ids, "{text:?}");
    }
}
