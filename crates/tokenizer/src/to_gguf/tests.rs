//! Ids are those that the Python package `tokenizers` gives: `tools/make_tokenizer_json_fixtures.py`.

use std::fs;
use std::path::Path;

use lossy_testkit::{testdata, tiny_directory};
use serde_json::{Value as Json, json};
use unicode_normalization_alignments::UnicodeNormalization;

use super::*;
use crate::EncodeOptions;

/// The tokenizer of `testdata/tokenizer_json/NAME`, changed, beside the weights of a tiny model, which are not looked at.
fn directory(folder: &Path, name: &str, change: impl FnOnce(&mut Json)) -> HfDir {
    let directory = tiny_directory::write(folder, "llama");
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        let from = testdata().join("tokenizer_json").join(name).join(file);
        fs::copy(from, directory.join(file)).unwrap();
    }
    tiny_directory::change_json(&directory.join("tokenizer.json"), change);
    HfDir::open(&directory).unwrap()
}

fn expected(name: &str) -> Json {
    let path = testdata().join("tokenizer_json").join(name).join("expected.json");
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn written(directory: &HfDir, n_vocab: usize) -> (Metadata, Tokenizer) {
    let metadata = metadata(&gguf_entries(directory, n_vocab).unwrap()).unwrap();
    let tokenizer = Tokenizer::from_gguf(&metadata).unwrap();
    (metadata, tokenizer)
}

fn error(directory: &HfDir) -> String {
    gguf_entries(directory, 1024).unwrap_err().to_string()
}

/// The fixture has a token with `lstrip` and `single_word`, and composes characters, neither of which a GGUF of Llama 3 does.
fn as_llama3(json: &mut Json) {
    json["normalizer"] = Json::Null;
    json["added_tokens"].as_array_mut().unwrap().retain(|token| token["content"] != "<word>");
}

#[test]
fn a_byte_level_tokenizer_has_the_ids_of_the_python_package() {
    let folder = tempfile::tempdir().unwrap();
    let (metadata, tokenizer) = written(&directory(folder.path(), "byte-level", as_llama3), 512);
    assert_eq!(metadata.str("tokenizer.ggml.pre"), Ok("llama-bpe"));
    assert_eq!(metadata.bool("tokenizer.ggml.add_bos_token"), Ok(true));
    assert_eq!(metadata.strings("tokenizer.ggml.tokens").unwrap().len(), 512);
    let types = metadata.i64s("tokenizer.ggml.token_type").unwrap();
    assert_eq!((types[0], types[3], types[500], types[511]), (3, 1, 4, 5));
    let expected = expected("byte-level");
    let texts = expected["strings"].as_array().unwrap();
    let mut n_compared = 0;
    for (at, text) in texts.iter().map(|text| text.as_str().unwrap()).enumerate() {
        let is_composed = text.nfc().map(|(character, _)| character).eq(text.chars());
        if !is_composed || text.contains("<word>") {
            continue;
        }
        for (kind, parse_special) in [("special", true), ("plain", false)] {
            let ids = tokenizer.encode(text, EncodeOptions { add_special: false, parse_special }).unwrap();
            assert_eq!(json!(ids), expected[kind][at], "{kind} {text:?}");
        }
        n_compared += 1;
    }
    assert!(n_compared > 140, "{n_compared}");
}

/// All pairs of tokens that make a token, those of one token together, in the order of the fixture's own: as merges of a SentencePiece
/// model are made.
fn with_all_merges(json: &mut Json) {
    let vocab = json["model"]["vocab"].as_object().unwrap().clone();
    let is_plain = |text: &str| vocab.contains_key(text) && !text.starts_with('<');
    let mut made: Vec<String> = Vec::new();
    for merge in json["model"]["merges"].as_array().unwrap() {
        let token = format!("{}{}", merge[0].as_str().unwrap(), merge[1].as_str().unwrap());
        if !made.contains(&token) {
            made.push(token);
        }
    }
    let splits = |token: &String| {
        let at: Vec<usize> = token.char_indices().skip(1).map(|(at, _)| at).collect();
        at.into_iter()
            .map(|at| token.split_at(at))
            .map(|(l, r)| (l.to_owned(), r.to_owned()))
            .collect::<Vec<_>>()
    };
    let merges: Vec<(String, String)> =
        made.iter().flat_map(splits).filter(|(l, r)| is_plain(l) && is_plain(r)).collect();
    json["model"]["merges"] = json!(merges);
}

#[test]
fn merges_become_scores_with_the_same_ids() {
    let folder = tempfile::tempdir().unwrap();
    let directory = directory(folder.path(), "sentencepiece", with_all_merges);
    let (metadata, tokenizer) = written(&directory, 506);
    assert_eq!(metadata.str("tokenizer.ggml.model"), Ok("llama"));
    assert_eq!(metadata.bool("tokenizer.ggml.add_space_prefix"), Ok(true));
    let types = metadata.i64s("tokenizer.ggml.token_type").unwrap();
    assert_eq!((types[0], types[1], types[3], types[300]), (2, 3, 6, 1));
    let original = Tokenizer::from_hf_dir(&directory).unwrap();
    for text in expected("sentencepiece")["strings"].as_array().unwrap() {
        let text = text.as_str().unwrap();
        for parse_special in [true, false] {
            let options = EncodeOptions { add_special: true, parse_special };
            let [wanted, found] = [&original, &tokenizer].map(|side| side.encode(text, options).unwrap());
            assert_eq!(found, wanted, "{text:?}");
            assert_eq!(tokenizer.decode(&found, true), original.decode(&wanted, true));
        }
    }
}

#[test]
fn what_a_gguf_cannot_say_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let told =
        |name: &str, change: &dyn Fn(&mut Json)| error(&directory(folder.path(), name, |json| change(json)));
    let same = |_: &mut Json| {};
    let line = told("byte-level", &|json| json["normalizer"] = Json::Null);
    assert!(line.contains("<word>") && line.contains("lstrip"), "{line}");
    let line = told("byte-level", &|json| {
        as_llama3(json);
        json["normalizer"] = json!({"type": "NFC"});
    });
    assert!(line.contains("NFC") && line.contains(r"\\p{N}{1,3}"), "{line}");
    let line = told("byte-level", &|json| {
        as_llama3(json);
        json["normalizer"] = json!({"type": "Lowercase"});
    });
    assert!(line.contains("Lowercase"), "{line}");
    let line = told("byte-level", &|json| {
        as_llama3(json);
        json["pre_tokenizer"]["pretokenizers"][1]["add_prefix_space"] = json!(true);
    });
    assert!(line.contains("add_prefix_space"), "{line}");
    let line = told("byte-level", &|json| {
        as_llama3(json);
        json["post_processor"]["single"][0]["SpecialToken"]["id"] = json!("<|im_start|>");
        json["post_processor"]["special_tokens"] =
            json!({"<|im_start|>": {"id": "<|im_start|>", "ids": [1], "tokens": ["<|im_start|>"]}});
    });
    assert!(line.contains("<|im_start|>") && line.contains("add_bos_token"), "{line}");
    let line = told("metaspace", &same);
    assert!(line.contains("pre_tokenizer") && line.contains("Metaspace"), "{line}");
    let line = told("sentencepiece", &|json| {
        with_all_merges(json);
        json["model"]["merges"].as_array_mut().unwrap().remove(0);
    });
    assert!(line.contains("no merge joins them") || line.contains("do not stand together"), "{line}");
    let line = gguf_entries(&directory(folder.path(), "byte-level", as_llama3), 400).unwrap_err().to_string();
    assert!(line.contains("501 tokens") && line.contains("400 rows"), "{line}");
}

