//! The tokenizer: text to ids and back.

use std::ops::Range;
use std::sync::Arc;

use crate::added::{AddedTokens, Part};
use crate::bpe::Bpe;
use crate::json::JsonTokenizer;
use crate::pre::pre_tokenizer;
use crate::special::Special;
use crate::spm::Spm;
use crate::vocab::{Spelling, TokenKind, Vocab, byte_of_token};
use crate::{DecodeStream, SpecialIds, TokenizerError, TokenizerKeys};

/// What [`Tokenizer::encode`] does beyond the text itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncodeOptions {
    /// Put the begin- and end-of-sequence tokens where the model's keys ask for them. A rendered chat template has
    /// them already.
    pub add_special: bool,
    /// Read the text of a control token, such as `<|im_start|>`, as that token. Off, it is plain text: a user's words
    /// cannot open a new turn. User-defined tokens, which steer nothing, are read in both cases.
    pub parse_special: bool,
}

impl Default for EncodeOptions {
    fn default() -> Self {
        EncodeOptions { add_special: true, parse_special: false }
    }
}

/// Text to token ids and back. A clone shares everything.
#[derive(Clone)]
pub struct Tokenizer {
    inner: Arc<Inner>,
}

struct Inner {
    vocab: Vocab,
    special: Special,
    added: AddedTokens,
    algorithm: Algorithm,
    /// Tokens that a sequence begins with, if `add_special`.
    prefix: Vec<u32>,
    /// Tokens that a sequence ends with, if `add_special`.
    suffix: Vec<u32>,
    /// The encoder puts a space before a text, so the decoder takes it away.
    adds_space: bool,
}

/// What turns text between added tokens into ids.
pub(crate) enum Algorithm {
    Bpe(Bpe),
    Spm(Spm),
    Json(JsonTokenizer),
}

/// An algorithm; the ids before and after a text; whether it puts a space before it.
pub(crate) type Encoder = (Algorithm, Vec<u32>, Vec<u32>, bool);

impl Tokenizer {
    /// Builds the pipeline from the keys of a GGUF file.
    ///
    /// # Errors
    /// A key that is missing, a list of the wrong length, an id outside the vocabulary, two tokens of the same text, a
    /// merge or score that means nothing, a model or pre-tokenizer that is not known: each with its value.
    pub fn from_keys(keys: &TokenizerKeys) -> Result<Self, TokenizerError> {
        let spelling = match keys.model {
            "gpt2" => Spelling::ByteLevel,
            "llama" => Spelling::Metaspace,
            model => return Err(TokenizerError::UnknownModel { model: model.to_string() }),
        };
        let missing = |key: &str| TokenizerError::MissingKey { key: format!("tokenizer.ggml.{key}") };
        if keys.tokens.is_empty() {
            return Err(missing("tokens"));
        }
        let kinds = token_kinds(keys)?;
        let vocab = Vocab::new(keys.tokens.iter().copied().zip(kinds), spelling)?;
        let ids = match spelling {
            Spelling::ByteLevel => keys.ids,
            Spelling::Metaspace => sentencepiece_defaults(keys.ids, vocab.len()),
        };
        Tokenizer::assemble(vocab, &ids, &[], |vocab, special| {
            let (algorithm, add_bos, adds_space) = match spelling {
                Spelling::ByteLevel => {
                    let pre = pre_tokenizer(keys.pre)?;
                    if keys.merges.is_empty() {
                        return Err(missing("merges"));
                    }
                    (Algorithm::Bpe(Bpe::new(vocab, &keys.merges, pre)?), pre.add_bos, false)
                }
                Spelling::Metaspace => {
                    if keys.scores.is_empty() {
                        return Err(missing("scores"));
                    }
                    let adds_space = keys.add_space_prefix.unwrap_or(true);
                    (
                        Algorithm::Spm(Spm::new(vocab, &keys.scores, special.unknown, adds_space)?),
                        true,
                        adds_space,
                    )
                }
            };
            let one = |add: bool, id: Option<u32>, key| match (add, id) {
                (true, None) => Err(missing(key)),
                (true, Some(id)) => Ok(vec![id]),
                (false, _) => Ok(Vec::new()),
            };
            let prefix = one(keys.add_bos.unwrap_or(add_bos), special.bos, "bos_token_id")?;
            let suffix = one(keys.add_eos.unwrap_or(false), special.eos, "eos_token_id")?;
            Ok((algorithm, prefix, suffix, adds_space))
        })
    }

