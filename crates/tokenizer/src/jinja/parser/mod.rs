//! From tokens to a program: Jinja2's grammar, with its precedences.

mod expression;
mod postfix;
mod statement;

use std::sync::Arc;

use super::ast::{Block, too_deep};
use super::lexer::{Located, Token, lex, normalized};
use super::limits::{MAX_NESTING, MAX_SOURCE_BYTES, Problem, Result};

/// Parses a template.
///
/// # Errors
/// A mistake in it with its line, or a limit that it exceeds.
pub(super) fn parse(source: &str) -> Result<Block> {
    if source.len() > MAX_SOURCE_BYTES {
        let problem = format!("is {} bytes long; the limit is {MAX_SOURCE_BYTES}", source.len());
        return Err(Problem::new(problem));
    }
    let mut parser =
        Parser { tokens: lex(&normalized(source))?, at: 0, nesting: 0, loops: 0, names: Vec::new() };
    let body = parser.block(&[])?;
    Ok(body)
}

struct Parser {
    tokens: Vec<Located>,
    at: usize,
    /// How deep the parser is in blocks and expressions.
    nesting: usize,
    /// Loops around what is parsed, in which `break` has a meaning.
    loops: usize,
    /// `varargs` and `kwargs`, as often as they were read.
    names: Vec<&'static str>,
}

impl Parser {
    /// What comes next; [`Token::End`] forever at the end.
    fn token(&self) -> &Token {
        self.tokens.get(self.at).map_or(&Token::End, |located| &located.token)
    }

    fn after(&self) -> &Token {
        self.tokens.get(self.at + 1).map_or(&Token::End, |located| &located.token)
    }

    fn line(&self) -> usize {
        self.tokens.get(self.at).or(self.tokens.last()).map_or(1, |located| located.line)
    }

    fn advance(&mut self) -> Token {
        let token = self.tokens.get_mut(self.at).map(|located| &mut located.token);
        self.at += 1;
        token.map_or(Token::End, |token| std::mem::replace(token, Token::End))
    }

    fn is_operator(&self, operator: &str) -> bool {
        matches!(self.token(), Token::Operator(found) if *found == operator)
    }

    fn is_name(&self, name: &str) -> bool {
        matches!(self.token(), Token::Name(found) if found == name)
    }

    fn skip_operator(&mut self, operator: &str) -> bool {
        let found = self.is_operator(operator);
        self.at += usize::from(found);
        found
    }

    fn skip_name(&mut self, name: &str) -> bool {
        let found = self.is_name(name);
        self.at += usize::from(found);
        found
    }

    fn expect_operator(&mut self, operator: &str) -> Result<()> {
        if self.skip_operator(operator) { Ok(()) } else { self.unexpected(&format!("`{operator}`")) }
    }

    fn name(&mut self) -> Result<Arc<str>> {
        let Token::Name(name) = self.token() else { return self.unexpected("a name") };
        let name = Arc::from(name.as_str());
        self.at += 1;
        Ok(name)
    }

    fn problem<T>(&self, text: impl Into<String>) -> Result<T> {
        Err(Problem::new(text).at(self.line()))
    }

    fn unexpected<T>(&self, expected: &str) -> Result<T> {
        self.problem(format!("{} where {expected} is expected", spelled(self.token())))
    }

    /// Goes one level deeper for `parse`.
    fn nested<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.nesting += 1;
        if self.nesting > MAX_NESTING {
            return Err(too_deep().at(self.line()));
        }
        let parsed = parse(self)?;
        self.nesting -= 1;
        Ok(parsed)
    }
}

fn spelled(token: &Token) -> String {
    match token {
        Token::Data(_) => "text".to_string(),
        Token::PrintBegin => "`{{`".to_string(),
        Token::PrintEnd => "`}}`".to_string(),
        Token::BlockBegin => "`{%`".to_string(),
        Token::BlockEnd => "`%}`".to_string(),
        Token::Name(name) => format!("`{name}`"),
        Token::Text(text) => format!("{text:?}"),
        Token::Int(number) => number.to_string(),
        Token::Float(number) => number.to_string(),
        Token::Operator(operator) => format!("`{operator}`"),
        Token::End => "the end of the template".to_string(),
    }
}
