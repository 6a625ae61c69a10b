//! Variables. A scope sees what stands in those around it; a macro sees the scope in which it was defined.

use std::rc::Rc;
use std::sync::Arc;

use hashbrown::HashMap;

use super::limits::{Held, Meter, Result};
use super::value::Value;

/// Bytes that a scope and a name in it take, about.
const SCOPE_BYTES: usize = 128;
const NAME_BYTES: usize = 96;

#[derive(Debug)]
struct Scope {
    parent: Option<usize>,
    names: HashMap<Arc<str>, Value>,
    /// A macro was defined in it, which may be called when the scope has ended.
    is_kept: bool,
    held: Held,
}

/// All scopes of a rendering; the first has the variables that it was given.
#[derive(Debug)]
pub(super) struct Scopes {
    meter: Rc<Meter>,
    all: Vec<Scope>,
    current: usize,
}

impl Scopes {
    pub(super) fn new(meter: &Rc<Meter>) -> Result<Scopes> {
        let mut scopes = Scopes { meter: Rc::clone(meter), all: Vec::new(), current: 0 };
        scopes.push(None)?;
        Ok(scopes)
    }

    fn push(&mut self, parent: Option<usize>) -> Result<()> {
        let held = self.meter.hold(SCOPE_BYTES)?;
        self.all.push(Scope { parent, names: HashMap::new(), is_kept: false, held });
        Ok(())
    }

    pub(super) fn current(&self) -> usize {
        self.current
    }

    /// Begins a scope within `parent`; the result is to be given to [`end`](Self::end).
    pub(super) fn begin(&mut self, parent: usize) -> Result<usize> {
        self.push(Some(parent))?;
        Ok(std::mem::replace(&mut self.current, self.all.len() - 1))
    }

    /// Ends the current scope and goes back to `previous`.
    pub(super) fn end(&mut self, previous: usize) {
        let ended = std::mem::replace(&mut self.current, previous);
        if !self.all[ended].is_kept {
            self.all[ended].names.clear();
        }
        // scopes end in the opposite order, so that what lies above is over
        while self.all.len() - 1 > self.current && self.all.last().is_some_and(|last| !last.is_kept) {
            self.all.pop();
        }
    }

    /// Keeps the current scope, for a macro that is defined in it.
    pub(super) fn keep(&mut self) {
        self.all[self.current].is_kept = true;
    }

    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        let mut at = Some(self.current);
        while let Some(scope) = at.and_then(|at| self.all.get(at)) {
            if let Some(value) = scope.names.get(name) {
                return Some(value);
            }
            at = scope.parent;
        }
        None
    }

    /// Whether the current scope itself has the name.
    pub(super) fn has_own(&self, name: &str) -> bool {
        self.all[self.current].names.contains_key(name)
    }

    pub(super) fn set(&mut self, name: &Arc<str>, value: Value) -> Result<()> {
        let scope = &mut self.all[self.current];
        if scope.names.insert(Arc::clone(name), value).is_none() {
            scope.held.grow(NAME_BYTES)?;
        }
        Ok(())
    }
}
