//! The vocabulary: the text, kind and printed bytes of every token.
//!
//! All texts lie in one string; a hash table of ids finds a text's token. So a vocabulary of 151,936 tokens is three
//! allocations, and costs about 3 MB.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use crate::TokenizerError;
use crate::bytes::byte_of_char;

/// What a token is for: `tokenizer.ggml.token_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenKind {
    /// Text.
    Normal,
    /// Stands for text that has no token.
    Unknown,
    /// Steers the model (`<|im_start|>`); prints nothing.
    Control,
    /// Text that is found before the text around it is cut (`<tool_call>`).
    UserDefined,
    /// A free place of the vocabulary.
    Unused,
    /// One byte, spelled `<0x0A>`.
    Byte(u8),
}

/// How a normal token spells its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spelling {
    /// Every byte is one printable character: GPT-2's table, [`crate::bytes`].
    ByteLevel,
    /// UTF-8 with ▁ for a space: SentencePiece.
    Metaspace,
}

/// Texts, kinds and ids of all tokens.
pub(crate) struct Vocab {
    /// All texts, one after another.
    text: String,
    /// Where each token's text ends in `text`.
    ends: Vec<u32>,
    kinds: Vec<TokenKind>,
    ids: HashTable<u32>,
    hasher: DefaultHashBuilder,
    spelling: Spelling,
}

impl Vocab {
    /// Builds the table; the position of a text is its id. An empty text takes an id and is never found.
    ///
    /// # Errors
    /// Two tokens of the same text, a byte token that names no byte, or more text than 4 GiB.
    pub(crate) fn new<'a>(
        tokens: impl ExactSizeIterator<Item = (&'a str, TokenKind)>,
        spelling: Spelling,
    ) -> Result<Self, TokenizerError> {
        let too_large = |what: &str| TokenizerError::BadKey {
            key: "tokenizer.ggml.tokens".to_string(),
            problem: format!("{what} exceed what 32 bits count"),
        };
        if u32::try_from(tokens.len()).is_err() {
            return Err(too_large("the tokens"));
        }
        let mut vocab = Vocab {
            text: String::new(),
            ends: Vec::with_capacity(tokens.len()),
            kinds: Vec::with_capacity(tokens.len()),
            ids: HashTable::with_capacity(tokens.len()),
            hasher: DefaultHashBuilder::default(),
            spelling,
        };
        for (token, kind) in tokens {
            let id = vocab.ends.len() as u32;
            if let Some(first) = vocab.id(token) {
                return Err(TokenizerError::DuplicateToken { text: token.to_string(), first, second: id });
            }
            vocab.text.push_str(token);
            vocab.ends.push(u32::try_from(vocab.text.len()).map_err(|_| too_large("the tokens' texts"))?);
            vocab.kinds.push(kind);
            if !token.is_empty() {
                let (text, ends, hasher) = (&vocab.text, &vocab.ends, &vocab.hasher);
                vocab
                    .ids
                    .insert_unique(hasher.hash_one(token), id, |&id| hasher.hash_one(slice(text, ends, id)));
            }
        }
        Ok(vocab)
    }

    /// Number of tokens.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The token of a text.
    pub(crate) fn id(&self, text: &str) -> Option<u32> {
        self.ids.find(self.hasher.hash_one(text), |&id| slice(&self.text, &self.ends, id) == text).copied()
    }

    /// The text of a token, as the file spells it.
    pub(crate) fn text(&self, id: u32) -> Option<&str> {
        ((id as usize) < self.ends.len()).then(|| slice(&self.text, &self.ends, id))
    }

    /// What a token is for.
    pub(crate) fn kind(&self, id: u32) -> Option<TokenKind> {
        self.kinds.get(id as usize).copied()
    }

    /// Makes a token a control token.
    pub(crate) fn mark_control(&mut self, id: u32) {
        self.kinds[id as usize] = TokenKind::Control;
    }

