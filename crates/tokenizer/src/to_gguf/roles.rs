//! Tokens with a role.

use lossy_formats::gguf::Value;
use lossy_formats::hf::HfDir;

use super::{Entries, metadata, not_in_gguf};
use crate::hf::special_texts;
use crate::{Tokenizer, TokenizerError};

/// Names in the configuration, and GGUF's keys for them; without those of begin and end, which the tokenizer itself knows.
const OTHER_ROLES: [(&str, &str); 4] = [
    ("sep_token", "seperator_token_id"), // GGUF's own spelling
    ("pad_token", "padding_token_id"),
    ("cls_token", "cls_token_id"),
    ("mask_token", "mask_token_id"),
];

/// Ids by role, and which of them stand around a text.
pub(super) fn entries(original: &Tokenizer, directory: &HfDir) -> Result<Entries, TokenizerError> {
    let mut entries = Entries::new();
    let mut set = |key: &str, value: Value| entries.push((format!("tokenizer.ggml.{key}"), value));
    let (prefix, suffix) = original.around();
    for (key, around, role) in
        [("add_bos_token", prefix, original.bos()), ("add_eos_token", suffix, original.eos())]
    {
        match around {
            [] => set(key, Value::Bool(false)),
            [id] if Some(*id) == role => set(key, Value::Bool(true)),
            ids => {
                let texts: Vec<&str> = ids.iter().filter_map(|&id| original.token_text(id)).collect();
                return Err(not_in_gguf(format!(
                    "tokenizer.json: the post-processor puts {texts:?} around a text, and GGUF has only the key `{key}` for that"
                )));
            }
        }
    }
    let own = [
        ("bos_token_id", original.bos()),
        ("eos_token_id", original.eos()),
        ("unknown_token_id", original.unknown()),
    ];
    for (key, id) in own {
        if let Some(id) = id {
            set(key, Value::U32(id));
        }
    }
    let texts = special_texts(directory);
    for (name, key) in OTHER_ROLES {
        let text = texts.iter().find(|(known, _)| known == name).map(|(_, text)| text);
        if let Some(id) = text.and_then(|text| original.token_id(text)) {
            set(key, Value::U32(id));
        }
    }
    Ok(entries)
}

/// With the keys for tokens that end an answer, where texts and `eos_token_id` do not say it.
///
/// # Errors
/// There are more such tokens than keys; or the beginning and the end of a sequence are others.
pub(super) fn with_ends(mut entries: Entries, original: &Tokenizer) -> Result<Entries, TokenizerError> {
    let mut keys = ["eot_token_id", "eom_token_id"].into_iter();
    loop {
        let written = Tokenizer::from_gguf(&metadata(&entries)?)?;
        for (what, found, wanted) in
            [("begins", written.bos(), original.bos()), ("ends", written.eos(), original.eos())]
        {
            if found != wanted {
                return Err(not_in_gguf(format!(
                    "the configuration names no token that {what} a sequence, and a GGUF of a SentencePiece tokenizer always has one"
                )));
            }
        }
        if let Some(more) = written.end_of_generation().find(|&id| !original.is_end_of_generation(id)) {
            return Err(not_in_gguf(format!(
                "token {more} does not end an answer in the directory, and would do so in a GGUF"
            )));
        }
        let missing = original.end_of_generation().find(|&id| !written.is_end_of_generation(id));
        match (missing, keys.next()) {
            (None, _) => return Ok(entries),
            (Some(id), Some(key)) => entries.push((format!("tokenizer.ggml.{key}"), Value::U32(id))),
            (Some(id), None) => {
                return Err(not_in_gguf(format!(
                    "`eos_token_id` has more tokens that end an answer than GGUF has keys for: no key is left for {id} ({:?})",
                    original.token_text(id).unwrap_or_default()
                )));
            }
        }
    }
}
