//! Reading the tokenizer and the chat template of a Hugging Face directory.

use std::path::Path;

use lossy_formats::hf::HfDir;
use serde_json::{Map, Value};

use crate::json::JsonTokenizer;
use crate::tokenizer::Algorithm;
use crate::{ChatTemplate, SpecialIds, Tokenizer, TokenizerError};

impl Tokenizer {
    /// The tokenizer of a Hugging Face directory: `tokenizer.json`, with the roles of tokens from
    /// `tokenizer_config.json` or `special_tokens_map.json`, then `generation_config.json`, then `config.json`.
    ///
    /// # Errors
    /// A directory without `tokenizer.json`, and all errors of [`Tokenizer::from_tokenizer_json`].
    pub fn from_hf_dir(directory: &HfDir) -> Result<Self, TokenizerError> {
        let Some(path) = directory.tokenizer_json() else {
            return Err(TokenizerError::MissingKey { key: "tokenizer.json".to_string() });
        };
        let special_tokens = Value::Object(special_tokens(directory));
        let null = Value::Null;
        let configs = [&special_tokens, directory.generation_config().unwrap_or(&null), directory.config()];
        Tokenizer::from_tokenizer_json(&path, &configs)
    }

    /// The tokenizer of a `tokenizer.json`. Roles of tokens come from `configs`: `bos_token` and `eos_token` by text, or
    /// `bos_token_id` and `eos_token_id`, which may be a list. Of each the first config that has it counts. An answer ends
    /// with the token that ends a sequence, and with all of the first `eos_token_id`.
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
        let ends = configs.iter().map(|config| ids(&config["eos_token_id"])).find(|ids| !ids.is_empty());
        let ends = ends.unwrap_or_default();
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
    /// The chat template of a Hugging Face directory, if it has one that is not empty: `chat_template.jinja`, or the one
    /// in `tokenizer_config.json`.
    ///
    /// # Errors
    /// A mistake in the template.
    pub fn from_hf(directory: &HfDir) -> Result<Option<Self>, TokenizerError> {
        let config = directory.tokenizer_config().unwrap_or(&Value::Null);
        let named = |name: &str| {
            let named = config["chat_template"].as_array()?;
            named.iter().find(|template| template["name"] == name)?["template"].as_str()
        };
        let own = directory.chat_template().or_else(|| config["chat_template"].as_str());
        let tool_use = if own.is_none() { named("tool_use") } else { None };
        let Some(source) = own.or_else(|| named("default")).filter(|source| !source.trim().is_empty()) else {
            return Ok(None);
        };
        let template = ChatTemplate::for_hf(directory, source)?;
        match tool_use {
            Some(source) => template.with_tool_use(source).map(Some),
            None => Ok(Some(template)),
        }
    }

    /// Another template for the model of a directory, with the directory's special tokens as variables.
    ///
    /// # Errors
    /// A mistake in the template.
    pub fn for_hf(directory: &HfDir, source: &str) -> Result<Self, TokenizerError> {
        ChatTemplate::new(source, &special_texts(directory))
    }
}

/// The texts of special tokens by name (`bos_token`).
pub(crate) fn special_texts(directory: &HfDir) -> Vec<(String, String)> {
    let tokens = special_tokens(directory);
    let text = |(name, token): (&String, &Value)| Some((name.clone(), token_text(token)?.to_string()));
    tokens.iter().filter_map(text).collect()
}

/// The special tokens by name (`bos_token`). As in transformers, `special_tokens_map.json` comes before
/// `tokenizer_config.json`, but only if the latter has no `added_tokens_decoder`, which newer files have.
fn special_tokens(directory: &HfDir) -> Map<String, Value> {
    let fields = |json: Option<&Value>| json.and_then(Value::as_object).cloned().unwrap_or_default();
    let mut tokens = fields(directory.tokenizer_config());
    if !tokens.contains_key("added_tokens_decoder") {
        tokens.extend(fields(directory.special_tokens_map()));
    }
    tokens.retain(|name, token| name.ends_with("_token") && token_text(token).is_some());
    tokens
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
