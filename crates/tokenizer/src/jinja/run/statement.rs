//! Statements.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use super::super::ast::{Block, Filter, For, Macro, Statement, StatementKind, Target};
use super::super::limits::{Problem, Result};
use super::super::python::{iterate, push_str};
use super::super::text::{Origin, Text};
use super::super::value::{Items, Loop, MacroValue, Value};
use super::{Flow, Interpreter};

impl Interpreter {
    pub(super) fn block(&mut self, block: &Block) -> Result<Flow> {
        for statement in block {
            let flow = self.statement(statement).map_err(|problem| problem.at(statement.line))?;
            if flow != Flow::Through {
                return Ok(flow);
            }
        }
        Ok(Flow::Through)
    }

    fn statement(&mut self, statement: &Statement) -> Result<Flow> {
        match &statement.kind {
            StatementKind::Data(text) => self.out.push_own(text)?,
            StatementKind::Print(value) => {
                let value = self.evaluate(value)?;
                push_str(&mut self.out, &value)?;
            }
            StatementKind::If { branches, otherwise } => {
                for (condition, body) in branches {
                    if self.evaluate(condition)?.is_true() {
                        return self.nested(|this| this.block(body));
                    }
                }
                return self.nested(|this| this.block(otherwise));
            }
            StatementKind::For(each) => return self.nested(|this| this.for_each(each)),
            StatementKind::Set(target, value) => {
                let value = self.evaluate(value)?;
                self.assign(target, value)?;
            }
            StatementKind::SetBlock { target, filters, body } => {
                let (flow, text) = self.captured_block(body)?;
                let value = self.filtered(Value::Text(text), filters)?;
                self.assign(target, value)?;
                return Ok(flow);
            }
            StatementKind::Macro(definition) => {
                let value = self.new_macro(definition);
                self.scopes.set(&definition.name, value)?;
            }
            StatementKind::CallBlock(call, caller) => {
                let caller = self.new_macro(caller);
                let value = self.nested(|this| this.call_with(call, Some(caller)))?;
                push_str(&mut self.out, &value)?;
            }
            StatementKind::FilterBlock(filters, body) => {
                let (flow, text) = self.captured_block(body)?;
                let value = self.filtered(Value::Text(text), filters)?;
                push_str(&mut self.out, &value)?;
                return Ok(flow);
            }
            StatementKind::With(bindings, body) => {
                // all values are those of the outer scope
                let mut values = Vec::new();
                for (_, value) in bindings {
                    values.push(self.evaluate(value)?);
                }
                let parent = self.scopes.current();
                return self.nested(|this| {
                    this.scoped(parent, |this| {
                        for ((target, _), value) in bindings.iter().zip(values) {
                            this.assign(target, value)?;
                        }
                        this.block(body)
                    })
                });
            }
            StatementKind::Scope(body) => {
                let parent = self.scopes.current();
                return self.nested(|this| this.scoped(parent, |this| this.block(body)));
            }
            StatementKind::Break => return Ok(Flow::Break),
            StatementKind::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Through)
    }

    fn captured_block(&mut self, body: &Block) -> Result<(Flow, Text)> {
        let parent = self.scopes.current();
        self.nested(|this| this.captured(|this| this.scoped(parent, |this| this.block(body))))
    }

    fn filtered(&mut self, value: Value, filters: &[Filter]) -> Result<Value> {
        filters.iter().try_fold(value, |value, filter| self.filter(value, filter))
    }

    fn new_macro(&mut self, definition: &Arc<Macro>) -> Value {
        self.scopes.keep();
        let scope = self.scopes.current();
        Value::Macro(Rc::new(MacroValue { definition: Arc::clone(definition), scope }))
    }

    pub(super) fn assign(&mut self, target: &Target, value: Value) -> Result<()> {
        match target {
            Target::Name(name) => self.scopes.set(name, value),
            Target::Attribute(name, attribute) => self.set_attribute(name, attribute, value),
            Target::Tuple(targets) => {
                let values = iterate(&self.meter, &value)?;
                if values.values.len() != targets.len() {
                    let (found, expected) = (values.values.len(), targets.len());
                    return Err(Problem::new(format!("{found} values for {expected} names")));
                }
                for (target, value) in targets.iter().zip(&values.values) {
                    self.assign(target, value.clone())?;
                }
                Ok(())
            }
        }
    }

    fn for_each(&mut self, each: &Arc<For>) -> Result<Flow> {
        let items = self.evaluate(&each.items)?;
        let scope = self.scopes.current();
        self.run_loop(each, &items, scope, 0)
    }

    /// Runs a loop over `items`; `depth0` loops of a recursive one are around it.
    pub(super) fn run_loop(
        &mut self,
        each: &Arc<For>,
        items: &Value,
        scope: usize,
        depth0: usize,
    ) -> Result<Flow> {
        let mut items = iterate(&self.meter, items)?;
        if let Some(condition) = &each.condition {
            let mut chosen = Vec::new();
            for item in &items.values {
                let is_chosen = self.scoped(scope, |this| {
                    this.assign(&each.target, item.clone())?;
                    Ok(this.evaluate(condition)?.is_true())
                })?;
                if is_chosen {
                    chosen.push(item.clone());
                }
            }
            items = Rc::new(Items::new(&self.meter, chosen)?);
        }
        if items.values.is_empty() {
            return self.scoped(scope, |this| this.block(&each.otherwise));
        }
        let recursive = each.is_recursive.then(|| (Arc::clone(each), scope));
        let state = Loop { items: Rc::clone(&items), index0: 0, depth0, last_seen: None, recursive };
        let state = Rc::new(RefCell::new(state));
        let name: Arc<str> = "loop".into();
        for (index0, item) in items.values.iter().enumerate() {
            self.meter.steps(1)?;
            state.borrow_mut().index0 = index0;
            let flow = self.scoped(scope, |this| {
                this.scopes.set(&name, Value::Loop(Rc::clone(&state)))?;
                this.assign(&each.target, item.clone())?;
                this.block(&each.body)
            })?;
            if flow == Flow::Break {
                break;
            }
        }
        Ok(Flow::Through)
    }

    /// The body of a macro, as text.
    pub(super) fn run_macro(&mut self, found: &MacroValue, values: Vec<(Arc<str>, Value)>) -> Result<Value> {
        let definition = Arc::clone(&found.definition);
        let run = |this: &mut Self| {
            this.scoped(found.scope, |this| {
                for (name, value) in values {
                    this.scopes.set(&name, value)?;
                }
                for (name, default) in &definition.parameters {
                    if this.scopes.has_own(name) {
                        continue;
                    }
                    let value = match default {
                        Some(default) => this.evaluate(default)?,
                        None => Value::undefined(name),
                    };
                    this.scopes.set(name, value)?;
                }
                this.block(&definition.body)
            })
        };
        let (_, text) = self.nested(|this| this.captured(run))?;
        Ok(Value::Text(text))
    }

    /// A text of the template's own.
    pub(in super::super) fn own_text(&self, text: &str) -> Result<Value> {
        Value::text(&self.meter, text, Origin::Own)
    }
}
