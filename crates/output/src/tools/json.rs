//! Follows a JSON text character by character.

/// Where in a JSON value the text is.
#[derive(Debug)]
pub(super) struct JsonScanner {
    /// Objects (`true`) and arrays around this place.
    open: Vec<bool>,
    state: State,
}

/// What a character does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scan {
    /// the value goes on
    More,
    /// the value ends with this character
    Done,
    /// the value ended before this character
    DoneBefore,
    /// this is no JSON
    Bad,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Value,
    /// a value, or the end of the array
    ArrayStart,
    /// a key, or the end of the object
    ObjectStart,
    Key,
    Colon,
    AfterValue,
    Text {
        key: bool,
    },
    /// after a backslash
    Escape {
        key: bool,
    },
    /// within `\u…`: digits that are missing
    Hex {
        key: bool,
        missing: u8,
    },
    /// the rest of `true`, `false` or `null`
    Word(&'static str),
    Number(Digits),
}

/// Where in a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Digits {
    Minus,
    Zero,
    Whole,
    Point,
    Fraction,
    Exponent,
    Sign,
    Power,
}

impl JsonScanner {
    /// Expects a value.
    pub(super) fn new() -> JsonScanner {
        JsonScanner { open: Vec::new(), state: State::Value }
    }

    /// Goes on by a character.
    pub(super) fn push(&mut self, c: char) -> Scan {
        let space = matches!(c, ' ' | '\n' | '\r' | '\t');
        match self.state {
            State::Text { key } => match c {
                '"' if key => self.go(State::Colon),
                '"' => self.value_ends(),
                '\\' => self.go(State::Escape { key }),
                c if c < ' ' => Scan::Bad,
                _ => Scan::More,
            },
            State::Escape { key } => match c {
                '"' | '\\' | '/' | 'b' | 'f' | 'n' | 'r' | 't' => self.go(State::Text { key }),
                'u' => self.go(State::Hex { key, missing: 4 }),
                _ => Scan::Bad,
            },
            State::Hex { key, missing } if c.is_ascii_hexdigit() => match missing {
                1 => self.go(State::Text { key }),
                _ => self.go(State::Hex { key, missing: missing - 1 }),
            },
            State::Hex { .. } => Scan::Bad,
            State::Word(rest) => match rest.strip_prefix(c) {
                Some("") => self.value_ends(),
                Some(rest) => self.go(State::Word(rest)),
                None => Scan::Bad,
            },
            State::Number(digits) => self.number(digits, c),
            _ if space => Scan::More,
            State::Value => self.value(c),
            State::ArrayStart if c == ']' => self.close(),
            State::ArrayStart => self.value(c),
            State::ObjectStart if c == '}' => self.close(),
            State::ObjectStart | State::Key if c == '"' => self.go(State::Text { key: true }),
            State::Colon if c == ':' => self.go(State::Value),
            State::AfterValue => match (c, self.open.last()) {
                (',', Some(true)) => self.go(State::Key),
                (',', Some(false)) => self.go(State::Value),
                ('}', Some(true)) | (']', Some(false)) => self.close(),
                _ => Scan::Bad,
            },
            State::ObjectStart | State::Key | State::Colon => Scan::Bad,
        }
    }

    fn go(&mut self, state: State) -> Scan {
        self.state = state;
        Scan::More
    }

    fn value(&mut self, c: char) -> Scan {
        match c {
            '{' => {
                self.open.push(true);
                self.go(State::ObjectStart)
            }
            '[' => {
                self.open.push(false);
                self.go(State::ArrayStart)
            }
            '"' => self.go(State::Text { key: false }),
            't' => self.go(State::Word("rue")),
            'f' => self.go(State::Word("alse")),
            'n' => self.go(State::Word("ull")),
            '-' => self.go(State::Number(Digits::Minus)),
            '0' => self.go(State::Number(Digits::Zero)),
            '1'..='9' => self.go(State::Number(Digits::Whole)),
            _ => Scan::Bad,
        }
    }

    fn close(&mut self) -> Scan {
        self.open.pop();
        self.value_ends()
    }

    fn value_ends(&mut self) -> Scan {
        self.state = State::AfterValue;
        if self.open.is_empty() { Scan::Done } else { Scan::More }
    }

    fn number(&mut self, digits: Digits, c: char) -> Scan {
        use Digits::*;
        let next = match (digits, c) {
            (Minus, '0') => Zero,
            (Minus, '1'..='9') | (Whole, '0'..='9') => Whole,
            (Zero | Whole, '.') => Point,
            (Point | Fraction, '0'..='9') => Fraction,
            (Zero | Whole | Fraction, 'e' | 'E') => Exponent,
            (Exponent, '+' | '-') => Sign,
            (Exponent | Sign | Power, '0'..='9') => Power,
            (Zero | Whole | Fraction | Power, _) if self.open.is_empty() => return Scan::DoneBefore,
            (Zero | Whole | Fraction | Power, _) => {
                self.state = State::AfterValue;
                return self.push(c);
            }
            _ => return Scan::Bad,
        };
        self.go(State::Number(next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many bytes the value has, if the text begins with one that ends.
    fn length(text: &str) -> Option<usize> {
        let mut scanner = JsonScanner::new();
        for (at, c) in text.char_indices() {
            match scanner.push(c) {
                Scan::More => {}
                Scan::Done => return Some(at + c.len_utf8()),
                Scan::DoneBefore => return Some(at),
                Scan::Bad => return None,
            }
        }
        None
    }

    #[test]
    fn a_value_ends_where_serde_says() {
        for value in [
            "{}",
            "[]",
            "[1, -2.5e+3, 0]",
            "{\"a\": [true, false, null], \"b\\\"\\u00e9\": \"x\"}",
            "\"\"",
            "true",
            "{\"a\":{\"b\":[[],{}]}}",
            " \n {} ",
        ] {
            assert_eq!(length(&format!("{value}!")), Some(value.trim_end().len()), "{value}");
        }
        for number in ["0", "-1", "12.5", "1e9", "1E-2"] {
            assert_eq!(length(&format!("{number} ")), Some(number.len()), "{number}");
        }
    }

    #[test]
    fn what_is_no_json_is_bad_at_once() {
        for text in [
            "}",
            "{,",
            "{\"a\",",
            "{\"a\":}",
            "[1,]",
            "{\"a\":1,}",
            "[01]",
            "1. ",
            "-x",
            "\"\\q",
            "\"\\u12g",
            "\"\n",
            "trux",
            "[1}",
            "{\"a\":1]",
            "1e ",
            "'a'",
        ] {
            assert_eq!(length(text), None, "{text}");
        }
    }
}
