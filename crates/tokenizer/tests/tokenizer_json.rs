//! Ids and texts of Hugging Face tokenizers equal those of the Python package: `tools/make_tokenizer_json_fixtures.py`.

mod models;

use std::path::PathBuf;

use lossy_formats::hf::HfDir;
use lossy_tokenizer::{ChatTemplate, EncodeOptions, Message, RenderOptions, Tokenizer, TokenizerError};
use serde::de::DeserializeOwned;
use serde_json::Value;

fn folder(name: &str) -> PathBuf {
    models::testdata("tokenizer_json").join(name)
}

fn read(name: &str, file: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(folder(name).join(file)).unwrap()).unwrap()
}

fn list<T: DeserializeOwned>(value: &Value) -> Vec<T> {
    serde_json::from_value(value.clone()).unwrap()
}

fn open(name: &str) -> Tokenizer {
    let config = read(name, "tokenizer_config.json");
    Tokenizer::from_tokenizer_json(&folder(name).join("tokenizer.json"), &[&config]).unwrap()
}

fn check(name: &str) {
    let tokenizer = open(name);
    let expected = read(name, "expected.json");
    let strings: Vec<String> = list(&expected["strings"]);
    assert!(strings.len() > 150);
    for (kind, add_special, parse_special) in
        [("special", false, true), ("plain", false, false), ("whole", true, true)]
    {
        let all: Vec<Vec<u32>> = list(&expected[kind]);
        for (text, ids) in strings.iter().zip(&all) {
            let ours = tokenizer.encode(text, EncodeOptions { add_special, parse_special }).unwrap();
            // here a token that begins the text, and the same that is added, are one
            let bos = tokenizer.bos().filter(|_| add_special && tokenizer.adds_bos());
            let is_twice = bos.is_some_and(|bos| ids.starts_with(&[bos, bos]));
            assert_eq!(ours, ids[usize::from(is_twice)..], "{name}, {kind}, {text:?}");
        }
    }
    let all: Vec<Vec<u32>> = list(&expected["special"]);
    for (kind, skip_special) in [("decoded", false), ("decoded_without_special", true)] {
        for (ids, text) in all.iter().zip(list::<String>(&expected[kind])) {
            assert_eq!(tokenizer.decode(ids, skip_special), text, "{name}, {kind}, {ids:?}");
        }
    }
}

#[test]
fn a_byte_level_tokenizer_equals_the_python_package() {
    check("byte-level");
}

#[test]
fn a_sentencepiece_tokenizer_equals_the_python_package() {
    check("sentencepiece");
}

#[test]
fn a_metaspace_tokenizer_equals_the_python_package() {
    check("metaspace");
}

#[test]
fn roles_of_tokens_come_from_the_configs() {
    let tokenizer = open("byte-level");
    assert_eq!((tokenizer.bos(), tokenizer.eos()), (Some(0), Some(2)));
    assert!(tokenizer.adds_bos() && tokenizer.is_end_of_generation(2) && !tokenizer.is_end_of_generation(1));
    let generation = serde_json::json!({"eos_token_id": [1, 2], "bos_token_id": 1});
    let path = folder("byte-level").join("tokenizer.json");
    let tokenizer = Tokenizer::from_tokenizer_json(&path, &[&Value::Null, &generation]).unwrap();
    assert_eq!((tokenizer.bos(), tokenizer.eos()), (Some(1), Some(1)));
    assert_eq!(tokenizer.end_of_generation().collect::<Vec<_>>(), [1, 2]);
    let absurd = serde_json::json!({"eos_token_id": 502});
    let error = Tokenizer::from_tokenizer_json(&path, &[&absurd]).unwrap_err();
    assert!(matches!(error, TokenizerError::IdOutOfRange { id: 502, n_vocab: 502, .. }), "{error}");
}

