//! Reads GBNF.

use std::collections::HashMap;

use super::Node;
use crate::error::ConstraintError;
use crate::limits::Limits;

/// The rules by number; `root` is the first.
pub(super) fn rules(source: &str, limits: &Limits) -> Result<Vec<Node>, ConstraintError> {
    let root = ("root".to_string(), 0);
    let mut reader = Reader {
        chars: source.chars().collect(),
        at: 0,
        limits,
        numbers: HashMap::from([root]),
        rules: vec![None],
        used_at: vec![0],
    };
    reader.space(true);
    while reader.peek().is_some() {
        reader.rule()?;
        reader.space(true);
    }
    let missing = reader.rules.iter().position(Option::is_none);
    if let Some(number) = missing {
        let name = reader.numbers.iter().find(|(_, found)| **found == number).map_or("", |(name, _)| name);
        let problem =
            format!("there is no rule `{name}`: every grammar needs `root`, and each rule that is named");
        return Err(reader.error(reader.used_at[number], problem));
    }
    Ok(reader.rules.into_iter().flatten().collect())
}

struct Reader<'a> {
    chars: Vec<char>,
    at: usize,
    limits: &'a Limits,
    numbers: HashMap<String, usize>,
    rules: Vec<Option<Node>>,
    /// Where each rule is named first.
    used_at: Vec<usize>,
}