    /// Ids, texts and kinds in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &str, TokenKind)> {
        self.kinds
            .iter()
            .enumerate()
            .map(|(i, &kind)| (i as u32, slice(&self.text, &self.ends, i as u32), kind))
    }

    /// Appends the bytes that a token prints. A control token prints its own text: who wants silence leaves it out.
    /// An unused token and an id outside the vocabulary print nothing.
    pub(crate) fn print(&self, id: u32, out: &mut Vec<u8>) {
        let (Some(kind), Some(text)) = (self.kind(id), self.text(id)) else { return };
        match kind {
            TokenKind::Byte(byte) => out.push(byte),
            TokenKind::Control | TokenKind::Unknown | TokenKind::UserDefined => {
                out.extend_from_slice(text.as_bytes());
            }
            TokenKind::Unused if self.spelling == Spelling::ByteLevel => {}
            TokenKind::Normal | TokenKind::Unused => match self.spelling {
                Spelling::ByteLevel => {
                    let start = out.len();
                    for character in text.chars() {
                        let Some(byte) = byte_of_char(character) else {
                            // a token outside GPT-2's table spells itself
                            out.truncate(start);
                            out.extend_from_slice(text.as_bytes());
                            return;
                        };
                        out.push(byte);
                    }
                }
                Spelling::Metaspace => {
                    for (i, part) in text.split('▁').enumerate() {
                        if i > 0 {
                            out.push(b' ');
                        }
                        out.extend_from_slice(part.as_bytes());
                    }
                }
            },
        }
    }
}

fn slice<'a>(text: &'a str, ends: &[u32], id: u32) -> &'a str {
    let id = id as usize;
    let start = if id == 0 { 0 } else { ends[id - 1] as usize };
    &text[start..ends[id] as usize]
}

/// The byte that `<0x0A>` names.
pub(crate) fn byte_of_token(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    (digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_hexdigit()))
        .then(|| u8::from_str_radix(digits, 16).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(vocab: &Vocab, id: u32) -> String {
        let mut out = Vec::new();
        vocab.print(id, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_text_is_found_and_an_empty_one_is_not() {
        let tokens = [("a", TokenKind::Normal), ("", TokenKind::Normal), ("", TokenKind::Unused)];
        let vocab = Vocab::new(tokens.into_iter(), Spelling::ByteLevel).unwrap();
        assert_eq!((vocab.id("a"), vocab.id(""), vocab.id("b")), (Some(0), None, None));
        assert_eq!((vocab.text(0), vocab.text(1), vocab.text(3)), (Some("a"), Some(""), None));
    }

    #[test]
    fn two_tokens_of_one_text_are_an_error_with_both_ids() {
        let tokens = [("a", TokenKind::Normal), ("b", TokenKind::Normal), ("a", TokenKind::Control)];
        let error = Vocab::new(tokens.into_iter(), Spelling::ByteLevel).err().unwrap();
        assert_eq!(error.to_string(), "tokens 0 and 2 are both \"a\"");
    }

    #[test]
    fn each_kind_prints_what_it_stands_for() {
        let tokens = [
            ("ĠÃ©", TokenKind::Normal),
            ("<s>", TokenKind::Control),
            ("[PAD1]", TokenKind::Unused),
            ("日", TokenKind::Normal),
        ];
        let bpe = Vocab::new(tokens.into_iter(), Spelling::ByteLevel).unwrap();
        assert_eq!((0..5).map(|id| printed(&bpe, id)).collect::<Vec<_>>(), [" é", "<s>", "", "日", ""]);
        let tokens =
            [("▁a▁b", TokenKind::Normal), ("<0x0A>", TokenKind::Byte(10)), ("▁", TokenKind::UserDefined)];
        let spm = Vocab::new(tokens.into_iter(), Spelling::Metaspace).unwrap();
        assert_eq!((0..3).map(|id| printed(&spm, id)).collect::<Vec<_>>(), [" a b", "\n", "▁"]);
    }

    #[test]
    fn a_byte_token_names_its_byte_with_two_digits() {
        assert_eq!(byte_of_token("<0x0A>"), Some(10));
        assert_eq!(byte_of_token("<0xff>"), Some(255));
        for text in ["<0xA>", "<0x+A>", "0x0A", "<0x0AB>", "<0xé>", ""] {
            assert_eq!(byte_of_token(text), None, "{text}");
        }
    }
}
