//! Numbers and strings of a template, as Python writes them.

use super::super::limits::Result;
use super::{Lexer, Token};

impl Lexer<'_> {
    pub(super) fn number(&mut self) -> Result<Token> {
        let rest = self.rest();
        let after_point = self.at > 0 && self.source.as_bytes()[self.at - 1] == b'.';
        let digits = |text: &str, radix: u32| {
            let end = text.find(|c: char| !c.is_digit(radix) && c != '_').unwrap_or(text.len());
            text[..end].trim_end_matches('_').len()
        };
        for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] {
            let has_prefix = rest.get(..2).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
            let length = if has_prefix { digits(&rest[2..], radix) } else { 0 };
            if length > 0 {
                self.at += 2 + length;
                return self.integer(&rest[2..2 + length], radix);
            }
        }
        let whole = digits(rest, 10);
        let mut end = whole;
        if !after_point {
            let fraction = rest[end..].strip_prefix('.').map_or(0, |text| digits(text, 10));
            if fraction > 0 && rest.as_bytes()[end + 1].is_ascii_digit() {
                end += 1 + fraction;
            }
            if let Some(exponent) = rest[end..].strip_prefix(['e', 'E']) {
                let sign = usize::from(exponent.starts_with(['+', '-']));
                let length = digits(&exponent[sign..], 10);
                if length > 0 && exponent.as_bytes()[sign].is_ascii_digit() {
                    end += 1 + sign + length;
                }
            }
        }
        self.at += end;
        if end == whole {
            return self.integer(&rest[..end], 10);
        }
        match rest[..end].replace('_', "").parse() {
            Ok(number) => Ok(Token::Float(number)),
            Err(_) => self.problem(format!("{} is not a number", &rest[..end])),
        }
    }

    fn integer(&mut self, digits: &str, radix: u32) -> Result<Token> {
        match i128::from_str_radix(&digits.replace('_', ""), radix) {
            Ok(number) => Ok(Token::Int(number)),
            Err(_) => self.problem(format!("the number {digits} has more than 127 bits, the limit")),
        }
    }

    pub(super) fn string(&mut self, quote: char) -> Result<Token> {
        let mut text = String::new();
        let mut chars = self.rest()[1..].char_indices();
        while let Some((at, c)) = chars.next() {
            if c == quote {
                self.at += 1 + at + 1;
                return Ok(Token::Text(text));
            }
            if c != '\\' {
                text.push(c);
                continue;
            }
            let Some((_, escape)) = chars.next() else { break };
            let hex = |n: usize| (chars.as_str().get(..n), n);
            let (digits, n) = match escape {
                '\n' => continue,
                'n' => {
                    text.push('\n');
                    continue;
                }
                't' => {
                    text.push('\t');
                    continue;
                }
                'r' => {
                    text.push('\r');
                    continue;
                }
                'a' => {
                    text.push('\u{7}');
                    continue;
                }
                'b' => {
                    text.push('\u{8}');
                    continue;
                }
                'f' => {
                    text.push('\u{c}');
                    continue;
                }
                'v' => {
                    text.push('\u{b}');
                    continue;
                }
                '\\' | '\'' | '"' => {
                    text.push(escape);
                    continue;
                }
                '0'..='7' => {
                    let mut value = escape.to_digit(8).unwrap_or_default();
                    for _ in 0..2 {
                        let Some(digit) = chars.as_str().chars().next().and_then(|c| c.to_digit(8)) else {
                            break;
                        };
                        chars.next();
                        value = value * 8 + digit;
                    }
                    text.extend(char::from_u32(value));
                    continue;
                }
                'x' => hex(2),
                'u' => hex(4),
                'U' => hex(8),
                other => {
                    text.push('\\');
                    text.push(other);
                    continue;
                }
            };
            let value = digits.filter(|digits| digits.bytes().all(|c| c.is_ascii_hexdigit()));
            let value =
                value.and_then(|digits| u32::from_str_radix(digits, 16).ok()).and_then(char::from_u32);
            let Some(value) = value else {
                return self.problem(format!("`\\{escape}` is not followed by {n} digits of a character"));
            };
            text.push(value);
            chars.nth(n - 1);
        }
        self.problem("a string has no end")
    }
}
