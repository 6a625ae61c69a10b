//! Tokens with a role: which begin and end a sequence, and which end an answer.

use std::collections::BTreeSet;

use crate::TokenizerError;
use crate::keys::SpecialIds;
use crate::vocab::Vocab;

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
    /// Checks the ids of the file, and finds the tokens that end an answer: `more_ends`, and by key and by text. The latter
    /// become control tokens, which print nothing: some files call them normal.
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
        let mut ends: BTreeSet<u32> = ENDS.iter().filter_map(|text| vocab.id(text)).collect();
        for (id, texts) in code_ends.into_iter().zip(CODE_ENDS) {
            ends.extend(id.or_else(|| texts.iter().find_map(|text| vocab.id(text))));
        }
        for &id in &ends {
            vocab.mark_control(id);
        }
        ends.extend(
            [eos, check("eot_token_id", ids.eot)?, check("eom_token_id", ids.eom)?].into_iter().flatten(),
        );
        for &id in more_ends {
            ends.extend(check("eos_token_id", Some(id))?);
        }
        // in the harmony format `<|end|>` ends a message of several
        if let (Some(_), Some(_), Some(end)) =
            (vocab.id("<|return|>"), vocab.id("<|call|>"), vocab.id("<|end|>"))
        {
            ends.remove(&end);
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
    use crate::vocab::{Spelling, TokenKind};

    fn vocab(texts: &[&'static str]) -> Vocab {
        Vocab::new(texts.iter().map(|text| (*text, TokenKind::Normal)), Spelling::ByteLevel).unwrap()
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
    fn a_token_that_ends_an_answer_prints_nothing_even_if_the_file_calls_it_normal() {
        let mut vocab = vocab(&["<|im_end|>"]);
        Special::find(&SpecialIds::default(), &[], &mut vocab).unwrap();
        assert_eq!(vocab.kind(0), Some(TokenKind::Control));
    }
}
