//! Tokens with a role: which begin and end a sequence, and which end an answer.

use std::collections::BTreeSet;

use crate::TokenizerError;
use crate::keys::SpecialIds;
use crate::vocab::{TokenKind, Vocab};

/// Roles of tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Special {
    pub(crate) bos: Option<u32>,
    pub(crate) eos: Option<u32>,
    pub(crate) unknown: Option<u32>,
    /// Sorted; an answer ends with any of them.
    pub(crate) end_of_generation: BTreeSet<u32>,
}

/// Texts that end an answer in any model that has them. GGUF names at most three such ids, so all engines go by text.
const ENDS: &[&str] = &[
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<｜end▁of▁sentence｜>",
];

/// The same for code models, where a new file or repository begins: each row is one role, named by a key or a text.
const CODE_ENDS: [&[&str]; 3] = [
    &["<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"],
    &["<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"],
    &["<|file_sep|>"],
];

impl Special {
    /// Checks the ids of the file, and finds the tokens that end an answer: `more_ends`, by key, and added tokens by text.
    /// All of them but normal tokens become control tokens, which print nothing. A normal token of such a text is text.
    ///
    /// # Errors
    /// An id outside the vocabulary.
    pub(crate) fn find(
        ids: &SpecialIds,
        more_ends: &[u64],
        vocab: &mut Vocab,
    ) -> Result<Self, TokenizerError> {
        let n_vocab = vocab.len();
        let check = |name: &str, id: Option<u64>| check_id(name, id, n_vocab);
        let bos = check("bos_token_id", ids.bos)?;
        let eos = check("eos_token_id", ids.eos)?;
        let unknown = check("unknown_token_id", ids.unknown)?;
        let code_ends = [
            check("fim_pad_token_id", ids.fim_pad)?,
            check("fim_rep_token_id", ids.fim_rep)?,
            check("fim_sep_token_id", ids.fim_sep)?,
        ];
        let added = |text: &&str| {
            let id = vocab.id(text)?;
            matches!(vocab.kind(id), Some(TokenKind::Control | TokenKind::UserDefined)).then_some(id)
        };
        let mut ends: BTreeSet<u32> = ENDS.iter().filter_map(added).collect();
        for (id, texts) in code_ends.into_iter().zip(CODE_ENDS) {
            ends.extend(id.or_else(|| texts.iter().find_map(added)));
        }
        ends.extend(
            [eos, check("eot_token_id", ids.eot)?, check("eom_token_id", ids.eom)?].into_iter().flatten(),
        );
        for &id in more_ends {
            ends.extend(check("eos_token_id", Some(id))?);
        }
        // in the harmony format `<|end|>` ends a message of several
        if let (Some(_), Some(_), Some(end)) = (added(&"<|return|>"), added(&"<|call|>"), added(&"<|end|>")) {
            ends.remove(&end);
        }
        for id in ends.iter().copied().chain(bos) {
            if vocab.kind(id) == Some(TokenKind::UserDefined) {
                vocab.mark_control(id);
            }
        }
        Ok(Special { bos, eos, unknown, end_of_generation: ends })
    }
}

/// An id of the file, if it names a token.
fn check_id(name: &str, id: Option<u64>, n_vocab: usize) -> Result<Option<u32>, TokenizerError> {
    match id {
        // -1 in the clothes of an unsigned number
        Some(id) if id == u64::from(u32::MAX) => Ok(None),
        Some(id) if id >= n_vocab as u64 => {
            Err(TokenizerError::IdOutOfRange { key: format!("tokenizer.ggml.{name}"), id, n_vocab })
        }
        id => Ok(id.map(|id| id as u32)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vocab::Spelling;

    /// Texts with brackets are control tokens.
    fn vocab(texts: &[&'static str]) -> Vocab {
        let kind = |text: &str| if text.starts_with('<') { TokenKind::Control } else { TokenKind::Normal };
        Vocab::new(texts.iter().map(|text| (*text, kind(text))), Spelling::ByteLevel).unwrap()
    }

    fn ends(texts: &[&'static str], ids: SpecialIds) -> Vec<u32> {
        Special::find(&ids, &[], &mut vocab(texts)).unwrap().end_of_generation.into_iter().collect()
    }

    #[test]
    fn an_answer_ends_by_key_or_by_text() {
        assert_eq!(ends(&["a", "<|im_end|>", "<|endoftext|>"], SpecialIds::default()), [1, 2]);
        assert_eq!(ends(&["a", "b"], SpecialIds { eos: Some(1), ..Default::default() }), [1]);
        assert_eq!(
            ends(&["a", "b", "c"], SpecialIds { eot: Some(1), eom: Some(2), ..Default::default() }),
            [1, 2]
        );
        assert_eq!(
            ends(&["<|file_sep|>", "<|repo_name|>"], SpecialIds { fim_sep: Some(1), ..Default::default() }),
            [1]
        );
    }

    #[test]
    fn the_end_of_a_harmony_message_does_not_end_the_answer() {
        assert_eq!(ends(&["<|end|>", "<|return|>", "<|call|>"], SpecialIds::default()), [1, 2]);
        assert_eq!(ends(&["<|end|>", "<|return|>"], SpecialIds::default()), [0, 1]);
    }

    #[test]
    fn an_id_outside_the_vocabulary_is_an_error_with_its_key() {
        let ids = SpecialIds { eos: Some(7), ..Default::default() };
        let error = Special::find(&ids, &[], &mut vocab(&["a"])).unwrap_err();
        assert_eq!(error.to_string(), "`tokenizer.ggml.eos_token_id` is 7, but the vocabulary has 1 tokens");
        let none = SpecialIds { bos: Some(u64::from(u32::MAX)), ..Default::default() };
        assert_eq!(Special::find(&none, &[], &mut vocab(&["a"])).unwrap().bos, None);
    }

    #[test]
    fn the_text_of_a_normal_token_says_nothing_of_its_role() {
        let tokens =
            [("</s>", TokenKind::Normal), ("<|im_end|>", TokenKind::UserDefined), ("x", TokenKind::Normal)];
        let mut vocab = Vocab::new(tokens.into_iter(), Spelling::ByteLevel).unwrap();
        let ids = SpecialIds { eos: Some(2), ..Default::default() };
        let special = Special::find(&ids, &[], &mut vocab).unwrap();
        assert_eq!(special.end_of_generation.into_iter().collect::<Vec<_>>(), [1, 2]);
        let kinds = [0, 1, 2].map(|id| vocab.kind(id).unwrap());
        assert_eq!(kinds, [TokenKind::Normal, TokenKind::Control, TokenKind::Normal]);
    }
}
