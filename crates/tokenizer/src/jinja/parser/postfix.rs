//! What stands after a value: attributes, items, calls, filters and tests.

use std::sync::Arc;

use super::super::ast::{Arguments, Expression, Filter, Kind};
use super::super::lexer::Token;
use super::super::limits::Result;
use super::Parser;

impl Parser {
    /// `.name`, `[item]` and `(arguments)` after a value.
    pub(super) fn appended(&mut self, mut value: Expression) -> Result<Expression> {
        loop {
            let line = self.line();
            if self.skip_operator(".") {
                let kind = match self.advance() {
                    Token::Name(name) => Kind::Attribute(Box::new(value), name.into()),
                    Token::Int(number) => {
                        Kind::Item(Box::new(value), Box::new(Expression::new(line, Kind::Int(number))?))
                    }
                    _ => return self.problem("`.` is followed by no name"),
                };
                value = Expression::new(line, kind)?;
            } else if self.skip_operator("[") {
                value = self.subscript(value, line)?;
            } else if self.is_operator("(") {
                let arguments = self.arguments()?;
                value = Expression::new(line, Kind::Call(Box::new(value), arguments))?;
            } else {
                return Ok(value);
            }
        }
    }

    fn subscript(&mut self, value: Expression, line: usize) -> Result<Expression> {
        let mut bounds: [Option<Box<Expression>>; 3] = [None, None, None];
        let mut n_colons = 0;
        loop {
            if self.skip_operator("]") {
                break;
            } else if n_colons < 2 && self.skip_operator(":") {
                n_colons += 1;
            } else if bounds[n_colons].is_none() {
                bounds[n_colons] = Some(Box::new(self.expression()?));
            } else if n_colons == 0 && self.is_operator(",") {
                return self.problem("an item with several keys is not supported");
            } else {
                return self.unexpected("`]`");
            }
        }
        let kind = match bounds {
            [Some(key), None, None] if n_colons == 0 => Kind::Item(Box::new(value), key),
            _ if n_colons == 0 => return self.problem("`[]` has no key"),
            bounds => Kind::Slice(Box::new(value), bounds),
        };
        Expression::new(line, kind)
    }

    /// `(a, name=b, *c, **d)`
    pub(super) fn arguments(&mut self) -> Result<Arguments> {
        self.expect_operator("(")?;
        let mut arguments = Arguments::default();
        let mut n = 0;
        while !self.skip_operator(")") {
            if n > 0 {
                self.expect_operator(",")?;
                if self.skip_operator(")") {
                    break;
                }
            }
            n += 1;
            let has_name = matches!((self.token(), self.after()), (Token::Name(_), Token::Operator("=")));
            if self.skip_operator("**") {
                arguments.more_named = Some(Box::new(self.expression()?));
            } else if self.skip_operator("*") {
                arguments.more_positional = Some(Box::new(self.expression()?));
            } else if has_name {
                let name = self.name()?;
                self.at += 1;
                arguments.named.push((name, self.expression()?));
            } else if arguments.named.is_empty() && arguments.more_named.is_none() {
                arguments.positional.push(self.expression()?);
            } else {
                return self.problem("an argument without a name stands after one with a name");
            }
        }
        Ok(arguments)
    }

    /// `|filter` and `is test` after a value; calls too.
    pub(super) fn filtered(&mut self, mut value: Expression) -> Result<Expression> {
        loop {
            let line = self.line();
            if self.skip_operator("|") {
                let filter = self.filter()?;
                value = Expression::new(line, Kind::Filter(Box::new(value), filter))?;
            } else if self.skip_name("is") {
                value = self.test(value, line)?;
            } else if self.is_operator("(") {
                let arguments = self.arguments()?;
                value = Expression::new(line, Kind::Call(Box::new(value), arguments))?;
            } else {
                return Ok(value);
            }
        }
    }

    /// `name(arguments)` of a filter; the name may have points.
    pub(super) fn filter(&mut self) -> Result<Filter> {
        let line = self.line();
        let name = self.dotted_name()?;
        let arguments = if self.is_operator("(") { self.arguments()? } else { Arguments::default() };
        Ok(Filter { line, name, arguments })
    }

    fn dotted_name(&mut self) -> Result<Arc<str>> {
        let mut name = self.name()?;
        while self.skip_operator(".") {
            name = format!("{name}.{}", self.name()?).into();
        }
        Ok(name)
    }

    fn test(&mut self, value: Expression, line: usize) -> Result<Expression> {
        let is_negated = self.skip_name("not");
        let name = self.dotted_name()?;
        let takes_one = match self.token() {
            Token::Name(name) => !matches!(name.as_str(), "else" | "or" | "and" | "if" | "in" | "not" | "is"),
            Token::Text(_) | Token::Int(_) | Token::Float(_) => true,
            Token::Operator(operator) => matches!(*operator, "[" | "{"),
            _ => false,
        };
        let arguments = if self.is_operator("(") {
            self.arguments()?
        } else if takes_one {
            let argument = self.nested(|parser| {
                let argument = parser.primary()?;
                parser.appended(argument)
            })?;
            Arguments { positional: vec![argument], ..Arguments::default() }
        } else {
            Arguments::default()
        };
        let test = Filter { line, name, arguments };
        Expression::new(line, Kind::Test { value: Box::new(value), test, is_negated })
    }
}
