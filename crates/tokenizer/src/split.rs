//! Cutting a text into words before BPE.
//!
//! The published patterns end in `\s+(?!\S)|\s+`: a run of spaces leaves its last one to the word after it. A look-ahead
//! needs a backtracking engine, which is slow and has a step limit, beyond which long runs are cut wrongly. The same cut
//! without one: match the whole run by `\s+`, and give its last character back if anything follows and it is not alone.
//! That makes every pattern regular, so that a document is cut in linear time.

use regex_automata::meta::Regex;
use regex_automata::{Input, MatchKind};

/// One pass over the pieces of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pattern {
    /// Every match is a piece, and what lies between is a piece.
    Plain(&'static str),
    /// The same, with `|\s+(?!\S)|\s+` at the end of the pattern.
    AndSpaces(&'static str),
}

/// Compiled passes, applied in order; each cuts every piece that the one before left.
pub(crate) struct Splitter {
    passes: Vec<Pass>,
}

struct Pass {
    /// Pattern 0 is the pattern, pattern 1 the run of spaces.
    regex: Regex,
}

const SPACES: usize = 1;

impl Splitter {
    /// Compiles patterns, which are constants of this crate.
    ///
    /// # Panics
    /// If one of them is not a pattern.
    pub(crate) fn new(patterns: &[Pattern]) -> Self {
        let passes = patterns.iter().map(|pattern| {
            let builder =
                Regex::builder().configure(Regex::config().match_kind(MatchKind::LeftmostFirst)).clone();
            let regex = match pattern {
                Pattern::Plain(plain) => builder.build(plain),
                Pattern::AndSpaces(words) => builder.build_many(&[words, r"\s+"]),
            };
            Pass { regex: regex.expect("the patterns of this crate compile") }
        });
        Splitter { passes: passes.collect() }
    }

    /// Calls `word` with the pieces of `text`, in order and without gaps.
    pub(crate) fn split<'t>(&self, text: &'t str, mut word: impl FnMut(&'t str)) {
        split_with(&self.passes, text, &mut word);
    }
}

fn split_with<'t>(passes: &[Pass], text: &'t str, word: &mut dyn FnMut(&'t str)) {
    let Some((pass, rest)) = passes.split_first() else {
        if !text.is_empty() {
            word(text);
        }
        return;
    };
    let mut at = 0;
    while at < text.len() {
        let Some(found) = pass.regex.search(&Input::new(text).span(at..text.len())) else { break };
        let mut end = found.end();
        if found.pattern().as_usize() == SPACES && end < text.len() {
            let last = text[found.range()].char_indices().next_back();
            end = found.start() + last.map_or(0, |(offset, _)| offset);
            if end == found.start() {
                end = found.end();
            }
        }
        if found.start() > at {
            split_with(rest, &text[at..found.start()], word);
        }
        split_with(rest, &text[found.start()..end], word);
        at = end;
    }
    if at < text.len() {
        split_with(rest, &text[at..], word);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words<'t>(patterns: &[Pattern], text: &'t str) -> Vec<&'t str> {
        let mut words = Vec::new();
        Splitter::new(patterns).split(text, |word| words.push(word));
        words
    }

    #[test]
    fn a_run_of_spaces_leaves_its_last_one_to_the_next_word() {
        let pattern = [Pattern::AndSpaces(r" ?\p{L}+")];
        assert_eq!(words(&pattern, "a   b"), ["a", "  ", " b"]);
        assert_eq!(words(&pattern, "a\t\tb"), ["a", "\t", "\t", "b"]);
        assert_eq!(words(&pattern, "a   "), ["a", "   "]);
        assert_eq!(words(&pattern, " \u{3000}b"), [" ", "\u{3000}", "b"]);
        assert_eq!(words(&pattern, ""), Vec::<&str>::new());
    }

    #[test]
    fn a_second_pass_cuts_the_pieces_of_the_first() {
        let patterns = [Pattern::Plain("[0-9]"), Pattern::AndSpaces(r" ?\p{L}+")];
        assert_eq!(words(&patterns, "ab 12c"), ["ab", " ", "1", "2", "c"]);
    }

    #[test]
    fn a_long_run_is_cut_in_linear_time() {
        let text = " ".repeat(3_000_000) + "x";
        let words = words(&[Pattern::AndSpaces(r" ?\p{L}+")], &text);
        assert_eq!(words.iter().map(|word| word.len()).collect::<Vec<_>>(), [2_999_999, 2]);
    }
}
