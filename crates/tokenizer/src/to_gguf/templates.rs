//! Chat templates.

use lossy_formats::gguf::Value;
use lossy_formats::hf::HfDir;
use serde_json::Value as Json;

use super::{Entries, not_in_gguf};
use crate::hf::special_texts;
use crate::{Tokenizer, TokenizerError};

/// Variables that a template gets from a GGUF: see [`ChatTemplate::for_gguf`](crate::ChatTemplate::for_gguf).
const VARIABLES: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// The template, and others by name.
pub(super) fn entries(original: &Tokenizer, directory: &HfDir) -> Result<Entries, TokenizerError> {
    let config = directory.tokenizer_config().unwrap_or(&Json::Null);
    let mut templates: Vec<(String, &str)> = Vec::new();
    if let Some(own) = directory.chat_template().or_else(|| config["chat_template"].as_str()) {
        templates.push(("default".to_owned(), own));
    } else {
        for template in config["chat_template"].as_array().into_iter().flatten() {
            match (template["name"].as_str(), template["template"].as_str()) {
                (Some(name), Some(source)) => templates.push((name.to_owned(), source)),
                _ => {
                    return Err(not_in_gguf(
                        "tokenizer_config.json: a chat template without name or text".to_owned(),
                    ));
                }
            }
        }
    }
    templates.retain(|(_, source)| !source.trim().is_empty());
    for (name, text) in special_texts(directory) {
        let is_had = VARIABLES.contains(&name.as_str()) && original.token_id(&text).is_some();
        if let Some((template, _)) = templates.iter().find(|(_, source)| !is_had && source.contains(&name)) {
            return Err(not_in_gguf(format!(
                "the chat template `{template}` uses `{name}` ({text:?}), for which GGUF has no key{}",
                if VARIABLES.contains(&name.as_str()) { ", since it is no token" } else { "" }
            )));
        }
    }
    let mut entries = Entries::new();
    let mut names = Vec::new();
    for (name, source) in &templates {
        let key = match name.as_str() {
            "default" => "tokenizer.chat_template".to_owned(),
            name => {
                names.push(name);
                format!("tokenizer.chat_template.{name}")
            }
        };
        entries.push((key, Value::from(*source)));
    }
    if !names.is_empty() {
        entries.push(("tokenizer.chat_templates".to_owned(), Value::from(names)));
    }
    Ok(entries)
}
