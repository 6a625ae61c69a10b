//! SentencePiece BPE (`tokenizer.ggml.model = llama`).
//!
//! Spaces become ▁ and, where the file asks for it, one is put in front of the text. The characters are then joined into
//! tokens, the pair with the highest score first. A character without a token becomes its UTF-8 bytes (`<0xE2>`), or
//! the unknown token where those are missing.

use crate::TokenizerError;
use crate::merge::{Merge, Merger, NONE, Symbol};
use crate::vocab::{TokenKind, Vocab};

/// Scores and rules of a SentencePiece vocabulary.
pub(crate) struct Spm {
    /// Position of every token in the order of falling score; equal scores share a rank.
    ranks: Vec<u32>,
    /// The token of each byte, or [`NONE`].
    byte_ids: [u32; 256],
    /// Stands for what has no token, or [`NONE`].
    unknown: u32,
    pub(crate) add_space_prefix: bool,
    /// No token has ▁ after another character, so words can be joined one by one.
    words_apart: bool,
}

impl Spm {
    /// Ranks the tokens by their scores.
    ///
    /// # Errors
    /// A number of scores other than that of tokens, or a score that is not a number.
    pub(crate) fn new(
        vocab: &Vocab,
        scores: &[f32],
        unknown: Option<u32>,
        add_space_prefix: bool,
    ) -> Result<Self, TokenizerError> {
        let bad = |problem| TokenizerError::BadKey { key: "tokenizer.ggml.scores".to_string(), problem };
        if scores.len() != vocab.len() {
            return Err(bad(format!("{} scores for {} tokens", scores.len(), vocab.len())));
        }
        if let Some(id) = scores.iter().position(|score| score.is_nan()) {
            return Err(bad(format!("the score of token {id} is not a number")));
        }
        let mut order: Vec<u32> = (0..scores.len() as u32).collect();
        order.sort_by(|&a, &b| scores[b as usize].total_cmp(&scores[a as usize]));
        let mut ranks = vec![0; scores.len()];
        let mut rank = 0;
        for pair in order.windows(2) {
            // 0.0 and -0.0 are the same score
            if scores[pair[0] as usize] != scores[pair[1] as usize] {
                rank += 1;
            }
            ranks[pair[1] as usize] = rank;
        }
        let mut byte_ids = [NONE; 256];
        let mut words_apart = true;
        for (id, text, kind) in vocab.iter() {
            if let TokenKind::Byte(byte) = kind {
                byte_ids[byte as usize] = id;
            }
            words_apart &= !is_text(kind) || !text.trim_start_matches('▁').contains('▁');
        }
        Ok(Spm { ranks, byte_ids, unknown: unknown.unwrap_or(NONE), add_space_prefix, words_apart })
    }

    /// Appends the tokens of a text that stands at the beginning or after a special token.
    ///
    /// # Errors
    /// A character that has no token, in a vocabulary without byte tokens and unknown token.
    pub(crate) fn encode(&self, vocab: &Vocab, text: &str, ids: &mut Vec<u32>) -> Result<(), TokenizerError> {
        let mut escaped = String::with_capacity(text.len() + text.len() / 4 + 3);
        if self.add_space_prefix {
            escaped.push('▁');
        }
        for (i, part) in text.split(' ').enumerate() {
            if i > 0 {
                escaped.push('▁');
            }
            escaped.push_str(part);
        }
        let mut merger = Merger::default();
        let mut rest = escaped.as_str();
        // what the last character became: a run of unknown characters is one token
        let mut after_unknown = false;
        while !rest.is_empty() {
            let (word, after) = rest.split_at(if self.words_apart { word_len(rest) } else { rest.len() });
            rest = after;
            self.encode_word(vocab, word, &mut merger, &mut after_unknown, ids)?;
        }
        Ok(())
    }

    fn encode_word(
        &self,
        vocab: &Vocab,
        word: &str,
        merger: &mut Merger,
        after_unknown: &mut bool,
        ids: &mut Vec<u32>,
    ) -> Result<(), TokenizerError> {
        let token = |text: &str| vocab.id(text).filter(|&id| vocab.kind(id).is_some_and(is_text));
        if u32::try_from(word.len()).is_err() {
            return Err(TokenizerError::Encode(format!("a text of {} bytes is too long", word.len())));
        }
        merger.clear();
        let mut buffer = [0; 4];
        for character in word.chars() {
            let text = character.encode_utf8(&mut buffer);
            merger.push(token(text).unwrap_or(NONE), text.len() as u32);
        }
        let find = |a: &Symbol, b: &Symbol| {
            let id = token(&word[a.start as usize..b.range().end])?;
            Some(Merge { rank: self.ranks[id as usize], id })
        };
        for symbol in merger.run(find) {
            let bytes = &word.as_bytes()[symbol.range()];
            let unknown = symbol.id == NONE && bytes.iter().any(|&b| self.byte_ids[b as usize] == NONE);
            if symbol.id != NONE {
                ids.push(symbol.id);
            } else if !unknown {
                ids.extend(bytes.iter().map(|&b| self.byte_ids[b as usize]));
            } else if self.unknown == NONE {
                let text = &word[symbol.range()];
                return Err(TokenizerError::Encode(format!("the vocabulary has no token for {text:?}")));
            } else if !*after_unknown {
                ids.push(self.unknown);
            }
            *after_unknown = unknown;
        }
        Ok(())
    }
}

/// Whether text can become this token; a control token's name in a text is just letters.
fn is_text(kind: TokenKind) -> bool {
    matches!(kind, TokenKind::Normal | TokenKind::UserDefined | TokenKind::Unused)
}

/// Bytes of the first word: a run of ▁ and what follows up to the next ▁.
fn word_len(text: &str) -> usize {
    let body = text.len() - text.trim_start_matches('▁').len();
    text[body..].find('▁').map_or(text.len(), |at| body + at)
}
