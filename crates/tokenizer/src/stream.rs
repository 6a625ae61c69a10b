//! Streaming decode.

use crate::Tokenizer;

/// Turns ids into text one at a time, and never gives half a UTF-8 character.
pub struct DecodeStream<'a> {
    _tokenizer: &'a Tokenizer,
}

impl<'a> DecodeStream<'a> {
    pub(crate) fn new(tokenizer: &'a Tokenizer) -> Self {
        DecodeStream { _tokenizer: tokenizer }
    }

    /// The text that is certain after one more id; possibly empty.
    pub fn push(&mut self, _id: u32) -> String {
        String::new()
    }

    /// What is left: an unfinished character becomes U+FFFD.
    pub fn finish(&mut self) -> String {
        String::new()
    }
}
