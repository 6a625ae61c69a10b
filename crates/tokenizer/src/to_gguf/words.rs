//! How a `tokenizer.json` cuts words, by the name that GGUF has for it.

use serde_json::Value as Json;

use super::not_in_gguf;
use crate::TokenizerError;
use crate::pre::{gpt2, name_of};

/// How a text becomes the pieces that tokens are made of.
#[derive(Debug, PartialEq)]
pub(super) enum Words {
    /// bytes, within words that are cut as this pre-tokenizer cuts them
    Named(&'static str),
    /// characters, with ▁ for a space, without words
    Spaces {
        /// one is put before a text
        adds_space: bool,
    },
}

impl Words {
    /// # Errors
    /// GGUF has no name for it.
    pub(super) fn of(json: &Json) -> Result<Words, TokenizerError> {
        let model = &json["model"];
        // Old files do not say.
        if model["type"].as_str().is_some_and(|kind| kind != "BPE") || !model["merges"].is_array() {
            return Err(not_in_gguf(format!(
                "tokenizer.json: a tokenizer of type {}; only BPE can be written",
                model["type"]
            )));
        }
        for key in ["dropout", "continuing_subword_prefix", "end_of_word_suffix"] {
            let value = &model[key];
            if !(value.is_null() || value == "" || value.as_f64() == Some(0.0)) {
                return Err(not_in_gguf(format!(
                    "tokenizer.json: `model.{key}` is {value}, for which GGUF has no key"
                )));
            }
        }
        let flag = |key: &str| model[key].as_bool().unwrap_or(false);
        match flag("byte_fallback") {
            true => spaces(json, flag("ignore_merges")),
            false => named(json, flag("ignore_merges")),
        }
    }

    /// `tokenizer.ggml.model`.
    pub(super) fn model(&self) -> &'static str {
        match self {
            Words::Named(_) => "gpt2",
            Words::Spaces { .. } => "llama",
        }
    }
}

fn spaces(json: &Json, ignores_merges: bool) -> Result<Words, TokenizerError> {
    let has_words = !json["pre_tokenizer"].is_null();
    if has_words || ignores_merges {
        let (key, value) = match has_words {
            true => ("pre_tokenizer", json["pre_tokenizer"].clone()),
            false => ("model.ignore_merges", Json::Bool(true)),
        };
        return Err(not_in_gguf(format!(
            "tokenizer.json: `{key}` is {value}, which GGUF's SentencePiece tokenizer cannot do: it puts a space before every \
             piece of text, or before none"
        )));
    }
    let prepends = |step: &Json| step["type"] == "Prepend" && step["prepend"] == "▁";
    let replaces =
        |step: &Json| step["type"] == "Replace" && step["pattern"]["String"] == " " && step["content"] == "▁";
    match steps(&json["normalizer"], "normalizers").as_slice() {
        [first, second] if prepends(first) && replaces(second) => Ok(Words::Spaces { adds_space: true }),
        [only] if replaces(only) => Ok(Words::Spaces { adds_space: false }),
        _ => Err(not_in_gguf(format!(
            "tokenizer.json: the normalizer {} is none that a GGUF has a key for",
            json["normalizer"]
        ))),
    }
}

fn named(json: &Json, ignores_merges: bool) -> Result<Words, TokenizerError> {
    let is_composed = match steps(&json["normalizer"], "normalizers").as_slice() {
        [] => false,
        [only] if only["type"] == "NFC" => true,
        _ => {
            return Err(not_in_gguf(format!(
                "tokenizer.json: the normalizer {} is none that a GGUF has a key for",
                json["normalizer"]
            )));
        }
    };
    let mut patterns = Vec::new();
    let mut is_byte_level = false;
    for step in steps(&json["pre_tokenizer"], "pretokenizers") {
        let flag = |key: &str, default: bool| step[key].as_bool().unwrap_or(default);
        let is_isolated = step["behavior"] == "Isolated" && !flag("invert", false);
        match (step["type"].as_str(), step["pattern"]["Regex"].as_str()) {
            (Some("Split"), Some(pattern)) if is_isolated => patterns.push(pattern.to_owned()),
            (Some("Digits"), _) if flag("individual_digits", false) => patterns.push(r"\p{N}".to_owned()),
            (Some("Digits"), _) => patterns.push(r"\p{N}+".to_owned()),
            (Some("ByteLevel"), _) if !flag("add_prefix_space", true) => {
                patterns.extend(flag("use_regex", true).then(gpt2));
                is_byte_level = true;
            }
            _ => {
                return Err(not_in_gguf(format!(
                    "tokenizer.json: the pre-tokenizer {step} is none that a GGUF has a name for"
                )));
            }
        }
    }
    if !is_byte_level {
        return Err(not_in_gguf(
            "tokenizer.json: neither byte-level nor with byte fallback: GGUF has no such BPE".to_owned(),
        ));
    }
    name_of(&patterns, ignores_merges, is_composed).map(Words::Named).ok_or_else(|| {
        let normalization = if is_composed { "NFC" } else { "no" };
        not_in_gguf(format!(
            "tokenizer.json: no pre-tokenizer that GGUF has a name for cuts words by {patterns:?} with `ignore_merges` \
             {ignores_merges} and {normalization} normalization"
        ))
    })
}

/// The steps of a sequence, of a single step, or of nothing.
fn steps<'a>(json: &'a Json, list: &str) -> Vec<&'a Json> {
    match json[list].as_array() {
        Some(steps) => steps.iter().collect(),
        None if json.is_null() => Vec::new(),
        None => vec![json],
    }
}