    /// Finds the tokens with a role, `ends` among those that end an answer, and builds the rest on them.
    pub(crate) fn assemble(
        mut vocab: Vocab,
        ids: &SpecialIds,
        ends: &[u64],
        encoder: impl FnOnce(&Vocab, &Special) -> Result<Encoder, TokenizerError>,
    ) -> Result<Self, TokenizerError> {
        let special = Special::find(ids, ends, &mut vocab)?;
        let added = AddedTokens::new(&vocab)?;
        let (algorithm, prefix, suffix, adds_space) = encoder(&vocab, &special)?;
        let inner = Inner { vocab, special, added, algorithm, prefix, suffix, adds_space };
        Ok(Tokenizer { inner: Arc::new(inner) })
    }

    /// Token ids of `text`. A begin-of-sequence token that `text` begins with and the one that is added are one.
    ///
    /// # Errors
    /// A text that the vocabulary cannot spell.
    pub fn encode(&self, text: &str, options: EncodeOptions) -> Result<Vec<u32>, TokenizerError> {
        self.encode_with_plain(text, options, &[])
    }

    /// The same, but no control token is found that touches one of the byte ranges `plain`, which are in order.
    pub(crate) fn encode_with_plain(
        &self,
        text: &str,
        options: EncodeOptions,
        plain: &[Range<usize>],
    ) -> Result<Vec<u32>, TokenizerError> {
        let Inner { vocab, added, algorithm, prefix, suffix, .. } = &*self.inner;
        let mut ids = Vec::with_capacity(text.len() / 3 + 2);
        if options.add_special {
            ids.extend_from_slice(prefix);
        }
        let parts = || added.split(vocab, text, options.parse_special, plain);
        match algorithm {
            Algorithm::Json(json) => {
                ids.extend(json.encode(added, vocab, text, options.parse_special, plain)?)
            }
            Algorithm::Bpe(bpe) => {
                for part in parts() {
                    match part {
                        Part::Token(id) => ids.push(id),
                        Part::Text(text) => bpe.encode(vocab, text, &mut ids),
                    }
                }
            }
            Algorithm::Spm(spm) => {
                for part in parts() {
                    match part {
                        Part::Token(id) => ids.push(id),
                        Part::Text(text) => spm.encode(vocab, text, &mut ids)?,
                    }
                }
            }
        }
        if options.add_special {
            if let Some(bos) = self.bos().filter(|bos| prefix.last() == Some(bos))
                && ids.get(prefix.len()) == Some(&bos)
            {
                ids.remove(prefix.len());
            }
            ids.extend_from_slice(suffix);
        }
        Ok(ids)
    }

