//! Calls of macros, loops, methods and functions.

use std::rc::Rc;
use std::sync::Arc;

use super::super::ast::{Expression, Kind};
use super::super::compare::equal;
use super::super::limits::{Problem, Result};
use super::super::python::{self, Args};
use super::super::value::{Loop, MacroValue, Value};
use super::{CellKind, Interpreter, function};

impl Interpreter {
    /// A call, whose macro may call `caller`.
    pub(super) fn call_with(&mut self, call: &Expression, caller: Option<Value>) -> Result<Value> {
        self.call_kind(&call.kind, caller).map_err(|problem| problem.at(call.line))
    }

    pub(super) fn call_kind(&mut self, kind: &Kind, caller: Option<Value>) -> Result<Value> {
        let Kind::Call(callee, arguments) = kind else { return Err(Problem::new("not a call")) };
        let callee = self.evaluate(callee)?;
        let mut args = self.arguments(arguments)?;
        if let Some(caller) = caller {
            args.named.push(("caller".into(), caller));
        }
        self.call(&callee, args)
    }

    pub(in super::super) fn call(&mut self, callee: &Value, args: Args) -> Result<Value> {
        match callee {
            Value::Macro(found) => self.call_macro(found, args),
            Value::Function(name) => function::call(self, name, args),
            Value::Method(method) => match &method.0 {
                Value::Loop(state) => self.call_loop_method(state, &method.1, args),
                Value::Cell(at) => self.call_cycler(*at, &method.1, args),
                value => python::call_method(&self.meter, value, &method.1, args),
            },
            Value::Loop(state) => {
                let (recursive, depth0) = (state.borrow().recursive.clone(), state.borrow().depth0);
                let Some((each, scope)) = recursive else {
                    return Err(Problem::new("this loop is not `recursive`, so it cannot be called"));
                };
                let [items] = args.bind("loop", ["items"])?;
                let items = items.ok_or_else(|| Problem::new("`loop` is called with no items"))?;
                let run = |this: &mut Self| this.run_loop(&each, &items, scope, depth0 + 1);
                let (_, text) = self.nested(|this| this.captured(run))?;
                Ok(Value::Text(text))
            }
            Value::Cell(at) => self.call_joiner(*at, args),
            other => {
                other.defined()?;
                Err(Problem::new(format!("'{}' object is not callable", other.type_name())))
            }
        }
    }

    fn call_macro(&mut self, found: &Rc<MacroValue>, args: Args) -> Result<Value> {
        let definition = &found.definition;
        let mut values: Vec<(Arc<str>, Value)> = Vec::new();
        let mut more_positional = args.positional;
        let n_bound = definition.parameters.len().min(more_positional.len());
        let rest = more_positional.split_off(n_bound);
        for ((name, _), value) in definition.parameters.iter().zip(more_positional) {
            values.push((Arc::clone(name), value));
        }
        let mut more_named = Vec::new();
        for (name, value) in args.named {
            if values.iter().any(|(found, _)| *found == name) {
                return Err(Problem::new(format!(
                    "macro '{}' got the argument '{name}' twice",
                    definition.name
                )));
            }
            if &*name == "caller" || definition.parameters.iter().any(|(parameter, _)| *parameter == name) {
                values.push((name, value));
            } else {
                more_named.push((name, value));
            }
        }
        if !rest.is_empty() && !definition.takes_varargs {
            let n = definition.parameters.len();
            let problem = format!("macro '{}' takes not more than {n} argument(s)", definition.name);
            return Err(Problem::new(problem));
        }
        if let (Some((name, _)), false) = (more_named.first(), definition.takes_kwargs) {
            let problem = format!("macro '{}' takes no keyword argument '{name}'", definition.name);
            return Err(Problem::new(problem));
        }
        values.push(("varargs".into(), Value::tuple(&self.meter, rest)?));
        let mut entries = Vec::new();
        for (name, value) in more_named {
            entries.push((self.own_text(&name)?, value));
        }
        values.push(("kwargs".into(), Value::dict(&self.meter, entries)?));
        self.run_macro(found, values)
    }

    fn call_loop_method(
        &mut self,
        state: &Rc<std::cell::RefCell<Loop>>,
        name: &str,
        args: Args,
    ) -> Result<Value> {
        let values = args.positional;
        if name == "cycle" {
            let at = state.borrow().index0.checked_rem(values.len());
            let value = at.and_then(|at| values.get(at)).cloned();
            return value.ok_or_else(|| Problem::new("no items for cycling given"));
        }
        let last = state.borrow_mut().last_seen.take();
        let mut is_same = last.as_ref().is_some_and(|last| last.len() == values.len());
        for (a, b) in last.iter().flatten().zip(&values) {
            is_same = is_same && equal(&self.meter, a, b)?;
        }
        if values.iter().any(|value| matches!(value, Value::Loop(_))) {
            return Err(Problem::new("`loop.changed` cannot compare loops"));
        }
        state.borrow_mut().last_seen = Some(values);
        Ok(Value::Bool(!is_same))
    }

    fn call_joiner(&mut self, at: usize, args: Args) -> Result<Value> {
        Self::no_arguments(args, "joiner")?;
        match &mut self.cells[at].kind {
            CellKind::Joiner { separator, is_used: true } => Ok(separator.clone()),
            CellKind::Joiner { is_used, .. } => {
                *is_used = true;
                self.own_text("")
            }
            _ => Err(Problem::new("'Namespace' object is not callable")),
        }
    }

    fn call_cycler(&mut self, at: usize, name: &str, args: Args) -> Result<Value> {
        Self::no_arguments(args, name)?;
        let CellKind::Cycler { items, at } = &mut self.cells[at].kind else {
            return Err(Problem::new("'Namespace' object is not callable"));
        };
        if name == "reset" {
            *at = 0;
            return Ok(Value::None);
        }
        let value = items[*at].clone();
        *at = (*at + 1) % items.len();
        Ok(value)
    }
}
