//! Regular expressions of JSON Schema (ECMA-262), in the syntax of the compiler (that of the crate regex).
//!
//! Where the two languages differ, the translation means what ECMA-262 says, or a little less: `\s` matches only ASCII
//! white space, and `\S` nothing that anybody calls white space.

use serde_json::Value;

/// What `\s` matches, inside a class.
const SPACE: &str = r"\t\n\x0b\x0c\r ";
/// What `\S` does not match, inside a class.
const ANY_SPACE: &str = r"\s\x{feff}\x{85}\x1c-\x1f";

/// Why a text with certain control characters cannot be asked for.
pub(super) const UNWRITABLE: &str =
    "it has a control character that only `\\u` could write, and strings have no `\\u` escapes";

/// Whether a character can only be written as `\u…` in JSON.
fn is_unwritable(c: char) -> bool {
    c < ' ' && !matches!(c, '\n' | '\r' | '\t' | '\x08' | '\x0c')
}

/// Whether any text within a value has such a character. Names of members are written as they are.
pub(super) fn has_unwritable(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains(is_unwritable),
        Value::Array(items) => items.iter().any(has_unwritable),
        Value::Object(fields) => fields.values().any(has_unwritable),
        _ => false,
    }
}

/// Translates a pattern.
///
/// # Errors
/// Says what in it cannot be enforced.
pub(super) fn translated(pattern: &str, repetitions: u64) -> Result<String, String> {
    let mut translator = Translator {
        chars: pattern.chars().collect(),
        at: 0,
        out: String::with_capacity(pattern.len()),
        repetitions,
    };
    while let Some(c) = translator.next() {
        translator.outside(c)?;
    }
    Ok(translator.out)
}