    /// The text of `ids`, as a whole text from its beginning; bytes that are not UTF-8 become U+FFFD. With
    /// `skip_special`, control tokens print nothing. An id outside the vocabulary prints nothing.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> String {
        let mut stream = DecodeStream::new(self.clone(), skip_special, self.inner.adds_space);
        let mut text = String::with_capacity(ids.len() * 4);
        for &id in ids {
            stream.push_to(id, &mut text);
        }
        text.push_str(&stream.finish());
        text
    }

    /// Starts to decode a stream of ids as a whole text; control tokens print nothing.
    pub fn stream(&self) -> DecodeStream {
        self.stream_after(&[])
    }

    /// Starts to decode ids that continue `context`. SentencePiece puts a space before a text and takes it away again
    /// when it decodes, but between a prompt and its continuation the space is the text's own.
    pub fn stream_after(&self, context: &[u32]) -> DecodeStream {
        let begins = context.last().is_none_or(|&id| self.is_special(id));
        DecodeStream::new(self.clone(), true, self.inner.adds_space && begins)
    }

    /// The bytes that a token prints: possibly a part of a character. A control token's are its own text.
    pub fn token_bytes(&self, id: u32) -> Option<Vec<u8>> {
        let vocab = &self.inner.vocab;
        vocab.kind(id).map(|_| {
            let mut bytes = Vec::new();
            vocab.print(id, &mut bytes);
            bytes
        })
    }

    /// The token as the vocabulary spells it (`Ġthe`, `▁the`, `<0x0A>`).
    pub fn token_text(&self, id: u32) -> Option<&str> {
        self.inner.vocab.text(id)
    }

    /// The token that the vocabulary spells so.
    pub fn token_id(&self, text: &str) -> Option<u32> {
        self.inner.vocab.id(text)
    }

    /// Number of tokens.
    pub fn n_vocab(&self) -> usize {
        self.inner.vocab.len()
    }

    /// The token that begins a sequence.
    pub fn bos(&self) -> Option<u32> {
        self.inner.special.bos
    }

    /// The token that ends a sequence.
    pub fn eos(&self) -> Option<u32> {
        self.inner.special.eos
    }

    /// Whether `add_special` puts the begin-of-sequence token before a text.
    pub fn adds_bos(&self) -> bool {
        self.inner.special.bos.is_some_and(|bos| self.inner.prefix.contains(&bos))
    }

    /// Whether generation ends when the model says this token.
    pub fn is_end_of_generation(&self, id: u32) -> bool {
        self.inner.special.end_of_generation.contains(&id)
    }

    /// All tokens that end generation, in order.
    pub fn end_of_generation(&self) -> impl Iterator<Item = u32> {
        self.inner.special.end_of_generation.iter().copied()
    }

    /// Whether the token steers the model and prints nothing.
    pub fn is_special(&self, id: u32) -> bool {
        matches!(self.inner.vocab.kind(id), Some(TokenKind::Control | TokenKind::Unknown))
    }

    /// Whether no text has this token: it is a free place of the vocabulary, or outside it. Files call free places what they want, or
    /// leave them out at the end.
    pub fn is_unused(&self, id: u32) -> bool {
        matches!(self.inner.vocab.kind(id), None | Some(TokenKind::Unused))
    }

    /// The token that stands for text without a token.
    pub(crate) fn unknown(&self) -> Option<u32> {
        self.inner.special.unknown
    }

    /// Tokens that `add_special` puts before a text, and after it.
    pub(crate) fn around(&self) -> (&[u32], &[u32]) {
        (&self.inner.prefix, &self.inner.suffix)
    }

    /// Whether decoding takes a space from the beginning of a text.
    pub(crate) fn strips_space(&self) -> bool {
        self.inner.adds_space
    }

    pub(crate) fn vocab(&self) -> &Vocab {
        &self.inner.vocab
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer")
            .field("n_vocab", &self.n_vocab())
            .field("special", &self.inner.special)
            .finish()
    }
}

/// The kind of every token: normal, if the file does not say.
fn token_kinds(keys: &TokenizerKeys) -> Result<Vec<TokenKind>, TokenizerError> {
    let bad = |problem| TokenizerError::BadKey { key: "tokenizer.ggml.token_type".to_string(), problem };
    let (n_types, n_tokens) = (keys.token_types.len(), keys.tokens.len());
    if n_types == 0 {
        return Ok(vec![TokenKind::Normal; n_tokens]);
    }
    if n_types != n_tokens {
        return Err(bad(format!("{n_types} types for {n_tokens} tokens")));
    }
    let kind = |(id, (&number, text)): (usize, (&i32, &&str))| match number {
        1 => Ok(TokenKind::Normal),
        2 => Ok(TokenKind::Unknown),
        3 => Ok(TokenKind::Control),
        4 => Ok(TokenKind::UserDefined),
        0 | 5 => Ok(TokenKind::Unused),
        6 => match byte_of_token(text) {
            Some(byte) => Ok(TokenKind::Byte(byte)),
            None => Err(bad(format!("token {id} is a byte, but its text is {text:?}"))),
        },
        _ => Err(bad(format!("token {id} has type {number}"))),
    };
    keys.token_types.iter().zip(&keys.tokens).enumerate().map(kind).collect()
}

/// SentencePiece's usual ids, where the file does not say and the vocabulary has them.
fn sentencepiece_defaults(ids: SpecialIds, n_vocab: usize) -> SpecialIds {
    let usual = |id: Option<u64>, default: u64| id.or((default < n_vocab as u64).then_some(default));
    SpecialIds { unknown: usual(ids.unknown, 0), bos: usual(ids.bos, 1), eos: usual(ids.eos, 2), ..ids }
}