impl Reader<'_> {
    fn error(&self, at: usize, problem: impl Into<String>) -> ConstraintError {
        let before = &self.chars[..at.min(self.chars.len())];
        let line = before.iter().filter(|&&c| c == '\n').count() + 1;
        let column = before.iter().rev().take_while(|&&c| c != '\n').count() + 1;
        ConstraintError::BadGrammar { line, column, problem: problem.into() }
    }

    fn fail<T>(&self, problem: impl Into<String>) -> Result<T, ConstraintError> {
        Err(self.error(self.at, problem))
    }

    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += 1;
        Some(c)
    }

    fn eat(&mut self, text: &str) -> bool {
        let found = text.chars().enumerate().all(|(i, c)| self.chars.get(self.at + i) == Some(&c));
        self.at += if found { text.chars().count() } else { 0 };
        found
    }

    /// Skips white space and comments; ends of lines only if `lines`.
    fn space(&mut self, lines: bool) {
        while let Some(c) = self.peek() {
            match c {
                ' ' | '\t' => self.at += 1,
                '\n' | '\r' if lines => self.at += 1,
                '#' => {
                    while self.peek().is_some_and(|c| c != '\n' && c != '\r') {
                        self.at += 1;
                    }
                }
                _ => break,
            }
        }
    }

    fn name(&mut self) -> Option<String> {
        let start = self.at;
        while self.peek().is_some_and(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_') {
            self.at += 1;
        }
        (self.at > start).then(|| self.chars[start..self.at].iter().collect())
    }

    fn number_of(&mut self, name: String, at: usize) -> usize {
        let next = self.rules.len();
        let number = *self.numbers.entry(name).or_insert(next);
        if number == next {
            self.rules.push(None);
            self.used_at.push(at);
        }
        number
    }

    fn rule(&mut self) -> Result<(), ConstraintError> {
        let start = self.at;
        let Some(name) = self.name() else { return self.fail("a rule begins with its name") };
        self.space(false);
        if !self.eat("::=") {
            return self.fail("after the name of a rule comes `::=`");
        }
        self.space(true);
        let number = self.number_of(name.clone(), start);
        if self.rules[number].is_some() {
            return Err(self.error(start, format!("there are two rules `{name}`")));
        }
        let body = self.choice(0)?;
        self.rules[number] = Some(body);
        match self.peek() {
            None | Some('\n' | '\r') => Ok(()),
            Some(c) => self.fail(format!("{c:?} is not expected here")),
        }
    }

    fn choice(&mut self, depth: usize) -> Result<Node, ConstraintError> {
        if depth > self.limits.depth {
            return self.fail(format!("groups are nested more than {} deep", self.limits.depth));
        }
        let mut options = vec![self.sequence(depth)?];
        while self.eat("|") {
            self.space(true);
            options.push(self.sequence(depth)?);
        }
        Ok(if options.len() == 1 { options.remove(0) } else { Node::Choice(options) })
    }

    fn sequence(&mut self, depth: usize) -> Result<Node, ConstraintError> {
        let mut items = Vec::new();
        loop {
            self.space(depth > 0);
            let start = self.at;
            let item = match self.peek() {
                Some('"') => self.text()?,
                Some('[') => self.class()?,
                Some('.') => {
                    self.at += 1;
                    Node::Class("(?s:.)".to_string())
                }
                Some('(') => {
                    self.at += 1;
                    self.space(true);
                    let inner = self.choice(depth + 1)?;
                    if !self.eat(")") {
                        return self.fail("a group ends with `)`");
                    }
                    inner
                }
                Some('<' | '!') => {
                    return self.fail("tokens by name or number are not supported: write their text");
                }
                _ => match self.name() {
                    Some(name) => Node::Rule(self.number_of(name, start)),
                    None => break,
                },
            };
            let item = self.repeated(item)?;
            items.push(item);
        }
        Ok(if items.len() == 1 { items.remove(0) } else { Node::Sequence(items) })
    }

    fn repeated(&mut self, mut item: Node) -> Result<Node, ConstraintError> {
        loop {
            self.space(false);
            let (min, max) = match self.peek() {
                Some('*') => (0, None),
                Some('+') => (1, None),
                Some('?') => (0, Some(1)),
                Some('{') => self.braces()?,
                _ => return Ok(item),
            };
            self.at += 1;
            item = Node::Repeat(Box::new(item), min, max);
        }
    }

    /// `{2}`, `{2,}` or `{2,3}`, up to the closing brace.
    fn braces(&mut self) -> Result<(u64, Option<u64>), ConstraintError> {
        let start = self.at;
        self.at += 1;
        let inside: String = self.chars[self.at..].iter().take_while(|&&c| c != '}' && c != '\n').collect();
        self.at += inside.chars().count();
        let count = |text: &str| text.trim().parse::<u64>().ok();
        let counts = match inside.split_once(',') {
            None => count(&inside).map(|n| (n, Some(n))),
            Some((min, max)) if max.trim().is_empty() => count(min).map(|min| (min, None)),
            Some((min, max)) => count(min).zip(count(max)).map(|(min, max)| (min, Some(max))),
        };
        let Some((min, max)) = counts.filter(|_| self.peek() == Some('}')) else {
            return Err(
                self.error(start, format!("{{{inside} is no repetition such as {{2}}, {{2,}} or {{2,3}}"))
            );
        };
        let most = min.max(max.unwrap_or(0));
        if most > self.limits.repetitions || max.is_some_and(|max| max < min) {
            let limit = self.limits.repetitions;
            return Err(
                self.error(start, format!("{{{inside}}} must rise, and repeat at most {limit} times"))
            );
        }
        Ok((min, max))
    }

    fn text(&mut self) -> Result<Node, ConstraintError> {
        let start = self.at;
        self.at += 1;
        let mut text = String::new();
        loop {
            match self.next() {
                Some('"') => return Ok(Node::Text(text)),
                Some('\\') => text.push(self.escape()?),
                Some(c) if c != '\n' => text.push(c),
                _ => return Err(self.error(start, "a text ends with a quotation mark")),
            }
        }
    }

    fn escape(&mut self) -> Result<char, ConstraintError> {
        let digits = match self.next() {
            Some('n') => return Ok('\n'),
            Some('r') => return Ok('\r'),
            Some('t') => return Ok('\t'),
            Some(c @ ('\\' | '"' | '[' | ']' | '-' | '^' | '\'' | '/')) => return Ok(c),
            Some('x') => 2,
            Some('u') => 4,
            Some('U') => 8,
            _ => return Err(self.error(self.at.saturating_sub(1), "there is no such escape")),
        };
        let code: String = self.chars[self.at..].iter().take(digits).collect();
        let character = Some(&code)
            .filter(|code| code.len() == digits && code.bytes().all(|b| b.is_ascii_hexdigit()))
            .and_then(|code| char::from_u32(u32::from_str_radix(code, 16).ok()?));
        self.at += digits.min(code.chars().count());
        character.ok_or_else(|| self.error(self.at, format!("{code:?} is no code point of {digits} digits")))
    }

    /// A class of characters, written as a regex.
    fn class(&mut self) -> Result<Node, ConstraintError> {
        let start = self.at;
        self.at += 1;
        let mut class = String::from(if self.eat("^") { "[^" } else { "[" });
        let empty = class.len();
        loop {
            let from = match self.next() {
                Some(']') if class.len() > empty => break,
                Some('\\') => self.escape()?,
                Some(c) if c != '\n' && c != ']' => c,
                _ => return Err(self.error(start, "a class has a character, and ends with `]`")),
            };
            class.push_str(&code(from));
            let is_range = self.peek() == Some('-') && self.chars.get(self.at + 1).is_some_and(|&c| c != ']');
            if is_range {
                self.at += 1;
                let to = match self.next() {
                    Some('\\') => self.escape()?,
                    Some(c) => c,
                    None => return Err(self.error(start, "a class ends with `]`")),
                };
                if to < from {
                    return self.fail(format!("the range {from}-{to} goes backwards"));
                }
                class.push('-');
                class.push_str(&code(to));
            }
        }
        class.push(']');
        Ok(Node::Class(class))
    }
}

/// A character in a class of a regex.
fn code(c: char) -> String {
    match c.is_ascii_alphanumeric() {
        true => c.to_string(),
        false => format!("\\x{{{:x}}}", u32::from(c)),
    }
}
