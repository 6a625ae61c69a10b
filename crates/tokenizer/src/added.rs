//! Finding tokens by their text before the text around them is cut.

use std::ops::Range;

use aho_corasick::{AhoCorasick, Input, MatchKind};

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

impl Finder {
    /// The first token in `text` from `at` on.
    fn next(&self, text: &str, at: usize) -> Option<(u32, Range<usize>)> {
        let Finder(Some((automaton, ids))) = self else { return None };
        let found = automaton.find(Input::new(text).range(at..))?;
        Some((ids[found.pattern().as_usize()], found.range()))
    }
}

/// Whether a range of `plain`, which is in order, has a byte of `token`.
pub(crate) fn touches(plain: &[Range<usize>], token: &Range<usize>) -> bool {
    let next = plain.partition_point(|range| range.end <= token.start);
    plain.get(next).is_some_and(|range| range.start < token.end)
}

impl AddedTokens {
    pub(crate) fn new(vocab: &Vocab) -> Result<Self, TokenizerError> {
        use TokenKind::{Control, Unknown, UserDefined};
        Ok(AddedTokens {
            special: Finder::new(vocab, |kind| matches!(kind, Control | Unknown | UserDefined))?,
            always: Finder::new(vocab, |kind| kind == UserDefined)?,
        })
    }

    /// The parts of `text`, in order. Without `parse_special`, control tokens are plain text; so is every control token
    /// that touches a range of `plain`.
    pub(crate) fn split<'t>(
        &self,
        vocab: &Vocab,
        text: &'t str,
        parse_special: bool,
        plain: &[Range<usize>],
    ) -> Vec<Part<'t>> {
        let finder = if parse_special { &self.special } else { &self.always };
        let mut parts = Vec::new();
        let (mut at, mut end) = (0, 0);
        // the next token that is none of control, once it was looked for
        let mut user_defined: Option<Option<(u32, Range<usize>)>> = None;
        while let Some((mut id, mut token)) = finder.next(text, at) {
            if vocab.kind(id) != Some(TokenKind::UserDefined) && touches(plain, &token) {
                if user_defined
                    .as_ref()
                    .is_none_or(|next| next.as_ref().is_some_and(|(_, next)| next.start < token.start))
                {
                    user_defined = Some(self.always.next(text, token.start));
                }
                match &user_defined {
                    Some(Some((other, next))) if next.start == token.start => {
                        (id, token) = (*other, next.clone())
                    }
                    _ => {
                        // what begins inside may still be one
                        at = token.start + 1;
                        continue;
                    }
                }
            }
            if token.start > end {
                parts.push(Part::Text(&text[end..token.start]));
            }
            parts.push(Part::Token(id));
            (at, end) = (token.end, token.end);
        }
        if end < text.len() {
            parts.push(Part::Text(&text[end..]));
        }
        parts
    }
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "lists of ranges are meant")]
mod tests {
    use super::*;
    use crate::vocab::Spelling;

    fn parts(text: &str, parse_special: bool) -> Vec<String> {
        parts_without(text, parse_special, &[])
    }

    fn parts_without(text: &str, parse_special: bool, plain: &[Range<usize>]) -> Vec<String> {
        let tokens = [
            ("<s>", TokenKind::Control),
            ("<s>>", TokenKind::Control),
            ("<tool>", TokenKind::UserDefined),
            ("<tool>x>", TokenKind::Control),
            ("ab", TokenKind::Normal),
        ];
        let vocab = Vocab::new(tokens.into_iter(), Spelling::ByteLevel).unwrap();
        let spell = |part: Part| match part {
            Part::Token(id) => id.to_string(),
            Part::Text(text) => text.to_string(),
        };
        let added = AddedTokens::new(&vocab).unwrap();
        added.split(&vocab, text, parse_special, plain).into_iter().map(spell).collect()
    }

    #[test]
    fn the_longest_of_two_tokens_is_found() {
        assert_eq!(parts("ab<s>>c<s>", true), ["ab", "1", "c", "0"]);
        assert!(parts("", true).is_empty());
    }

    #[test]
    fn a_token_that_touches_a_plain_range_is_text() {
        assert_eq!(parts_without("<s>a<s>", true, &[0..3]), ["<s>a", "0"]);
        assert_eq!(parts_without("<s>a<s>", true, &[6..7]), ["0", "a<s>"]);
        assert_eq!(parts_without("<s>a<s>", true, &[3..4]), ["0", "a", "0"]);
        // the longer token is text, and the shorter one in it as well
        assert_eq!(parts_without("<s>>", true, &[3..4]), ["<s>>"]);
        assert_eq!(parts_without("<s><tool><s>", true, &[2..8]), ["<s>", "2", "0"]);
        assert_eq!(parts_without("<tool>x>", true, &[0..8]), ["2", "x>"]);
    }

    #[test]
    fn control_tokens_are_text_unless_asked_for_and_user_defined_ones_never_are() {
        assert_eq!(parts("<s><tool>x", false), ["<s>", "2", "x"]);
        assert_eq!(parts("<s><tool>x", true), ["0", "2", "x"]);
    }
}
