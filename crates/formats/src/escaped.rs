//! Text of a file as a reader may see it.
//!
//! Names, keys and templates in a model file, answers of a hub, and names of files are whatever their author wrote. On a
//! terminal an escape sequence in them moves the cursor, renames the window or hides a line; a bidirectional override
//! shows another text than the one that is there. Here such a character is shown as Rust writes it, `\u{1b}`, and does
//! nothing. Strings stay as they are until they are shown: whoever shows them escapes them.

use std::fmt::{self, Write};

/// How much of a text is its author's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escaping {
    /// a name or a value within a line: no character may end the line
    Line,
    /// Lines: `\n` and `\t` are left.
    Lines,
    /// What a model says, in lines. Joiners and direction marks are left, which Persian, Arabic and emoji are written with.
    Prose,
}

impl Escaping {
    /// Whether a character does something instead of being seen.
    ///
    /// ```text
    /// C0, DEL, C1                        move the cursor, begin escape sequences
    /// U+2028 U+2029                      end a line
    /// U+202A..202E  U+2066..2069         bidirectional embedding, override, isolate
    /// U+061C  U+200E U+200F              direction marks              left in prose
    /// U+200B..200D  U+2060..2064         zero width                   U+200C and U+200D left in prose
    /// U+00AD U+180E U+FEFF U+FFF9..FFFB  not seen either
    /// U+E0000..E007F                     tags, a whole hidden alphabet
    /// ```
    pub fn applies_to(self, c: char) -> bool {
        match c {
            '\n' | '\t' => self == Escaping::Line,
            '\u{61c}' | '\u{200c}'..='\u{200f}' => self != Escaping::Prose,
            '\u{ad}'
            | '\u{180e}'
            | '\u{200b}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}' => true,
            _ => c.is_control(),
        }
    }

    /// Whether a text has such a character.
    pub fn is_needed(self, text: &str) -> bool {
        text.chars().any(|c| self.applies_to(c))
    }
}

/// A name or a value within a line, escaped when it is formatted: `Escaped("a\x1b[2J")` is shown as `a\u{1b}[2J`.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<T>(pub T);

/// The same for a text that has lines of its own.
#[derive(Clone, Copy, Debug)]
pub struct EscapedLines<T>(pub T);

impl<T: fmt::Display> fmt::Display for Escaped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_padded(&self.0, Escaping::Line, f)
    }
}

impl<T: fmt::Display> fmt::Display for EscapedLines<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_padded(&self.0, Escaping::Lines, f)
    }
}

/// Width and alignment count what is seen, so that columns stay columns.
fn write_padded(text: &dyn fmt::Display, escaping: Escaping, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if f.width().is_none() && f.precision().is_none() {
        return write!(Escaper { out: f, escaping }, "{text}");
    }
    let mut shown = String::new();
    write!(Escaper { out: &mut shown, escaping }, "{text}")?;
    f.pad(&shown)
}

/// Escapes what is written through it.
struct Escaper<'a, W> {
    out: &'a mut W,
    escaping: Escaping,
}

impl<W: fmt::Write> fmt::Write for Escaper<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some((at, c)) = rest.char_indices().find(|&(_, c)| self.escaping.applies_to(c)) {
            self.out.write_str(&rest[..at])?;
            write!(self.out, "{}", c.escape_unicode())?;
            rest = &rest[at + c.len_utf8()..];
        }
        self.out.write_str(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_do_something_is_shown() {
        assert_eq!(Escaped("a\x1b[2J\x07\r\n").to_string(), "a\\u{1b}[2J\\u{7}\\u{d}\\u{a}");
        assert_eq!(Escaped("\u{7f}\u{9b}31m\u{85}").to_string(), "\\u{7f}\\u{9b}31m\\u{85}");
        assert_eq!(
            Escaped("\u{202e}cod\u{2066}\u{2028}\u{200b}").to_string(),
            "\\u{202e}cod\\u{2066}\\u{2028}\\u{200b}"
        );
        assert_eq!(Escaped("Qwen2.5 ünï 模型 👍 \\u{1b}").to_string(), "Qwen2.5 ünï 模型 👍 \\u{1b}");
    }

    #[test]
    fn lines_stay_lines_where_they_are_wanted() {
        assert_eq!(EscapedLines("a\n\tb\r\x1b").to_string(), "a\n\tb\\u{d}\\u{1b}");
        assert!(Escaping::Line.is_needed("a\nb") && !Escaping::Lines.is_needed("a\nb"));
    }

    #[test]
    fn prose_keeps_what_languages_are_written_with_and_no_override() {
        let persian = "می\u{200c}خواهم\u{200f} 👨\u{200d}👩\u{200d}👧";
        assert!(!Escaping::Prose.is_needed(persian) && Escaping::Lines.is_needed(persian));
        assert!(Escaping::Prose.is_needed("\u{202e}") && Escaping::Prose.is_needed("\x1b"));
    }

    #[test]
    fn columns_count_what_is_seen() {
        assert_eq!(format!("{:<8}|{:>8}|", Escaped("\x07"), Escaped("ab")), "\\u{7}   |      ab|");
    }

    #[test]
    fn no_character_that_a_terminal_obeys_is_left() {
        for c in (0..0x11_0000).filter_map(char::from_u32) {
            let is_obeyed = c < ' ' || ('\u{7f}'..='\u{9f}').contains(&c);
            assert!(Escaping::Line.applies_to(c) || !is_obeyed, "{c:?}");
            assert!(Escaping::Prose.applies_to(c) || !is_obeyed || matches!(c, '\n' | '\t'), "{c:?}");
        }
    }
}