/// How deep the groups of a regular expression are nested, at most: escaped parentheses count too.
pub(crate) fn group_depth(regex: &str) -> usize {
    let (mut depth, mut deepest) = (0usize, 0);
    for c in regex.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

struct Translator {
    chars: Vec<char>,
    at: usize,
    out: String,
    repetitions: u64,
}

impl Translator {
    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += 1;
        Some(c)
    }

    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn eat(&mut self, text: &str) -> bool {
        let found = text.chars().enumerate().all(|(i, c)| self.chars.get(self.at + i) == Some(&c));
        self.at += if found { text.chars().count() } else { 0 };
        found
    }

    /// A character outside of classes.
    fn outside(&mut self, c: char) -> Result<(), String> {
        match c {
            '\\' => self.escape(None)?,
            '[' => self.class()?,
            '(' => self.group()?,
            '.' => self.out.push_str(r"[^\n\r\x{2028}\x{2029}]"),
            '{' => self.braces()?,
            '*' | '+' | '?' => {
                self.out.push(c);
                self.drop_laziness();
            }
            '}' | ']' => self.out.extend(['\\', c]),
            _ if is_unwritable(c) => return Err(UNWRITABLE.to_string()),
            _ => self.out.push(c),
        }
        Ok(())
    }

    /// How much a repetition takes changes nothing about whether there is a match.
    fn drop_laziness(&mut self) {
        self.eat("?");
    }

    /// `{2,3}` is a repetition, any other brace is itself.
    fn braces(&mut self) -> Result<(), String> {
        let end = self.chars[self.at..].iter().position(|&c| c == '}');
        let inside: String =
            end.map(|end| self.chars[self.at..self.at + end].iter().collect()).unwrap_or_default();
        let counts: Vec<&str> = inside.split(',').collect();
        let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
        if counts.len() > 2 || counts[0].is_empty() || !counts.iter().all(|count| digits(count)) {
            self.out.push_str(r"\{");
            return Ok(());
        }
        for count in counts.iter().filter(|count| !count.is_empty()) {
            if count.parse::<u64>().map_or(true, |count| count > self.repetitions) {
                return Err(format!("it repeats {count} times, more than {}", self.repetitions));
            }
        }
        self.at += inside.chars().count() + 1;
        self.out.push_str(&format!("{{{inside}}}"));
        self.drop_laziness();
        Ok(())
    }

    fn group(&mut self) -> Result<(), String> {
        let named = self.eat("?P<") || (self.eat("?<") && !matches!(self.peek(), Some('=' | '!')));
        if named {
            while self.next().ok_or("a group has no end of its name")? != '>' {}
        } else if self.chars.get(self.at.wrapping_sub(1)) == Some(&'<') || self.eat("?=") || self.eat("?!") {
            return Err("it looks ahead or back".to_string());
        } else if !self.eat("?:") && self.peek() == Some('?') {
            return Err("it has a group of an unknown kind".to_string());
        }
        self.out.push_str("(?:");
        Ok(())
    }

    /// A class, after its bracket.
    fn class(&mut self) -> Result<(), String> {
        let negated = self.eat("^");
        if self.eat("]") {
            self.out.push_str(if negated {
                "(?s:.)"
            } else {
                return Err("it has an empty class".to_string());
            });
            return Ok(());
        }
        self.out.push_str(if negated { "[^" } else { "[" });
        loop {
            match self.next().ok_or("a class has no end")? {
                ']' => break,
                '\\' => self.escape(Some(negated))?,
                '-' if self.peek() == Some('-') => return Err("a class has two hyphens in a row".to_string()),
                c if is_unwritable(c) && !negated => return Err(UNWRITABLE.to_string()),
                c @ ('[' | '&' | '~' | '^') => self.out.extend(['\\', c]),
                c => self.out.push(c),
            }
        }
        self.out.push(']');
        Ok(())
    }

    /// What follows a backslash; `class` says whether it stands in a class, and in a negated one.
    fn escape(&mut self, class: Option<bool>) -> Result<(), String> {
        let c = self.next().ok_or("it ends with a backslash")?;
        let negated = class == Some(true);
        match c {
            'd' => self.set(class, "0-9"),
            'D' => self.out.push_str("[^0-9]"),
            'w' => self.set(class, "0-9A-Za-z_"),
            'W' => self.out.push_str("[^0-9A-Za-z_]"),
            's' => self.set(class, if negated { ANY_SPACE } else { SPACE }),
            'S' => {
                let not = if negated { SPACE } else { ANY_SPACE };
                self.out.push_str(&format!("[^{not}]"));
            }
            'b' if class.is_some() => self.out.push_str(r"\x08"),
            'b' | 'B' => return Err("it asks for word boundaries".to_string()),
            'n' | 'r' | 't' | 'f' => self.out.extend(['\\', c]),
            'v' => self.code(0x0b, class)?,
            'p' | 'P' => {
                self.out.extend(['\\', c]);
                while self.peek().is_some_and(|c| c.is_ascii_alphanumeric() || "{}=_".contains(c)) {
                    let c = self.next().unwrap_or('}');
                    self.out.push(c);
                    if c == '}' {
                        break;
                    }
                }
            }
            'c' => match self.next().filter(char::is_ascii_alphabetic) {
                Some(letter) => self.code(u32::from(letter) % 32, class)?,
                None => return Err(r"\c has no letter".to_string()),
            },
            '0' if !self.peek().is_some_and(|c| c.is_ascii_digit()) => self.code(0, class)?,
            '0'..='9' | 'k' => return Err("it refers back to a group".to_string()),
            'x' => {
                let code = self.hex(2)?;
                self.code(code, class)?;
            }
            'u' => self.unicode(class)?,
            _ if c.is_ascii_alphanumeric() => return Err(format!(r"\{c} is not known")),
            // these two would be word boundaries
            '<' | '>' => self.out.push(c),
            _ if c.is_ascii_punctuation() => self.out.extend(['\\', c]),
            _ => self.out.push(c),
        }
        Ok(())
    }

    fn set(&mut self, class: Option<bool>, ranges: &str) {
        match class {
            Some(_) => self.out.push_str(ranges),
            None => self.out.push_str(&format!("[{ranges}]")),
        }
    }

    /// `\u0041`, `\u{41}`, or two halves of a character beyond 16 bits.
    fn unicode(&mut self, class: Option<bool>) -> Result<(), String> {
        if self.eat("{") {
            let mut code = 0u32;
            loop {
                match self.next().ok_or(r"\u{ has no end")? {
                    '}' => return self.code(code, class),
                    c => {
                        let digit = c.to_digit(16).ok_or_else(|| format!("{c:?} is no hexadecimal digit"))?;
                        code = code
                            .checked_mul(16)
                            .map(|code| code + digit)
                            .ok_or("a code point is too large")?;
                    }
                }
            }
        }
        let high = self.hex(4)?;
        if (0xd800..0xdc00).contains(&high) && self.eat("\\u") {
            let low = self.hex(4)?;
            return self.code(0x10000 + ((high - 0xd800) << 10) + (low.wrapping_sub(0xdc00) & 0x3ff), class);
        }
        self.code(high, class)
    }

    fn hex(&mut self, n: usize) -> Result<u32, String> {
        (0..n).try_fold(0, |code, _| {
            let digit = self.next().and_then(|c| c.to_digit(16)).ok_or("a hexadecimal digit is missing")?;
            Ok(code * 16 + digit)
        })
    }

    fn code(&mut self, code: u32, class: Option<bool>) -> Result<(), String> {
        let c = char::from_u32(code).ok_or_else(|| format!("{code:#x} is no character"))?;
        if is_unwritable(c) && class != Some(true) {
            return Err(UNWRITABLE.to_string());
        }
        self.out.push_str(&format!("\\x{{{:x}}}", u32::from(c)));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translate(pattern: &str) -> Result<String, String> {
        translated(pattern, 1000)
    }

    #[test]
    fn what_means_the_same_stays() {
        for pattern in ["^a|b+$", "(?:ab)*", "a{2,3}", "[a-z0-9_]", r"\n\.\*", r"\p{L}", "é"] {
            assert_eq!(translate(pattern).unwrap(), pattern, "{pattern}");
        }
    }

    #[test]
    fn what_means_something_else_is_written_otherwise() {
        for (pattern, written) in [
            (r"\d\D", "[0-9][^0-9]"),
            (r"[\d\W]", "[0-9[^0-9A-Za-z_]]"),
            (".", r"[^\n\r\x{2028}\x{2029}]"),
            ("[[&&~]", r"[\[\&\&\~]"),
            ("(a)(?<n>b)(?P<m>c)", "(?:a)(?:b)(?:c)"),
            ("a{b}", r"a\{b\}"),
            ("a{,3}", r"a\{,3\}"),
            ("a*?b+?c??d{2}?", "a*b+c?d{2}"),
            (r"\cJ\x41\u0041\u{1F600}\uD83D\uDE00", r"\x{a}\x{41}\x{41}\x{1f600}\x{1f600}"),
            (r"[^\x00-\x1f]", r"[^\x{0}-\x{1f}]"),
            (r"[\b]", r"[\x08]"),
            (r"\<\/", r"<\/"),
            ("[^]", "(?s:.)"),
            ("]", r"\]"),
        ] {
            assert_eq!(translate(pattern).unwrap(), written, "{pattern}");
        }
    }

    #[test]
    fn what_has_no_counterpart_is_refused() {
        for pattern in [
            "(?=a)",
            "(?!a)",
            "(?<=a)",
            "(?<!a)",
            r"(a)\1",
            r"\bа",
            r"\B",
            "[]",
            r"\A",
            r"\z",
            "(?i)a",
            r"\cA",
            r"\0",
            "a\u{1}",
            r"[\x00]",
            r"\v",
            "a{1001}",
            "a{99999999999999999999}",
            "\\",
            "[a",
            r"\x4",
            r"\uD800",
            r"\u{110000}",
            "[a--b]",
            r"\k<n>",
        ] {
            assert!(translate(pattern).is_err(), "{pattern}");
        }
    }
}
