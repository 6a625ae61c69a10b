//! The tokenizer and the chat template of a Hugging Face directory as keys of a GGUF file.
//!
//! A GGUF names how a text is cut, where `tokenizer.json` describes it. So the description is looked up among those that have a name
//! ([`pre`](crate::pre)), and everything else that could change a token must be what that name means:
//!
//! ```text
//! tokenizer.json                                  tokenizer.ggml.*
//! BPE, byte-level, words cut as some model's      model gpt2, pre NAME, merges
//! BPE with byte fallback, spaces as ▁             model llama, scores in the order of the merges
//! added tokens                                    token_type 3 (special) or 4
//! post-processor: tokens around a text            add_bos_token, add_eos_token
//! ```
//!
//! What has no name is an error. At the end both tokenizers read a text, and must agree.

mod probe;
mod roles;
mod scores;
mod templates;
mod words;

use std::collections::BTreeMap;

use lossy_formats::gguf::{Metadata, Value};
use lossy_formats::hf::HfDir;
use lossy_formats::without_bom;
use serde_json::Value as Json;

use self::words::Words;
use crate::vocab::TokenKind;
use crate::{Tokenizer, TokenizerError};

/// GGUF's numbers of the kinds of tokens.
const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;

/// Keys and values.
pub(crate) type Entries = Vec<(String, Value)>;

/// The keys `tokenizer.*` of a directory's model, whose embedding has `n_vocab` rows.
///
/// # Errors
/// All those of [`Tokenizer::from_hf_dir`]; and [`TokenizerError::NotInGguf`] if a GGUF cannot say what the tokenizer does.
pub fn gguf_entries(directory: &HfDir, n_vocab: usize) -> Result<Vec<(String, Value)>, TokenizerError> {
    let original = Tokenizer::from_hf_dir(directory)?;
    let json = tokenizer_json(directory)?;
    if original.n_vocab() > n_vocab {
        return Err(not_in_gguf(format!(
            "the tokenizer has {} tokens, but the embedding has {n_vocab} rows",
            original.n_vocab()
        )));
    }
    let words = Words::of(&json)?;
    let added = added_tokens(&json, &words)?;
    let (tokens, types) = vocabulary(&original, &added, &words, n_vocab);
    let texts: Vec<&str> = tokens.iter().map(String::as_str).collect();
    let mut entries = Entries::new();
    let mut set = |key: &str, value: Value| entries.push((format!("tokenizer.ggml.{key}"), value));
    set("model", Value::from(words.model()));
    set("tokens", Value::from(texts.clone()));
    set("token_type", Value::from(types.clone()));
    let merges = merges(&json)?;
    match &words {
        Words::Named(pre) => {
            set("pre", Value::from(*pre));
            let joined: Vec<String> = merges.iter().map(|(left, right)| format!("{left} {right}")).collect();
            set("merges", Value::from(joined.iter().map(String::as_str).collect::<Vec<_>>()));
        }
        Words::Spaces { adds_space } => {
            set("pre", Value::from("default"));
            set("scores", Value::from(scores::scores(&texts, &types, &merges)?));
            set("add_space_prefix", Value::Bool(*adds_space));
            if original.strips_space() != *adds_space {
                return Err(not_in_gguf(format!(
                    "tokenizer.json: its normalizer {} a space before a text, but its decoder {} it",
                    if *adds_space { "puts" } else { "does not put" },
                    if *adds_space { "does not take away" } else { "takes away" },
                )));
            }
        }
    }
    entries.extend(roles::entries(&original, directory)?);
    entries.extend(templates::entries(&original, directory)?);
    let entries = roles::with_ends(entries, &original)?;
    let written = Tokenizer::from_gguf(&metadata(&entries)?)?;
    probe::compare(&original, &written, &added.into_keys().collect::<Vec<_>>())?;
    Ok(entries)
}

fn not_in_gguf(what: String) -> TokenizerError {
    TokenizerError::NotInGguf { what }
}

fn metadata(entries: &Entries) -> Result<Metadata, TokenizerError> {
    Metadata::from_entries(entries.clone()).map_err(|key| not_in_gguf(format!("key `{key}` comes twice")))
}

fn tokenizer_json(directory: &HfDir) -> Result<Json, TokenizerError> {
    let Some(path) = directory.tokenizer_json() else {
        return Err(TokenizerError::MissingKey { key: "tokenizer.json".to_string() });
    };
    let failed = |problem: String| TokenizerError::File { path: path.clone(), problem };
    let text = std::fs::read(&path).map_err(|error| failed(error.to_string()))?;
    serde_json::from_slice(without_bom(&text)).map_err(|error| failed(error.to_string()))
}

/// The added tokens by their text, and whether they are special.
fn added_tokens(json: &Json, words: &Words) -> Result<BTreeMap<String, bool>, TokenizerError> {
    let mut added = BTreeMap::new();
    for token in json["added_tokens"].as_array().into_iter().flatten() {
        let Some(text) = token["content"].as_str() else { continue };
        let flag = |name: &str| token[name].as_bool().unwrap_or(false);
        // A GGUF's tokens are found in the text as it is.
        let is_found_in_normalized = flag("normalized") && matches!(words, Words::Spaces { .. });
        let wrong = ["lstrip", "rstrip", "single_word"].into_iter().find(|name| flag(name));
        if let Some(name) = wrong.or(is_found_in_normalized.then_some("normalized")) {
            return Err(not_in_gguf(format!(
                "tokenizer.json: the added token {text:?} has `{name}`, for which GGUF has no key"
            )));
        }
        added.insert(text.to_owned(), flag("special"));
    }
    Ok(added)
}

/// Texts and types of all rows of the embedding. Rows without a token have a type that is never found in a text.
fn vocabulary(
    original: &Tokenizer,
    added: &BTreeMap<String, bool>,
    words: &Words,
    n_vocab: usize,
) -> (Vec<String>, Vec<i32>) {
    let unknown = original.unknown().filter(|_| matches!(words, Words::Spaces { .. }));
    let of = |id: u32| match (original.token_text(id), original.vocab().kind(id)) {
        (None | Some(""), _) => (format!("[PAD{id}]"), UNUSED),
        (Some(text), _) if unknown == Some(id) => (text.to_owned(), UNKNOWN),
        (Some(text), kind) => {
            let kind = match (added.get(text), kind) {
                (Some(true), _) => CONTROL,
                (Some(false), _) => USER_DEFINED,
                (None, Some(TokenKind::Byte(_))) => BYTE,
                (None, _) => NORMAL,
            };
            (text.to_owned(), kind)
        }
    };
    (0..n_vocab as u32).map(of).unzip()
}

/// Pairs of tokens, in the order in which they are joined.
fn merges(json: &Json) -> Result<Vec<(String, String)>, TokenizerError> {
    let wrong = |merge: &Json| not_in_gguf(format!("tokenizer.json: {merge} is no merge of two tokens"));
    let list = json["model"]["merges"].as_array().map_or(&[][..], Vec::as_slice);
    let pair = |merge: &Json| {
        let pair = match merge {
            Json::String(text) => text.split_once(' '),
            Json::Array(pair) => match pair.as_slice() {
                [Json::String(left), Json::String(right)] => Some((left.as_str(), right.as_str())),
                _ => None,
            },
            _ => None,
        };
        let plain = pair.filter(|(left, right)| !left.contains(' ') && !right.contains(' '));
        plain.map(|(left, right)| (left.to_owned(), right.to_owned())).ok_or_else(|| wrong(merge))
    };
    list.iter().map(pair).collect()
}

#[cfg(test)]
mod tests;
