//! Expressions, from the loosest binding to the tightest: `if else`, `or`, `and`, `not`, comparisons, `+ -`, `~`,
//! `* / // %`, `**`, signs, then what is appended to a value.

use super::super::ast::{Arithmetic, Comparison, Expression, Kind};
use super::super::lexer::Token;
use super::super::limits::Result;
use super::Parser;

/// Arithmetic operators by precedence. Powers bind from the left here, as in Jinja2, not in Python.
const SUMS: &[(&str, Arithmetic)] = &[("+", Arithmetic::Add), ("-", Arithmetic::Subtract)];
const PRODUCTS: &[(&str, Arithmetic)] = &[
    ("*", Arithmetic::Multiply),
    ("/", Arithmetic::Divide),
    ("//", Arithmetic::FloorDivide),
    ("%", Arithmetic::Modulo),
];
const POWERS: &[(&str, Arithmetic)] = &[("**", Arithmetic::Power)];
const COMPARISONS: &[(&str, Comparison)] = &[
    ("==", Comparison::Equal),
    ("!=", Comparison::NotEqual),
    ("<", Comparison::Less),
    ("<=", Comparison::LessEqual),
    (">", Comparison::Greater),
    (">=", Comparison::GreaterEqual),
];

impl Parser {
    /// An expression with `if else`.
    pub(super) fn expression(&mut self) -> Result<Expression> {
        self.nested(|parser| {
            let mut value = parser.or()?;
            loop {
                let line = parser.line();
                if !parser.skip_name("if") {
                    return Ok(value);
                }
                let condition = Box::new(parser.or()?);
                let otherwise =
                    if parser.skip_name("else") { Some(Box::new(parser.expression()?)) } else { None };
                value = Expression::new(line, Kind::If { condition, then: Box::new(value), otherwise })?;
            }
        })
    }

    /// An expression in which a following `if` is not read.
    pub(super) fn without_if(&mut self) -> Result<Expression> {
        self.nested(Parser::or)
    }

    /// Expressions, a tuple if there are commas. `ends` is a name before which one may end in a comma.
    pub(super) fn tuple(&mut self, has_if: bool, ends: Option<&str>) -> Result<Expression> {
        let line = self.line();
        let mut items = Vec::new();
        let mut is_tuple = false;
        loop {
            let at_end = matches!(self.token(), Token::PrintEnd | Token::BlockEnd | Token::End)
                || self.is_operator(")")
                || ends.is_some_and(|name| self.is_name(name));
            if at_end && is_tuple {
                break;
            }
            items.push(if has_if { self.expression()? } else { self.without_if()? });
            if !self.skip_operator(",") {
                break;
            }
            is_tuple = true;
        }
        match items.pop() {
            Some(only) if !is_tuple => Ok(only),
            last => {
                items.extend(last);
                Expression::new(line, Kind::Tuple(items))
            }
        }
    }

    fn or(&mut self) -> Result<Expression> {
        self.joined("or", Parser::and, Kind::Or)
    }

    fn and(&mut self) -> Result<Expression> {
        self.joined("and", Parser::not, Kind::And)
    }

    /// Operands between which the name `word` stands.
    fn joined(
        &mut self,
        word: &str,
        operand: fn(&mut Parser) -> Result<Expression>,
        kind: fn(Vec<Expression>) -> Kind,
    ) -> Result<Expression> {
        let line = self.line();
        let first = operand(self)?;
        if !self.is_name(word) {
            return Ok(first);
        }
        let mut operands = vec![first];
        while self.skip_name(word) {
            operands.push(operand(self)?);
        }
        Expression::new(line, kind(operands))
    }

    fn not(&mut self) -> Result<Expression> {
        let line = self.line();
        if self.skip_name("not") {
            let value = self.nested(Parser::not)?;
            return Expression::new(line, Kind::Not(Box::new(value)));
        }
        self.comparison()
    }

    fn comparison(&mut self) -> Result<Expression> {
        let line = self.line();
        let first = self.sum()?;
        let mut rest = Vec::new();
        loop {
            let by_operator = match self.token() {
                Token::Operator(found) => COMPARISONS.iter().find(|(operator, _)| found == operator),
                _ => None,
            };
            let comparison = if let Some((_, comparison)) = by_operator {
                self.at += 1;
                *comparison
            } else if self.skip_name("in") {
                Comparison::In
            } else if self.is_name("not") && matches!(self.after(), Token::Name(name) if name == "in") {
                self.at += 2;
                Comparison::NotIn
            } else {
                break;
            };
            rest.push((comparison, self.sum()?));
        }
        if rest.is_empty() { Ok(first) } else { Expression::new(line, Kind::Compare(Box::new(first), rest)) }
    }

