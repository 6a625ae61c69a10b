//! Finding tokens by their text before the text around them is cut.

use aho_corasick::{AhoCorasick, MatchKind};

use crate::TokenizerError;
use crate::vocab::{TokenKind, Vocab};

/// A part of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part<'t> {
    /// The text of this token.
    Token(u32),
    /// What lies before, between and after; never empty.
    Text(&'t str),
}

/// Finders of added tokens; of overlapping ones the leftmost counts, and of those the longest.
pub(crate) struct AddedTokens {
    /// Control and unknown tokens, and those that are always found.
    special: Finder,
    /// User-defined tokens only.
    always: Finder,
}

#[derive(Default)]
struct Finder(Option<(AhoCorasick, Vec<u32>)>);

impl Finder {
    fn new(vocab: &Vocab, wanted: impl Fn(TokenKind) -> bool) -> Result<Self, TokenizerError> {
        let found = vocab.iter().filter(|(_, text, kind)| !text.is_empty() && wanted(*kind));
        let (ids, texts): (Vec<u32>, Vec<&str>) = found.map(|(id, text, _)| (id, text)).unzip();
        if ids.is_empty() {
            return Ok(Finder(None));
        }
        let automaton = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(texts);
        match automaton {
            Ok(automaton) => Ok(Finder(Some((automaton, ids)))),
            Err(error) => Err(TokenizerError::BadKey {
                key: "tokenizer.ggml.tokens".to_string(),
                problem: format!("its special tokens cannot be searched for: {error}"),
            }),
        }
    }
}

impl AddedTokens {
    pub(crate) fn new(vocab: &Vocab) -> Result<Self, TokenizerError> {
        use TokenKind::{Control, Unknown, UserDefined};
        Ok(AddedTokens {
            special: Finder::new(vocab, |kind| matches!(kind, Control | Unknown | UserDefined))?,
            always: Finder::new(vocab, |kind| kind == UserDefined)?,
        })
    }

    /// Calls `part` with the parts of `text` in order. Without `parse_special`, control tokens are plain text.
    pub(crate) fn split<'t, E>(
        &self,
        text: &'t str,
        parse_special: bool,
        mut part: impl FnMut(Part<'t>) -> Result<(), E>,
    ) -> Result<(), E> {
        let finder = if parse_special { &self.special } else { &self.always };
        let mut at = 0;
        if let Finder(Some((automaton, ids))) = finder {
            for found in automaton.find_iter(text) {
                if found.start() > at {
                    part(Part::Text(&text[at..found.start()]))?;
                }
                part(Part::Token(ids[found.pattern().as_usize()]))?;
                at = found.end();
            }
        }
        if at < text.len() {
            part(Part::Text(&text[at..]))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vocab::Spelling;

    fn parts(text: &str, parse_special: bool) -> Vec<String> {
        let tokens = [
            ("<s>", TokenKind::Control),
            ("<s>>", TokenKind::Control),
            ("<tool>", TokenKind::UserDefined),
            ("ab", TokenKind::Normal),
        ];
        let vocab = Vocab::new(tokens.into_iter(), Spelling::ByteLevel).unwrap();
        let mut parts = Vec::new();
        let added = AddedTokens::new(&vocab).unwrap();
        let all = added.split(text, parse_special, |part| {
            parts.push(match part {
                Part::Token(id) => id.to_string(),
                Part::Text(text) => text.to_string(),
            });
            Ok::<(), ()>(())
        });
        all.unwrap();
        parts
    }

    #[test]
    fn the_longest_of_two_tokens_is_found() {
        assert_eq!(parts("ab<s>>c<s>", true), ["ab", "1", "c", "0"]);
        assert!(parts("", true).is_empty());
    }

    #[test]
    fn control_tokens_are_text_unless_asked_for_and_user_defined_ones_never_are() {
        assert_eq!(parts("<s><tool>x", false), ["<s>", "2", "x"]);
        assert_eq!(parts("<s><tool>x", true), ["0", "2", "x"]);
    }
}
