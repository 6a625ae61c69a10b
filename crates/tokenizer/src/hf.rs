//! Reading the tokenizer and the chat template of a Hugging Face directory.

use std::path::Path;

use lossy_formats::hf::HfDir;
use serde_json::Value;

use crate::json::JsonTokenizer;
use crate::tokenizer::Algorithm;
use crate::{ChatTemplate, SpecialIds, Tokenizer, TokenizerError};

impl Tokenizer {
    /// The tokenizer of a Hugging Face directory: `tokenizer.json`, with the roles of tokens from
    /// `tokenizer_config.json`, `generation_config.json` and `config.json`.
    ///
    /// # Errors
    /// A directory without `tokenizer.json`, and all errors of [`Tokenizer::from_tokenizer_json`].
    pub fn from_hf_dir(directory: &HfDir) -> Result<Self, TokenizerError> {
        let Some(path) = directory.tokenizer_json() else {
            return Err(TokenizerError::MissingKey { key: "tokenizer.json".to_string() });
        };
        let null = Value::Null;
        let configs = [
            directory.tokenizer_config().unwrap_or(&null),
            directory.generation_config().unwrap_or(&null),
            directory.config(),
        ];
        Tokenizer::from_tokenizer_json(&path, &configs)
    }

    /// The tokenizer of a `tokenizer.json`. Roles of tokens come from `configs`: `bos_token` and `eos_token` by text, or
    /// `bos_token_id` and `eos_token_id`, which may be a list; the first config that has one counts, and all of them
    /// for what ends an answer.
    ///
    /// # Errors
    /// A file that is not a tokenizer of a known kind, or an id outside the vocabulary.
    pub fn from_tokenizer_json(path: &Path, configs: &[&Value]) -> Result<Self, TokenizerError> {
        let mut parsed = JsonTokenizer::open(path)?;
        let role = |name: &str| {
            let found = |config: &&Value| {
                let by_text = token_text(&config[name]).and_then(|text| parsed.vocab.id(text)).map(u64::from);
                by_text.or_else(|| ids(&config[format!("{name}_id")]).first().copied())
            };
            configs.iter().find_map(found)
        };
        let roles = SpecialIds {
            bos: role("bos_token"),
            eos: role("eos_token"),
            unknown: role("unk_token"),
            ..SpecialIds::default()
        };
        let ends: Vec<u64> = configs.iter().flat_map(|config| ids(&config["eos_token_id"])).collect();
        // Checked here, under the names that these files have for them.
        let n_vocab = parsed.vocab.len();
        let named =
            [("bos_token_id", roles.bos), ("eos_token_id", roles.eos), ("unk_token_id", roles.unknown)];
        let all = named.into_iter().chain(ends.iter().map(|&id| ("eos_token_id", Some(id))));
        for (key, id) in all.filter_map(|(key, id)| Some((key, id?))) {
            if id >= n_vocab as u64 && id != u64::from(u32::MAX) {
                return Err(TokenizerError::IdOutOfRange { key: key.to_string(), id, n_vocab });
            }
        }
        let algorithm = Algorithm::Json(parsed.json);
        Tokenizer::assemble(parsed.vocab, &roles, &ends, |_, _| {
            Ok((algorithm, parsed.prefix.split_off(0), parsed.suffix.split_off(0), parsed.strips_space))
        })
    }
}

impl ChatTemplate {
    /// The chat template of a Hugging Face directory, if it has one: `chat_template.jinja`, or the one in
    /// `tokenizer_config.json`.
    ///
    /// # Errors
    /// A mistake in the template.
    pub fn from_hf(directory: &HfDir) -> Result<Option<Self>, TokenizerError> {
        let config = directory.tokenizer_config().unwrap_or(&Value::Null);
        let special_tokens: Vec<(String, String)> = config
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(name, _)| name.ends_with("_token"))
            .filter_map(|(name, token)| Some((name.clone(), token_text(token)?.to_string())))
            .collect();
        if let Some(source) = directory.chat_template() {
            return ChatTemplate::new(source, &special_tokens).map(Some);
        }
        match &config["chat_template"] {
            Value::String(source) => ChatTemplate::new(source, &special_tokens).map(Some),
            Value::Array(named) => {
                let find = |name: &str| {
                    named.iter().find(|t| t["name"] == name).and_then(|t| t["template"].as_str())
                };
                let Some(source) = find("default") else { return Ok(None) };
                let template = ChatTemplate::new(source, &special_tokens)?;
                match find("tool_use") {
                    Some(source) => template.with_tool_use(source).map(Some),
                    None => Ok(Some(template)),
                }
            }
            _ => Ok(None),
        }
    }
}

/// The text of a token in a config: a string, or an object with `content`.
fn token_text(token: &Value) -> Option<&str> {
    token.as_str().or_else(|| token["content"].as_str())
}

/// An id or a list of ids.
fn ids(value: &Value) -> Vec<u64> {
    match value {
        Value::Array(items) => items.iter().filter_map(Value::as_u64).collect(),
        other => other.as_u64().into_iter().collect(),
    }
}
