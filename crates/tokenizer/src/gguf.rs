//! Reading the tokenizer and the chat template of a GGUF file.

use lossy_formats::gguf::{IfPresent, Metadata, MetadataError};

use crate::{ChatTemplate, SpecialIds, Tokenizer, TokenizerError, TokenizerKeys};

impl From<MetadataError> for TokenizerError {
    fn from(error: MetadataError) -> Self {
        match error {
            MetadataError::Missing { key } => TokenizerError::MissingKey { key },
            other => TokenizerError::Metadata(other),
        }
    }
}

impl Tokenizer {
    /// The tokenizer of a GGUF file.
    ///
    /// # Errors
    /// A key of another type than it should have, and all errors of [`Tokenizer::from_keys`].
    pub fn from_gguf(metadata: &Metadata) -> Result<Self, TokenizerError> {
        Tokenizer::from_keys(&TokenizerKeys::from_gguf(metadata)?)
    }
}

impl<'a> TokenizerKeys<'a> {
    /// Reads the keys.
    ///
    /// # Errors
    /// `tokenizer.ggml.model` or `tokenizer.ggml.tokens` is missing, or a key has another type than it should have.
    pub fn from_gguf(metadata: &'a Metadata) -> Result<Self, TokenizerError> {
        let key = |name: &str| format!("tokenizer.ggml.{name}");
        let id = |name: &str| metadata.u64(&key(name)).if_present();
        let flag = |name: &str| metadata.bool(&key(name)).if_present();
        let token_types = metadata.i64s(&key("token_type")).if_present()?.unwrap_or_default();
        Ok(TokenizerKeys {
            model: metadata.str(&key("model"))?,
            pre: metadata.str(&key("pre")).if_present()?,
            tokens: metadata.strings(&key("tokens"))?.iter().collect(),
            scores: match metadata.f32s(&key("scores")).if_present()? {
                Some(scores) => scores.into_owned(),
                None => Vec::new(),
            },
            // a number outside i32 is no type either
            token_types: token_types
                .into_iter()
                .map(|kind| i32::try_from(kind).unwrap_or(i32::MAX))
                .collect(),
            merges: match metadata.strings(&key("merges")).if_present()? {
                Some(merges) => merges.iter().collect(),
                None => Vec::new(),
            },
            ids: SpecialIds {
                bos: id("bos_token_id")?,
                eos: id("eos_token_id")?,
                unknown: id("unknown_token_id")?,
                eot: id("eot_token_id")?,
                eom: id("eom_token_id")?,
                fim_pad: id("fim_pad_token_id")?,
                fim_rep: id("fim_rep_token_id")?,
                fim_sep: id("fim_sep_token_id")?,
            },
            add_bos: flag("add_bos_token")?,
            add_eos: flag("add_eos_token")?,
            add_space_prefix: flag("add_space_prefix")?,
        })
    }
}

impl ChatTemplate {
    /// The chat template of a GGUF file, if it has one that is not empty.
    ///
    /// # Errors
    /// A mistake in the template, or a key of another type than it should have.
    pub fn from_gguf(metadata: &Metadata) -> Result<Option<Self>, TokenizerError> {
        let source = metadata.str("tokenizer.chat_template").if_present()?;
        let Some(source) = source.filter(|source| !source.trim().is_empty()) else { return Ok(None) };
        let template = ChatTemplate::for_gguf(metadata, source)?;
        match metadata.str("tokenizer.chat_template.tool_use").if_present()? {
            Some(source) => template.with_tool_use(source).map(Some),
            None => Ok(Some(template)),
        }
    }

    /// Another template for the model of a GGUF file, with the file's special tokens as variables.
    ///
    /// # Errors
    /// A mistake in the template, or a key of another type than it should have.
    pub fn for_gguf(metadata: &Metadata, source: &str) -> Result<Self, TokenizerError> {
        let mut special_tokens = Vec::new();
        if let Some(tokens) = metadata.strings("tokenizer.ggml.tokens").if_present()? {
            for (variable, key) in [
                ("bos_token", "bos_token_id"),
                ("eos_token", "eos_token_id"),
                ("unk_token", "unknown_token_id"),
                ("sep_token", "seperator_token_id"), // GGUF's own spelling
                ("pad_token", "padding_token_id"),
                ("cls_token", "cls_token_id"),
                ("mask_token", "mask_token_id"),
            ] {
                let id = metadata.u64(&format!("tokenizer.ggml.{key}")).if_present()?;
                let text = id.and_then(|id| usize::try_from(id).ok()).and_then(|id| tokens.get(id));
                special_tokens.extend(text.map(|text| (variable.to_string(), text.to_string())));
            }
        }
        ChatTemplate::new(source, &special_tokens)
    }
}
