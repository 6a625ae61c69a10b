//! The tokenizer: text to ids and back.

use crate::{DecodeStream, TokenizerError, TokenizerKeys};

/// What [`Tokenizer::encode`] does beyond the text itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncodeOptions {
    /// Put the begin- and end-of-sequence tokens where the model's keys ask for them.
    pub add_special: bool,
    /// Read the text of a control token, such as `<|im_start|>`, as that token. Off, it is plain text: a user's words
    /// cannot open a new turn. User-defined tokens, which mean nothing to a chat template, are read in both cases.
    pub parse_special: bool,
}

impl Default for EncodeOptions {
    fn default() -> Self {
        EncodeOptions { add_special: true, parse_special: false }
    }
}

/// Text to token ids and back.
pub struct Tokenizer {
    keys: TokenizerKeys,
}

impl Tokenizer {
    /// Builds the pipeline from the keys of a model file.
    pub fn from_keys(keys: TokenizerKeys) -> Result<Self, TokenizerError> {
        Ok(Tokenizer { keys })
    }

    /// Token ids of `text`.
    pub fn encode(&self, _text: &str, _options: EncodeOptions) -> Result<Vec<u32>, TokenizerError> {
        Err(TokenizerError::Encode("not built yet".to_string()))
    }

    /// The text of `ids`; bytes that are not UTF-8 become U+FFFD.
    pub fn decode(&self, _ids: &[u32], _skip_special: bool) -> String {
        String::new()
    }

    /// The bytes that a token prints.
    pub fn token_bytes(&self, _id: u32) -> Option<Vec<u8>> {
        None
    }

    /// The token as the vocabulary spells it.
    pub fn token_text(&self, id: u32) -> Option<&str> {
        self.keys.tokens.get(id as usize).map(String::as_str)
    }

    /// Number of tokens.
    pub fn n_vocab(&self) -> usize {
        self.keys.tokens.len()
    }

    /// The token that begins a sequence.
    pub fn bos(&self) -> Option<u32> {
        None
    }

    /// The token that ends a sequence.
    pub fn eos(&self) -> Option<u32> {
        None
    }

    /// Whether generation ends when the model says this token.
    pub fn is_end_of_generation(&self, _id: u32) -> bool {
        false
    }

    /// Whether the token is a control token, which prints nothing.
    pub fn is_special(&self, _id: u32) -> bool {
        false
    }

    /// Starts to decode a stream of ids.
    pub fn stream(&self) -> DecodeStream<'_> {
        DecodeStream::new(self)
    }
}
