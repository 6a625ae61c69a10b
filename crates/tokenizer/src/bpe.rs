//! Byte-level BPE (`tokenizer.ggml.model = gpt2`).
//!
//! A text is composed if the model asks for it, and cut into words ([`Splitter`]); a word starts as its bytes, and pairs of
//! tokens are joined in the order of the file's merges ([`Merger`]).

use std::borrow::Cow;

use hashbrown::HashMap;
use unicode_normalization_alignments::{IsNormalized, UnicodeNormalization, is_nfc_quick};

use crate::TokenizerError;
use crate::bytes::CHAR_OF_BYTE;
use crate::merge::{Merge, Merger, NONE};
use crate::pre::PreTokenizer;
use crate::split::Splitter;
use crate::vocab::Vocab;

/// The merges of a vocabulary and how its words are cut.
pub(crate) struct Bpe {
    splitter: Splitter,
    /// The token of each byte, or [`NONE`].
    byte_ids: [u32; 256],
    merges: HashMap<(u32, u32), Merge>,
    /// A word that is a token is that token, whatever the merges say.
    ignore_merges: bool,
    /// Characters are composed before the text is cut.
    is_composed: bool,
}

impl Bpe {
    /// Reads the merges.
    ///
    /// # Errors
    /// A merge that is not two tokens whose concatenation is a token.
    pub(crate) fn new(vocab: &Vocab, merges: &[&str], pre: &PreTokenizer) -> Result<Self, TokenizerError> {
        let mut byte_ids = [NONE; 256];
        for (byte, id) in byte_ids.iter_mut().enumerate() {
            *id = vocab.id(CHAR_OF_BYTE[byte].encode_utf8(&mut [0; 4])).unwrap_or(NONE);
        }
        let mut table = HashMap::with_capacity(merges.len());
        let mut joined = String::new();
        for (index, merge) in merges.iter().enumerate() {
            let bad = |problem: String| TokenizerError::BadMerge { index, merge: merge.to_string(), problem };
            // a token may begin with a space, but no byte-level token has one inside
            let space = merge.bytes().skip(1).position(|b| b == b' ').map(|at| at + 1);
            let Some(space) = space else { return Err(bad("not two tokens separated by a space".into())) };
            let (left, right) = (&merge[..space], &merge[space + 1..]);
            let id = |text: &str| vocab.id(text).ok_or_else(|| bad(format!("{text:?} is not a token")));
            joined.clear();
            joined.push_str(left);
            joined.push_str(right);
            let rank =
                u32::try_from(index).map_err(|_| bad("there are more merges than 32 bits count".into()))?;
            table.entry((id(left)?, id(right)?)).or_insert(Merge { rank, id: id(&joined)? });
        }
        Ok(Bpe {
            splitter: Splitter::new(pre.patterns),
            byte_ids,
            merges: table,
            ignore_merges: pre.ignore_merges,
            is_composed: pre.is_composed,
        })
    }

    /// Appends the tokens of a text. A byte that has no token is left out before tokens are joined, as in
    /// `tokenizers`: there is nothing else it could become.
    pub(crate) fn encode(&self, vocab: &Vocab, text: &str, ids: &mut Vec<u32>) {
        let text = if self.is_composed { composed(text) } else { Cow::Borrowed(text) };
        let mut merger = Merger::default();
        let mut spelled = String::new();
        self.splitter.split(&text, |word| {
            if self.ignore_merges {
                spelled.clear();
                spelled.extend(word.bytes().map(|byte| CHAR_OF_BYTE[byte as usize]));
                if let Some(id) = vocab.id(&spelled) {
                    ids.push(id);
                    return;
                }
            }
            merger.clear();
            for id in word.bytes().map(|byte| self.byte_ids[byte as usize]).filter(|&id| id != NONE) {
                merger.push(id, 1);
            }
            let symbols = merger.run(|a, b| self.merges.get(&(a.id, b.id)).copied());
            ids.extend(symbols.map(|symbol| symbol.id));
        });
    }
}

/// The text in Unicode's normalization form C.
fn composed(text: &str) -> Cow<'_, str> {
    if text.is_ascii() || is_nfc_quick(text.chars()) == IsNormalized::Yes {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.nfc().map(|(character, _)| character).collect())
}