    /// Operands with operators of one precedence between them.
    fn arithmetic(
        &mut self,
        operators: &[(&str, Arithmetic)],
        operand: fn(&mut Parser) -> Result<Expression>,
    ) -> Result<Expression> {
        let line = self.line();
        let first = operand(self)?;
        let mut rest = Vec::new();
        while let Token::Operator(found) = self.token() {
            let Some((_, operator)) = operators.iter().find(|(operator, _)| found == operator) else { break };
            self.at += 1;
            rest.push((*operator, operand(self)?));
        }
        if rest.is_empty() {
            Ok(first)
        } else {
            Expression::new(line, Kind::Arithmetic(Box::new(first), rest))
        }
    }

    fn sum(&mut self) -> Result<Expression> {
        self.arithmetic(SUMS, Parser::concatenation)
    }

    fn concatenation(&mut self) -> Result<Expression> {
        let line = self.line();
        let first = self.product()?;
        if !self.is_operator("~") {
            return Ok(first);
        }
        let mut operands = vec![first];
        while self.skip_operator("~") {
            operands.push(self.product()?);
        }
        Expression::new(line, Kind::Concat(operands))
    }

    fn product(&mut self) -> Result<Expression> {
        self.arithmetic(PRODUCTS, Parser::power)
    }

    fn power(&mut self) -> Result<Expression> {
        self.arithmetic(POWERS, |parser| parser.signed(true))
    }

    /// A value with its signs, and what is appended to it. A filter binds looser than a sign.
    fn signed(&mut self, has_filters: bool) -> Result<Expression> {
        let line = self.line();
        let is_minus = self.is_operator("-");
        let value = if is_minus || self.is_operator("+") {
            self.at += 1;
            let value = Box::new(self.nested(|parser| parser.signed(false))?);
            Expression::new(line, Kind::Sign { value, is_minus })?
        } else {
            self.primary()?
        };
        let value = self.appended(value)?;
        if has_filters { self.filtered(value) } else { Ok(value) }
    }

    pub(super) fn primary(&mut self) -> Result<Expression> {
        let line = self.line();
        let kind = match self.token() {
            Token::Name(name) => match name.as_str() {
                "true" | "True" => Kind::Bool(true),
                "false" | "False" => Kind::Bool(false),
                "none" | "None" => Kind::None,
                name => {
                    let kind = Kind::Name(name.into());
                    self.names.extend(["varargs", "kwargs"].iter().find(|found| **found == name));
                    kind
                }
            },
            Token::Int(number) => Kind::Int(*number),
            Token::Float(number) => Kind::Float(*number),
            Token::Text(_) => return self.text(line),
            Token::Operator("(") => return self.parenthesized(line),
            Token::Operator("[") => {
                self.at += 1;
                let items = self.items("]", Parser::expression)?;
                return Expression::new(line, Kind::List(items));
            }
            Token::Operator("{") => {
                self.at += 1;
                let entries = self.items("}", |parser| {
                    let key = parser.expression()?;
                    parser.expect_operator(":")?;
                    Ok((key, parser.expression()?))
                })?;
                return Expression::new(line, Kind::Dict(entries));
            }
            _ => return self.unexpected("a value"),
        };
        self.at += 1;
        Expression::new(line, kind)
    }

    /// Strings that stand beside each other are one.
    fn text(&mut self, line: usize) -> Result<Expression> {
        let mut text = String::new();
        while let Token::Text(more) = self.token() {
            text.push_str(more);
            self.at += 1;
        }
        Expression::new(line, Kind::Text(text.into()))
    }

    fn parenthesized(&mut self, line: usize) -> Result<Expression> {
        self.at += 1;
        if self.skip_operator(")") {
            return Expression::new(line, Kind::Tuple(Vec::new()));
        }
        let inside = self.tuple(true, None)?;
        self.expect_operator(")")?;
        Ok(inside)
    }

    /// Items between commas up to `end`.
    fn items<T>(&mut self, end: &str, mut item: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let mut items = Vec::new();
        while !self.skip_operator(end) {
            if !items.is_empty() {
                self.expect_operator(",")?;
                if self.skip_operator(end) {
                    break;
                }
            }
            items.push(item(self)?);
        }
        Ok(items)
    }
}
