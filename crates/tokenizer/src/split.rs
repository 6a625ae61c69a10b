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
    /// Digits are cut into threes from the right: `(?=(\d{3})+(?!\d))`.
    Thousands,
}

impl Pattern {
    /// As models publish it.
    pub(crate) fn published(self) -> String {
        match self {
            Pattern::Plain(plain) => plain.to_owned(),
            Pattern::AndSpaces(words) => format!(r"{words}|\s+(?!\S)|\s+"),
            Pattern::Thousands => r"(?=(\d{3})+(?!\d))".to_owned(),
        }
    }
}

/// Compiled passes, applied in order; each cuts every piece that the one before left.
pub(crate) struct Splitter {
    passes: Vec<Pass>,
}

enum Pass {
    /// Pattern 0 is the pattern, pattern 1 the run of spaces.
    Words(Regex),
    /// Finds runs of digits.
    Thousands(Regex),
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
                Pattern::Thousands => builder.build(r"\d+"),
            };
            let regex = regex.expect("the patterns of this crate compile");
            if *pattern == Pattern::Thousands { Pass::Thousands(regex) } else { Pass::Words(regex) }
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
    let regex = match pass {
        Pass::Words(regex) => regex,
        Pass::Thousands(digits) => return split_thousands(digits, rest, text, word),
    };
    let mut at = 0;
    while at < text.len() {
        let Some(found) = regex.search(&Input::new(text).span(at..text.len())) else { break };
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

/// Cuts before every digit that has a multiple of three digits from itself to the end of its run.
fn split_thousands<'t>(digits: &Regex, rest: &[Pass], text: &'t str, word: &mut dyn FnMut(&'t str)) {
    let mut start = 0;
    for run in digits.find_iter(text) {
        let n = text[run.range()].chars().count();
        for (i, (at, _)) in text[run.range()].char_indices().enumerate() {
            let at = run.start() + at;
            if (n - i).is_multiple_of(3) && at > start {
                split_with(rest, &text[start..at], word);
                start = at;
            }
        }
    }
    split_with(rest, &text[start..], word);
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
    fn digits_are_cut_into_threes_from_the_right() {
        let patterns = [Pattern::Plain(r"\p{N}+"), Pattern::Thousands];
        assert_eq!(words(&patterns, "a 12345 b678"), ["a ", "12", "345", " b", "678"]);
        assert_eq!(words(&patterns, "1"), ["1"]);
        assert_eq!(words(&patterns, "1²345678"), ["1²", "345", "678"]);
    }

    #[test]
    fn a_long_run_is_cut_in_linear_time() {
        let text = " ".repeat(3_000_000) + "x";
        let words = words(&[Pattern::AndSpaces(r" ?\p{L}+")], &text);
        assert_eq!(words.iter().map(|word| word.len()).collect::<Vec<_>>(), [2_999_999, 2]);
    }
}