#[test]
fn further_ends_get_keys_as_long_as_there_are_any() {
    let folder = tempfile::tempdir().unwrap();
    let open = |ids: Json| {
        directory(folder.path(), "byte-level", as_llama3);
        let path = folder.path().join("llama");
        tiny_directory::write_json(&path.join("generation_config.json"), &json!({"eos_token_id": ids}));
        HfDir::open(&path).unwrap()
    };
    let (metadata, tokenizer) = written(&open(json!([2, 10, 11])), 501);
    assert_eq!(tokenizer.end_of_generation().collect::<Vec<_>>(), [2, 10, 11]);
    assert_eq!(
        ["eot", "eom"].map(|name| metadata.u64(&format!("tokenizer.ggml.{name}_token_id")).unwrap()),
        [10, 11]
    );
    let line = error(&open(json!([2, 10, 11, 12])));
    assert!(line.contains("eos_token_id") && line.contains("12"), "{line}");
}

#[test]
fn a_template_with_a_variable_that_no_key_has_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let with = |template: &str| {
        directory(folder.path(), "byte-level", as_llama3);
        let path = folder.path().join("llama");
        tiny_directory::change_json(&path.join("tokenizer_config.json"), |config| {
            config["image_token"] = json!("<image>");
            config["chat_template"] = json!([
                {"name": "default", "template": template},
                {"name": "tool_use", "template": "{{ tools }}"},
            ]);
        });
        HfDir::open(&path).unwrap()
    };
    let line = error(&with("{{ image_token }}"));
    assert!(line.contains("image_token") && line.contains("<image>"), "{line}");
    let (metadata, _) = written(&with("{{ bos_token }}"), 501);
    assert_eq!(metadata.str("tokenizer.chat_template"), Ok("{{ bos_token }}"));
    assert_eq!(metadata.str("tokenizer.chat_template.tool_use"), Ok("{{ tools }}"));
    assert_eq!(
        metadata.strings("tokenizer.chat_templates").unwrap().iter().collect::<Vec<_>>(),
        ["tool_use"]
    );
}
