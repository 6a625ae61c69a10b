//! Hugging Face's `tokenizer.json`, run by the `tokenizers` crate.
//!
//! The file describes its own pipeline, so nothing is derived here but what decoding needs: the texts and kinds of the
//! tokens, and how they spell bytes.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use lossy_formats::{Instead, without_bom};
use serde_json::Value;
use tokenizers::models::ModelWrapper;
use tokenizers::tokenizer::normalizer::Range as Slice;
use tokenizers::{
    AddedVocabulary, Model, NormalizedString, Normalizer, OffsetReferential, OffsetType, PreTokenizedString,
    PreTokenizer, Token,
};

use crate::TokenizerError;
use crate::added::{AddedTokens, Part, touches};
use crate::vocab::{Spelling, TokenKind, Vocab, byte_of_token};

/// A pipeline read from a file.
pub(crate) struct JsonTokenizer {
    pipeline: Box<tokenizers::Tokenizer>,
    /// The added tokens of the pipeline, as they are found where special ones are text.
    without_special: AddedVocabulary,
    /// Added tokens that take the white space before or after them: `lstrip`, `rstrip`.
    strips: BTreeMap<u32, (bool, bool)>,
}

/// A pipeline with what decoding needs.
pub(crate) struct Parsed {
    pub(crate) json: JsonTokenizer,
    pub(crate) vocab: Vocab,
    /// Tokens that the post-processor puts before a text.
    pub(crate) prefix: Vec<u32>,
    /// Tokens that the post-processor puts after a text.
    pub(crate) suffix: Vec<u32>,
    /// The decoder takes a space from the beginning.
    pub(crate) strips_space: bool,
}

impl JsonTokenizer {
    /// Reads the file.
    ///
    /// # Errors
    /// A file that is not a pipeline of the crate, or of a kind whose tokens spell bytes in a way that is not known here.
    pub(crate) fn open(path: &Path) -> Result<Parsed, TokenizerError> {
        let bad = |problem: String| TokenizerError::File { path: path.to_path_buf(), problem };
        let text = std::fs::read(path).map_err(|error| bad(error.to_string()))?;
        if let Some(instead) = Instead::of(&text) {
            return Err(bad(instead.to_string()));
        }
        let mut pipeline =
            tokenizers::Tokenizer::from_bytes(without_bom(&text)).map_err(|error| bad(error.to_string()))?;
        // a file may say how to cut or fill batches; here a text is never cut
        pipeline.with_padding(None);
        pipeline.with_truncation(None).map_err(|error| bad(error.to_string()))?;
        let decoder = serde_json::to_value(pipeline.get_decoder()).map_err(|error| bad(error.to_string()))?;
        let Some((spelling, strips_space)) = spelling(&decoder) else {
            return Err(bad(format!("its decoder is neither byte-level nor SentencePiece's: {decoder}")));
        };
        let vocab = vocab(&pipeline, spelling).map_err(|error| match error {
            TokenizerError::BadKey { problem, .. } => bad(problem),
            other => other,
        })?;
        let mut without_special = pipeline.get_added_vocabulary().clone();
        without_special.set_encode_special_tokens(true);
        let added = pipeline.get_added_tokens_decoder();
        let strips = added.iter().filter(|(_, token)| token.lstrip || token.rstrip);
        let strips = strips.map(|(&id, token)| (id, (token.lstrip, token.rstrip))).collect();
        let json = JsonTokenizer { pipeline: Box::new(pipeline), without_special, strips };
        let (prefix, suffix) = json.around().map_err(bad)?;
        Ok(Parsed { json, vocab, prefix, suffix, strips_space })
    }

    /// Tokens that the post-processor puts before and after a text.
    fn around(&self) -> Result<(Vec<u32>, Vec<u32>), String> {
        let ids = |add_special| match self.pipeline.encode_fast("a", add_special) {
            Ok(encoding) => Ok(encoding.get_ids().to_vec()),
            Err(error) => Err(error.to_string()),
        };
        let (plain, whole) = (ids(false)?, ids(true)?);
        let at = (0..=whole.len().saturating_sub(plain.len())).find(|&at| whole[at..].starts_with(&plain));
        match at {
            Some(at) => Ok((whole[..at].to_vec(), whole[at + plain.len()..].to_vec())),
            None => Err("its post-processor changes the tokens of a text".to_string()),
        }
    }

    /// Token ids of `text`, without those around it.
    pub(crate) fn encode(
        &self,
        added: &AddedTokens,
        vocab: &Vocab,
        text: &str,
        parse_special: bool,
        plain: &[Range<usize>],
    ) -> Result<Vec<u32>, TokenizerError> {
        let normalizer = self.pipeline.get_normalizer();
        let pieces = if parse_special {
            let pieces = self.pipeline.get_added_vocabulary().extract_and_normalize(normalizer, text);
            if finds_plain(&pieces, vocab, plain) {
                self.split(added, vocab, text, plain)
            } else {
                Ok(pieces)
            }
        } else {
            Ok(self.without_special.extract_and_normalize(normalizer, text))
        };
        let encoded = pieces.and_then(|pieces| self.encode_pieces(pieces));
        match encoded {
            Ok(encoding) => Ok(encoding.get_ids().to_vec()),
            Err(error) => Err(TokenizerError::Encode(error.to_string())),
        }
    }