#[test]
fn a_directory_gives_its_tokenizer_and_its_template() {
    let directory = tempfile::tempdir().unwrap();
    let tiny = models::testdata("tiny").join("llama");
    for (from, file) in [
        (&tiny, "config.json"),
        (&tiny, "model.safetensors"),
        (&folder("byte-level"), "tokenizer.json"),
        (&folder("byte-level"), "tokenizer_config.json"),
    ] {
        std::fs::copy(from.join(file), directory.path().join(file)).unwrap();
    }
    let hf = HfDir::open(directory.path()).unwrap();
    let tokenizer = Tokenizer::from_hf_dir(&hf).unwrap();
    assert_eq!(tokenizer.bos(), Some(0));
    let template = ChatTemplate::from_hf(&hf).unwrap().unwrap();
    let messages = [Message::user("Hi <|im_end|>")];
    assert_eq!(
        template.render(&messages, &RenderOptions::default()).unwrap(),
        "<|begin|>Hi <|im_end|><|im_end|>"
    );
    let ids = template.encode(&tokenizer, &messages, &RenderOptions::default()).unwrap();
    assert_eq!(ids.iter().filter(|&&id| id == 2).count(), 1);
    assert_eq!(tokenizer.decode(&ids, false), "<|begin|>Hi <|im_end|><|im_end|>");

    std::fs::write(directory.path().join("chat_template.jinja"), "{{ eos_token }}").unwrap();
    let template = ChatTemplate::from_hf(&HfDir::open(directory.path()).unwrap()).unwrap().unwrap();
    assert_eq!(template.render(&[], &RenderOptions::default()).unwrap(), "<|im_end|>");
    std::fs::write(directory.path().join("chat_template.jinja"), "\n").unwrap();
    assert!(ChatTemplate::from_hf(&HfDir::open(directory.path()).unwrap()).unwrap().is_none());
}

#[test]
fn roles_come_from_the_files_in_the_order_of_transformers() {
    let directory = tempfile::tempdir().unwrap();
    let tiny = models::testdata("tiny").join("llama");
    for (from, file) in
        [(&tiny, "config.json"), (&tiny, "model.safetensors"), (&folder("byte-level"), "tokenizer.json")]
    {
        std::fs::copy(from.join(file), directory.path().join(file)).unwrap();
    }
    let with = |files: &[(&str, &str)]| {
        for (name, text) in files {
            std::fs::write(directory.path().join(name), text).unwrap();
        }
        let hf = HfDir::open(directory.path()).unwrap();
        let tokenizer = Tokenizer::from_hf_dir(&hf).unwrap();
        let template = ChatTemplate::for_hf(&hf, "{{ eos_token }}").unwrap();
        let prompt = template.render(&[], &RenderOptions::default()).unwrap();
        (tokenizer.eos(), tokenizer.end_of_generation().collect::<Vec<_>>(), prompt)
    };
    let (first, second) = ("<|begin|>", "<|im_end|>");
    let generation = r#"{"eos_token_id": [1, 2]}"#;
    assert_eq!(with(&[("generation_config.json", generation)]), (Some(1), vec![1, 2], String::new()));
    let map = format!(r#"{{"eos_token": {{"content": "{first}"}}}}"#);
    let config = format!(r#"{{"eos_token": "{second}"}}"#);
    let found = with(&[("tokenizer_config.json", &config)]);
    assert_eq!(found, (Some(2), vec![1, 2], second.to_string()));
    let found = with(&[("special_tokens_map.json", &map)]);
    assert_eq!(found, (Some(0), vec![0, 1, 2], first.to_string()));
    let newer = format!(r#"{{"eos_token": "{second}", "added_tokens_decoder": {{}}}}"#);
    assert_eq!(with(&[("tokenizer_config.json", &newer)]), (Some(2), vec![1, 2], second.to_string()));
}

#[test]
fn a_file_that_is_no_tokenizer_is_an_error_with_its_path() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tokenizer.json");
    let whole = std::fs::read_to_string(folder("byte-level").join("tokenizer.json")).unwrap();
    let cases = [
        "{".to_string(),
        whole[..whole.len() / 2].to_string(),
        whole.replace(
            r#""decoder":{"type":"ByteLevel""#,
            r#""decoder":{"type":"WordPiece","prefix":"x","cleanup":true,"x":"ByteLevel""#,
        ),
        whole.replace(r#""!":3,"#, r#""!":4000000000,"#),
    ];
    for text in cases {
        assert_ne!(text, whole);
        std::fs::write(&path, text).unwrap();
        let error = Tokenizer::from_tokenizer_json(&path, &[]).unwrap_err().to_string();
        assert!(error.contains("tokenizer.json: "), "{error}");
    }
}
