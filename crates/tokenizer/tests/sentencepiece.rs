//! Token ids of SentencePiece vocabularies equal those of sentencepiece and llama.cpp:
//! `tools/make_sentencepiece_fixtures.py`.

mod models;

use lossy_tokenizer::{EncodeOptions, SpecialIds, Tokenizer, TokenizerKeys};
use serde_json::Value;

fn read(name: &str) -> Value {
    let path = models::testdata("tokens").join(name);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn list<T: serde::de::DeserializeOwned>(value: &Value) -> Vec<T> {
    serde_json::from_value(value.clone()).unwrap()
}

fn tokenizer(keys: &Value) -> Tokenizer {
    let tokens: Vec<String> = list(&keys["tokens"]);
    let keys = TokenizerKeys {
        model: "llama",
        tokens: tokens.iter().map(String::as_str).collect(),
        scores: list(&keys["scores"]),
        token_types: list(&keys["token_types"]),
        ids: SpecialIds { bos: Some(1), eos: Some(2), unknown: Some(0), ..SpecialIds::default() },
        add_space_prefix: keys["add_space_prefix"].as_bool(),
        ..TokenizerKeys::default()
    };
    Tokenizer::from_keys(&keys).unwrap()
}

#[test]
fn ids_equal_those_of_sentencepiece_and_llama_cpp() {
    let fixture = read("sentencepiece.json");
    let max_characters = fixture["max_characters"].as_u64().unwrap() as usize;
    let mut texts: Vec<String> = list(&read("strings.json"));
    texts.retain(|text| text.chars().count() <= max_characters);
    texts.extend(list::<String>(&fixture["more_strings"]));
    assert!(texts.len() >= 500);
    let mut wrong = Vec::new();
    for vocab in fixture["vocabs"].as_array().unwrap() {
        let tokenizer = tokenizer(&vocab["keys"]);
        for kind in ["plain", "special"] {
            let Some(all) = vocab.get(kind) else { continue };
            let all: Vec<Vec<u32>> = list(all);
            assert_eq!(all.len(), texts.len());
            let options = EncodeOptions { add_special: false, parse_special: kind == "special" };
            for (text, theirs) in texts.iter().zip(&all) {
                let ours = tokenizer.encode(text, options).unwrap();
                if &ours != theirs {
                    let spell = |ids: &[u32]| {
                        ids.iter().map(|&id| tokenizer.token_text(id).unwrap()).collect::<Vec<_>>()
                    };
                    wrong.push(format!(
                        "{}, {kind}, {text:?}: ours {:?} theirs {:?}",
                        vocab["name"],
                        spell(&ours),
                        spell(theirs)
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} differ\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn a_text_comes_back_where_every_byte_has_a_token() {
    let fixture = read("sentencepiece.json");
    for vocab in fixture["vocabs"].as_array().unwrap().iter().filter(|vocab| vocab["name"] != "no bytes") {
        let tokenizer = tokenizer(&vocab["keys"]);
        for text in list::<String>(&read("strings.json")).iter().filter(|text| !text.contains('▁')) {
            let ids = tokenizer.encode(text, EncodeOptions::default()).unwrap();
            assert_eq!(ids[0], 1);
            assert_eq!(&tokenizer.decode(&ids, true), text);
        }
    }
}

#[test]
fn a_continuation_keeps_its_space_and_a_beginning_loses_it() {
    let tokenizer = tokenizer(&read("sentencepiece.json")["vocabs"][0]["keys"]);
    let ids = tokenizer.encode("of the", EncodeOptions { add_special: true, parse_special: false }).unwrap();
    let (start, rest) = ids.split_at(2);
    assert_eq!(tokenizer.token_text(start[1]), Some("▁of"));
    let text = |mut stream: lossy_tokenizer::DecodeStream, ids: &[u32]| {
        ids.iter().map(|&id| stream.push(id)).collect::<String>() + &stream.finish()
    };
    assert_eq!(text(tokenizer.stream_after(start), rest), " the");
    assert_eq!(text(tokenizer.stream_after(&start[..1]), &ids[1..]), "of the");
    assert_eq!(text(tokenizer.stream(), &ids), "of the");
}