    /// What comes before the words are cut, with `added` to find the tokens in the text, of control tokens only those that
    /// do not touch `plain`.
    fn split(
        &self,
        added: &AddedTokens,
        vocab: &Vocab,
        text: &str,
        plain: &[Range<usize>],
    ) -> tokenizers::Result<PreTokenizedString> {
        let mut pieces = PreTokenizedString::from(text);
        pieces.split(|_, whole| {
            let mut parts: Vec<(NormalizedString, Option<Vec<Token>>)> = Vec::new();
            let mut push = |range: Range<usize>, id: Option<u32>| -> tokenizers::Result<()> {
                let length = range.len();
                if length > 0 {
                    let slice = whole.slice(Slice::Normalized(range)).ok_or("a token cuts a character")?;
                    parts.push((slice, id.map(|id| vec![Token::new(id, String::new(), (0, length))])));
                }
                Ok(())
            };
            let (mut at, mut strips_next) = (0, false);
            let mut found = added.split(vocab, text, true, plain).into_iter().peekable();
            while let Some(part) = found.next() {
                match part {
                    Part::Token(id) => {
                        let end = at + vocab.text(id).unwrap_or_default().len();
                        push(at..end, Some(id))?;
                        at = end;
                        strips_next = self.strips.get(&id).is_some_and(|(_, right)| *right);
                    }
                    Part::Text(part) => {
                        let strips_end = match found.peek() {
                            Some(Part::Token(id)) => self.strips.get(id).is_some_and(|(left, _)| *left),
                            _ => false,
                        };
                        let kept = if strips_next { part.trim_start() } else { part };
                        let start = at + part.len() - kept.len();
                        let kept = if strips_end { kept.trim_end() } else { kept };
                        push(start..start + kept.len(), None)?;
                        at += part.len();
                        strips_next = false;
                    }
                }
            }
            Ok(parts)
        })?;
        if let Some(normalizer) = self.pipeline.get_normalizer() {
            pieces.normalize(|piece| normalizer.normalize(piece))?;
        }
        Ok(pieces)
    }

    /// The rest of the pipeline.
    fn encode_pieces(&self, mut pieces: PreTokenizedString) -> tokenizers::Result<tokenizers::Encoding> {
        if let Some(pre_tokenizer) = self.pipeline.get_pre_tokenizer() {
            pre_tokenizer.pre_tokenize(&mut pieces)?;
        }
        let model = self.pipeline.get_model();
        pieces.tokenize(|piece| model.tokenize(piece.get()))?;
        pieces.into_encoding(None, 0, OffsetType::None)
    }
}

/// Whether a control token was found that touches `plain`.
fn finds_plain(pieces: &PreTokenizedString, vocab: &Vocab, plain: &[Range<usize>]) -> bool {
    let splits = pieces.get_splits(OffsetReferential::Original, OffsetType::Byte);
    splits.into_iter().any(|(_, (start, end), tokens)| {
        let is_control = |token: &Token| vocab.kind(token.id) != Some(TokenKind::UserDefined);
        tokens.as_ref().is_some_and(|tokens| tokens.iter().any(is_control)) && touches(plain, &(start..end))
    })
}

/// How tokens spell bytes, and whether decoding takes a space from the beginning; `None` for a decoder of another family.
fn spelling(decoder: &Value) -> Option<(Spelling, bool)> {
    let steps = match decoder["decoders"].as_array() {
        Some(steps) => steps.iter().collect(),
        None => vec![decoder],
    };
    let mut spelling = None;
    let mut strips_space = false;
    for step in steps {
        match step["type"].as_str()? {
            "ByteLevel" => spelling = Some(Spelling::ByteLevel),
            "Metaspace" => {
                spelling = Some(Spelling::Metaspace);
                strips_space |= step["prepend_scheme"].as_str() != Some("never");
            }
            "Replace" if step["pattern"]["String"] == "▁" && step["content"] == " " => {
                spelling = Some(Spelling::Metaspace);
            }
            "Strip" => strips_space |= step["content"] == " " && step["start"] == 1,
            "ByteFallback" | "Fuse" => {}
            _ => return None,
        }
    }
    Some((spelling?, strips_space))
}

fn vocab(pipeline: &tokenizers::Tokenizer, spelling: Spelling) -> Result<Vocab, TokenizerError> {
    let model = pipeline.get_model();
    let byte_fallback = matches!(model, ModelWrapper::BPE(bpe) if bpe.byte_fallback);
    let mut tokens: BTreeMap<u32, (String, TokenKind)> = BTreeMap::new();
    for (text, id) in model.get_vocab() {
        let byte = byte_of_token(&text).filter(|_| byte_fallback);
        tokens.insert(id, (text, byte.map_or(TokenKind::Normal, TokenKind::Byte)));
    }
    for (id, token) in pipeline.get_added_tokens_decoder() {
        let kind = if token.special { TokenKind::Control } else { TokenKind::UserDefined };
        tokens.insert(id, (token.content, kind));
    }
    let n_ids = tokens.last_key_value().map_or(0, |(&id, _)| id as usize + 1);
    if n_ids > 2 * tokens.len() + 65_536 {
        let problem = format!("{} tokens have ids up to {}", tokens.len(), n_ids - 1);
        return Err(TokenizerError::BadKey { key: "model.vocab".to_string(), problem });
    }
    let mut by_id = vec![("", TokenKind::Unused); n_ids];
    for (&id, (text, kind)) in &tokens {
        by_id[id as usize] = (text, *kind);
    }
    Vocab::new(by_id.into_iter(), spelling)
}
