//! Running a template.

mod call;
mod checks;
mod expression;
mod filters;
mod function;
mod statement;

use std::rc::Rc;
use std::sync::Arc;

use super::ast::Block;
use super::limits::{Held, Limits, MAX_CALL_DEPTH, Meter, Problem, Result};
use super::python::{Args, has_method};
use super::scope::Scopes;
use super::text::{Builder, Text};
use super::value::Value;

/// The clock that `strftime_now` reads: a format to text, or what is wrong with the format.
pub(crate) type Clock = fn(&str) -> std::result::Result<String, String>;

/// What the rest of the program gives to a template.
pub(super) struct Interpreter {
    pub(super) meter: Rc<Meter>,
    scopes: Scopes,
    /// What can change in place.
    cells: Vec<Cell>,
    out: Builder,
    /// Nested evaluations, through calls of macros as well.
    depth: usize,
    clock: Clock,
}

struct Cell {
    kind: CellKind,
    held: Held,
}

enum CellKind {
    Namespace(Vec<(Arc<str>, Value)>),
    /// Prints nothing the first time.
    Joiner {
        separator: Value,
        is_used: bool,
    },
    Cycler {
        items: Vec<Value>,
        at: usize,
    },
}

/// How a block ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Through,
    Break,
    Continue,
}

impl Interpreter {
    pub(super) fn new(limits: Limits, clock: Clock) -> Result<Interpreter> {
        let meter = Meter::new(limits);
        let (scopes, out) = (Scopes::new(&meter)?, Builder::new(&meter)?);
        Ok(Interpreter { meter, scopes, cells: Vec::new(), out, depth: 0, clock })
    }

    /// Renders with these variables.
    pub(super) fn render(mut self, template: &Block, variables: Vec<(&str, Value)>) -> Result<Text> {
        for name in function::NAMES {
            self.scopes.set(&Arc::from(*name), Value::Function(name))?;
        }
        for (name, value) in variables {
            self.scopes.set(&Arc::from(name), value)?;
        }
        self.scopes.begin(0)?;
        self.block(template)?;
        Ok(self.out.finish())
    }

    /// Goes one level deeper for `run`.
    fn nested<T>(&mut self, run: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.meter.steps(1)?;
        self.depth += 1;
        if self.depth > MAX_CALL_DEPTH {
            let problem =
                format!("macros and blocks are nested deeper than {MAX_CALL_DEPTH} levels, the limit");
            return Err(Problem::new(problem));
        }
        let result = run(self)?;
        self.depth -= 1;
        Ok(result)
    }

    /// What `run` prints.
    fn captured<T>(&mut self, run: impl FnOnce(&mut Self) -> Result<T>) -> Result<(T, Text)> {
        let outer = std::mem::replace(&mut self.out, Builder::new(&self.meter)?);
        let result = run(self)?;
        let inner = std::mem::replace(&mut self.out, outer);
        Ok((result, inner.finish()))
    }

    /// Runs in a scope of its own within `parent`.
    fn scoped<T>(&mut self, parent: usize, run: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let previous = self.scopes.begin(parent)?;
        let result = run(self)?;
        self.scopes.end(previous);
        Ok(result)
    }

    fn new_cell(&mut self, kind: CellKind) -> Result<Value> {
        let held = self.meter.hold(size_of::<Cell>())?;
        self.cells.push(Cell { kind, held });
        Ok(Value::Cell(self.cells.len() - 1))
    }

    fn set_attribute(&mut self, name: &Arc<str>, attribute: &Arc<str>, value: Value) -> Result<()> {
        let target = self.scopes.get(name).cloned().unwrap_or_else(|| Value::undefined(name));
        target.defined()?;
        if let Value::Cell(at) = target
            && let Some(Cell { kind: CellKind::Namespace(names), held }) = self.cells.get_mut(at)
        {
            self.meter.steps(1 + names.len() / 8)?;
            match names.iter_mut().find(|(found, _)| found == attribute) {
                Some((_, old)) => *old = value,
                None => {
                    held.grow(size_of::<(Arc<str>, Value)>())?;
                    names.push((Arc::clone(attribute), value));
                }
            }
            return Ok(());
        }
        Err(Problem::new(format!("cannot assign attribute on non-namespace object '{name}'")))
    }

    /// `value.name`
    pub(super) fn attribute(&self, value: &Value, name: &str) -> Result<Value> {
        let Value::Cell(at) = value else { return super::access::attribute(&self.meter, value, name) };
        match &self.cells[*at].kind {
            CellKind::Namespace(names) => {
                self.meter.steps(1 + names.len() / 8)?;
                let found = names.iter().find(|(found, _)| **found == *name).map(|(_, value)| value.clone());
                Ok(found.unwrap_or_else(|| {
                    Value::Undefined(super::value::Missing { of: Some("Namespace"), name: name.into() })
                }))
            }
            CellKind::Cycler { items, at } if name == "current" => Ok(items[*at].clone()),
            CellKind::Cycler { .. } if matches!(name, "next" | "reset") => {
                Ok(Value::Method(Rc::new((value.clone(), name.into()))))
            }
            _ => Ok(Value::undefined(name)),
        }
    }

    /// `value[key]`
    pub(super) fn item(&self, value: &Value, key: &Value) -> Result<Value> {
        match (value, key) {
            (Value::Cell(_), Value::Text(name)) => self.attribute(value, name.as_str()),
            _ => super::access::item(&self.meter, value, key),
        }
    }

    pub(super) fn is_callable(&self, value: &Value) -> bool {
        match value {
            Value::Macro(_) | Value::Function(_) => true,
            Value::Method(method) => {
                matches!(method.0, Value::Loop(_) | Value::Cell(_)) || has_method(&method.0, &method.1)
            }
            Value::Loop(state) => state.borrow().recursive.is_some(),
            Value::Cell(at) => !matches!(self.cells[*at].kind, CellKind::Namespace(_)),
            _ => false,
        }
    }

    /// `who` without arguments left over.
    fn no_arguments(args: Args, who: &str) -> Result<()> {
        args.bind::<0>(who, []).map(drop)
    }
}
