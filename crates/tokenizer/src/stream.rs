//! Streaming decode.

use crate::Tokenizer;
use crate::vocab::TokenKind;

/// Turns ids into text one at a time.
///
/// A token may end inside a UTF-8 character, so the bytes of an unfinished one wait for the next token. Bytes that can
/// no longer become a character are U+FFFD, as `String::from_utf8_lossy` has them. The texts of all
/// [`push`](Self::push)es and of [`finish`](Self::finish), one after another, are [`Tokenizer::decode`] of all ids.
#[derive(Debug, Clone)]
pub struct DecodeStream {
    tokenizer: Tokenizer,
    /// Bytes that do not make a character yet: at most 3 between calls.
    pending: Vec<u8>,
    skip_special: bool,
    /// The next text follows the beginning or a special token, so its space may be SentencePiece's own.
    strip_space: bool,
}

impl DecodeStream {
    pub(crate) fn new(tokenizer: Tokenizer, skip_special: bool, strip_space: bool) -> Self {
        DecodeStream { tokenizer, pending: Vec::new(), skip_special, strip_space }
    }

    /// Also prints control tokens, such as `<|im_end|>`.
    #[must_use]
    pub fn with_special(mut self) -> Self {
        self.skip_special = false;
        self
    }

    /// The text that is certain after one more id; possibly empty. An id outside the vocabulary prints nothing.
    pub fn push(&mut self, id: u32) -> String {
        let mut out = String::new();
        self.push_to(id, &mut out);
        out
    }

    /// The same, appended to `out`.
    pub fn push_to(&mut self, id: u32, out: &mut String) {
        let vocab = self.tokenizer.vocab();
        let before = self.pending.len();
        match vocab.kind(id) {
            None => return,
            Some(TokenKind::Control | TokenKind::Unknown) if self.skip_special => return,
            Some(_) => vocab.print(id, &mut self.pending),
        }
        if self.strip_space && self.pending.len() > before {
            self.strip_space = false;
            let text = matches!(vocab.kind(id), Some(TokenKind::Normal | TokenKind::Unused));
            if text && self.pending[before] == b' ' {
                self.pending.remove(before);
            }
        }
        self.flush(false, out);
    }

    /// What is left: an unfinished character becomes U+FFFD. The stream can be used again afterwards.
    pub fn finish(&mut self) -> String {
        let mut out = String::new();
        self.flush(true, &mut out);
        out
    }

    /// Moves what is certain from `pending` to `out`.
    fn flush(&mut self, all: bool, out: &mut String) {
        let mut at = 0;
        loop {
            match std::str::from_utf8(&self.pending[at..]) {
                Ok(text) => {
                    out.push_str(text);
                    at = self.pending.len();
                    break;
                }
                Err(error) => {
                    let valid = at + error.valid_up_to();
                    out.push_str(&String::from_utf8_lossy(&self.pending[at..valid]));
                    at = valid;
                    match error.error_len() {
                        Some(n_bad) => {
                            out.push(char::REPLACEMENT_CHARACTER);
                            at += n_bad;
                        }
                        None if all => {
                            out.push(char::REPLACEMENT_CHARACTER);
                            at = self.pending.len();
                            break;
                        }
                        None => break,
                    }
                }
            }
        }
        self.pending.drain(..at);
    }
}
