//! Expressions.

use super::super::access;
use super::super::ast::{Arguments, Comparison, Expression, Filter, Kind};
use super::super::compare::{compare, equal};
use super::super::limits::{Problem, Result};
use super::super::python::{Args, arithmetic, contains, iterate, push_str, sign};
use super::super::text::{Builder, Origin};
use super::super::value::Value;
use super::{Interpreter, checks, filters};

impl Interpreter {
    pub(super) fn evaluate(&mut self, expression: &Expression) -> Result<Value> {
        self.nested(|this| this.evaluate_kind(&expression.kind))
            .map_err(|problem| problem.at(expression.line))
    }

    fn evaluate_kind(&mut self, kind: &Kind) -> Result<Value> {
        match kind {
            Kind::None => Ok(Value::None),
            Kind::Bool(flag) => Ok(Value::Bool(*flag)),
            Kind::Int(number) => Ok(Value::Int(*number, Origin::Own)),
            Kind::Float(number) => Ok(Value::Float(*number, Origin::Own)),
            Kind::Text(text) => self.own_text(text),
            Kind::Name(name) => Ok(self.scopes.get(name).cloned().unwrap_or_else(|| Value::undefined(name))),
            Kind::List(items) => {
                let items = self.all(items)?;
                Value::list(&self.meter, items)
            }
            Kind::Tuple(items) => {
                let items = self.all(items)?;
                Value::tuple(&self.meter, items)
            }
            Kind::Dict(entries) => self.dict(entries),
            Kind::Attribute(value, name) => {
                let value = self.evaluate(value)?;
                self.attribute(&value, name)
            }
            Kind::Item(value, key) => {
                let (value, key) = (self.evaluate(value)?, self.evaluate(key)?);
                self.item(&value, &key)
            }
            Kind::Slice(value, bounds) => self.slice(value, bounds),
            Kind::Call(..) => self.call_kind(kind, None),
            Kind::Filter(value, filter) => {
                let value = self.evaluate(value)?;
                self.filter(value, filter)
            }
            Kind::Test { value, test, is_negated } => {
                let value = self.evaluate(value)?;
                Ok(Value::Bool(self.test(&value, test)? != *is_negated))
            }
            Kind::Not(value) => Ok(Value::Bool(!self.evaluate(value)?.is_true())),
            Kind::Sign { value, is_minus } => sign(&self.evaluate(value)?, *is_minus),
            Kind::Arithmetic(first, rest) => {
                let mut value = self.evaluate(first)?;
                for (operator, operand) in rest {
                    let operand = self.evaluate(operand)?;
                    value = arithmetic(&self.meter, *operator, &value, &operand)?;
                }
                Ok(value)
            }
            Kind::Concat(operands) => self.concat(operands),
            Kind::Compare(first, rest) => self.comparison(first, rest),
            Kind::And(operands) => self.first_that(operands, false),
            Kind::Or(operands) => self.first_that(operands, true),
            Kind::If { condition, then, otherwise } => {
                if self.evaluate(condition)?.is_true() {
                    self.evaluate(then)
                } else if let Some(otherwise) = otherwise {
                    self.evaluate(otherwise)
                } else {
                    Ok(Value::undefined("the value of an `if` without `else`"))
                }
            }
        }
    }

    fn all(&mut self, expressions: &[Expression]) -> Result<Vec<Value>> {
        expressions.iter().map(|expression| self.evaluate(expression)).collect()
    }

    fn dict(&mut self, entries: &[(Expression, Expression)]) -> Result<Value> {
        let mut values = Vec::new();
        for (key, value) in entries {
            values.push((self.evaluate(key)?, self.evaluate(value)?));
        }
        Value::dict(&self.meter, values)
    }

    fn slice(&mut self, value: &Expression, bounds: &[Option<Box<Expression>>; 3]) -> Result<Value> {
        let value = self.evaluate(value)?;
        let mut values = [const { None }; 3];
        for (slot, bound) in values.iter_mut().zip(bounds) {
            if let Some(bound) = bound {
                *slot = Some(self.evaluate(bound)?);
            }
        }
        access::slice(&self.meter, &value, values)
    }

    fn concat(&mut self, operands: &[Expression]) -> Result<Value> {
        let mut out = Builder::new(&self.meter)?;
        for operand in operands {
            push_str(&mut out, &self.evaluate(operand)?)?;
        }
        Ok(Value::Text(out.finish()))
    }

    /// The first operand whose truth is `wanted`, else the last.
    fn first_that(&mut self, operands: &[Expression], wanted: bool) -> Result<Value> {
        let mut value = Value::None;
        for operand in operands {
            value = self.evaluate(operand)?;
            if value.is_true() == wanted {
                break;
            }
        }
        Ok(value)
    }

    /// `a < b < c`: all pairs of neighbours.
    fn comparison(&mut self, first: &Expression, rest: &[(Comparison, Expression)]) -> Result<Value> {
        let mut left = self.evaluate(first)?;
        for (comparison, right) in rest {
            let right = self.evaluate(right)?;
            if !self.holds(*comparison, &left, &right)? {
                return Ok(Value::Bool(false));
            }
            left = right;
        }
        Ok(Value::Bool(true))
    }

    pub(in super::super) fn holds(&self, comparison: Comparison, a: &Value, b: &Value) -> Result<bool> {
        let meter = &self.meter;
        let ordering = |operator| compare(meter, a, b, operator);
        Ok(match comparison {
            Comparison::Equal => equal(meter, a, b)?,
            Comparison::NotEqual => !equal(meter, a, b)?,
            Comparison::Less => ordering("<")?.is_some_and(|ordering| ordering.is_lt()),
            Comparison::LessEqual => ordering("<=")?.is_some_and(|ordering| ordering.is_le()),
            Comparison::Greater => ordering(">")?.is_some_and(|ordering| ordering.is_gt()),
            Comparison::GreaterEqual => ordering(">=")?.is_some_and(|ordering| ordering.is_ge()),
            Comparison::In => contains(meter, b, a)?,
            Comparison::NotIn => !contains(meter, b, a)?,
        })
    }

    pub(super) fn filter(&mut self, value: Value, filter: &Filter) -> Result<Value> {
        let args = self.arguments(&filter.arguments)?;
        filters::apply(self, &filter.name, value, args).map_err(|problem| problem.at(filter.line))
    }

    fn test(&mut self, value: &Value, test: &Filter) -> Result<bool> {
        let args = self.arguments(&test.arguments)?;
        checks::apply(self, &test.name, value, args)
    }

    pub(super) fn arguments(&mut self, arguments: &Arguments) -> Result<Args> {
        let mut positional = self.all(&arguments.positional)?;
        let mut named = Vec::new();
        for (name, value) in &arguments.named {
            named.push((name.clone(), self.evaluate(value)?));
        }
        if let Some(more) = &arguments.more_positional {
            let more = self.evaluate(more)?;
            positional.extend(iterate(&self.meter, &more)?.values.iter().cloned());
        }
        if let Some(more) = &arguments.more_named {
            let Value::Dict(more) = self.evaluate(more)? else {
                return Err(Problem::new("argument after ** must be a mapping"));
            };
            for (key, value) in more.entries() {
                let Some(key) = key.as_str() else { return Err(Problem::new("keywords must be strings")) };
                named.push((key.into(), value.clone()));
            }
        }
        Ok(Args { positional, named })
    }
}
