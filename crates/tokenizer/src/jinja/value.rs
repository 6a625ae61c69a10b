//! Values of a running template. They are Python's, but nothing changes in place except namespaces: transformers renders in
//! a sandbox that forbids `list.append` and the like.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use serde_json::Value as Json;

use super::ast::{For, Macro};
use super::compare::equal;
use super::limits::{Held, MAX_VALUE_DEPTH, Meter, Problem, Result};
use super::text::{Origin, Text};

#[derive(Debug, Clone)]
pub(super) enum Value {
    /// Prints nothing, is false and empty; everything else with it is an error.
    Undefined(Missing),
    None,
    Bool(bool),
    Int(i128, Origin),
    Float(f64, Origin),
    Text(Text),
    List(Rc<Items>),
    Tuple(Rc<Items>),
    Dict(Rc<Dict>),
    /// What `map` and the like give: its items can be taken once.
    Generator(Rc<Generator>),
    /// `loop`
    Loop(Rc<RefCell<Loop>>),
    /// A namespace, `joiner` or `cycler`: its place among the cells of the interpreter.
    Cell(usize),
    Macro(Rc<MacroValue>),
    /// A function that every template has.
    Function(&'static str),
    /// A method with its value.
    Method(Rc<(Value, Arc<str>)>),
}

/// What was looked for and is not there.
#[derive(Debug, Clone)]
pub(super) struct Missing {
    /// What has no such attribute; `None` for a variable.
    pub(super) of: Option<&'static str>,
    pub(super) name: Arc<str>,
}

/// Items of a list or tuple.
#[derive(Debug)]
pub(super) struct Items {
    pub(super) values: Vec<Value>,
    depth: usize,
    _held: Held,
}

impl Items {
    pub(super) fn new(meter: &Rc<Meter>, values: Vec<Value>) -> Result<Items> {
        meter.steps(values.len())?;
        let held = meter.hold(values.len().saturating_mul(size_of::<Value>()) + size_of::<Items>())?;
        let depth = depth_of(&values)?;
        Ok(Items { values, depth, _held: held })
    }
}

/// Entries in the order of their keys' first appearance.
#[derive(Debug)]
pub(super) struct Dict {
    entries: Vec<(Value, Value)>,
    depth: usize,
    held: Held,
}

impl Dict {
    /// A dict without a key twice.
    fn of_distinct(meter: &Rc<Meter>, entries: Vec<(Value, Value)>) -> Result<Dict> {
        meter.steps(entries.len())?;
        let held = meter.hold(entries.len().saturating_mul(2 * size_of::<Value>()) + size_of::<Dict>())?;
        let depth = depth_of(entries.iter().flat_map(|(key, value)| [key, value]))?;
        Ok(Dict { entries, depth, held })
    }

    /// A dict; of entries with the same key, the last counts.
    pub(super) fn new(meter: &Rc<Meter>, entries: Vec<(Value, Value)>) -> Result<Dict> {
        let mut distinct: Vec<(Value, Value)> = Vec::new();
        for (key, value) in entries {
            if !key.is_hashable() {
                return Err(Problem::new(format!("unhashable type: '{}'", key.type_name())));
            }
            match position(meter, &distinct, &key)? {
                Some(at) => distinct[at].1 = value,
                None => distinct.push((key, value)),
            }
        }
        Dict::of_distinct(meter, distinct)
    }

    pub(super) fn entries(&self) -> &[(Value, Value)] {
        &self.entries
    }

    pub(super) fn get(&self, key: &Value) -> Result<Option<Value>> {
        let at = position(self.held.meter(), &self.entries, key)?;
        Ok(at.map(|at| self.entries[at].1.clone()))
    }

    /// The value of a key that is text.
    pub(super) fn get_text(&self, key: &str) -> Result<Option<Value>> {
        self.held.meter().text(key.len() + 8 * self.entries.len())?;
        let is_key = |found: &Value| matches!(found, Value::Text(text) if text.as_str() == key);
        Ok(self.entries.iter().find(|(found, _)| is_key(found)).map(|(_, value)| value.clone()))
    }
}

fn position(meter: &Rc<Meter>, entries: &[(Value, Value)], key: &Value) -> Result<Option<usize>> {
    if let Value::Text(key) = key {
        meter.text(key.len() + 8 * entries.len())?;
        let is_key =
            |(found, _): &(Value, Value)| matches!(found, Value::Text(text) if text.as_str() == key.as_str());
        return Ok(entries.iter().position(is_key));
    }
    for (at, (found, _)) in entries.iter().enumerate() {
        if equal(meter, found, key)? {
            return Ok(Some(at));
        }
    }
    Ok(None)
}

/// Items that can be taken once.
#[derive(Debug)]
pub(super) struct Generator {
    items: RefCell<Option<Rc<Items>>>,
    depth: usize,
}

impl Generator {
    /// All that is left.
    pub(super) fn take(&self, meter: &Rc<Meter>) -> Result<Rc<Items>> {
        match self.items.borrow_mut().take() {
            Some(items) => Ok(items),
            None => Ok(Rc::new(Items::new(meter, Vec::new())?)),
        }
    }
}

/// The state of a `for`.
#[derive(Debug)]
pub(super) struct Loop {
    pub(super) items: Rc<Items>,
    pub(super) index0: usize,
    /// Loops of the same recursive `for` around it.
    pub(super) depth0: usize,
    /// What `loop.changed` was called with last.
    pub(super) last_seen: Option<Vec<Value>>,
    /// The `for` and the scope around it, if it may call itself.
    pub(super) recursive: Option<(Arc<For>, usize)>,
}

#[derive(Debug)]
pub(super) struct MacroValue {
    pub(super) definition: Arc<Macro>,
    /// The scope in which it was defined.
    pub(super) scope: usize,
}

fn depth_of<'v>(values: impl IntoIterator<Item = &'v Value>) -> Result<usize> {
    let depth = 1 + values.into_iter().map(Value::depth).max().unwrap_or(0);
    if depth > MAX_VALUE_DEPTH {
        let problem = format!("lists and dicts are nested deeper than {MAX_VALUE_DEPTH}, the limit");
        return Err(Problem::new(problem));
    }
    Ok(depth)
}

impl Value {
    /// An integer of the template's own.
    pub(super) fn int(number: usize) -> Value {
        Value::Int(number as i128, Origin::Own)
    }

    pub(super) fn text(meter: &Rc<Meter>, text: &str, origin: Origin) -> Result<Value> {
        Text::new(meter, text, origin).map(Value::Text)
    }

    pub(super) fn list(meter: &Rc<Meter>, values: Vec<Value>) -> Result<Value> {
        Ok(Value::List(Rc::new(Items::new(meter, values)?)))
    }

    pub(super) fn tuple(meter: &Rc<Meter>, values: Vec<Value>) -> Result<Value> {
        Ok(Value::Tuple(Rc::new(Items::new(meter, values)?)))
    }

    /// Items that can be taken once.
    pub(super) fn generator(meter: &Rc<Meter>, values: Vec<Value>) -> Result<Value> {
        let items = Items::new(meter, values)?;
        let depth = items.depth;
        Ok(Value::Generator(Rc::new(Generator { items: RefCell::new(Some(Rc::new(items))), depth })))
    }

    pub(super) fn dict(meter: &Rc<Meter>, entries: Vec<(Value, Value)>) -> Result<Value> {
        Ok(Value::Dict(Rc::new(Dict::new(meter, entries)?)))
    }

    pub(super) fn undefined(name: &str) -> Value {
        Value::Undefined(Missing { of: None, name: name.into() })
    }

    /// All of it has one origin.
    pub(super) fn from_json(meter: &Rc<Meter>, json: &Json, origin: Origin) -> Result<Value> {
        Value::from_json_at(meter, json, origin, 0)
    }

    fn from_json_at(meter: &Rc<Meter>, json: &Json, origin: Origin, depth: usize) -> Result<Value> {
        if depth > MAX_VALUE_DEPTH {
            let problem = format!("a value is nested deeper than {MAX_VALUE_DEPTH}, the limit");
            return Err(Problem::new(problem));
        }
        let inside = |json: &Json| Value::from_json_at(meter, json, origin, depth + 1);
        Ok(match json {
            Json::Null => Value::None,
            Json::Bool(flag) => Value::Bool(*flag),
            Json::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(number), _) => Value::Int(number.into(), origin),
                (None, Some(number)) => Value::Int(number.into(), origin),
                (None, None) => Value::Float(number.as_f64().unwrap_or(f64::NAN), origin),
            },
            Json::String(text) => Value::text(meter, text, origin)?,
            Json::Array(items) => Value::list(meter, items.iter().map(inside).collect::<Result<_>>()?)?,
            Json::Object(fields) => {
                let entry =
                    |(key, value): (&String, &Json)| Ok((Value::text(meter, key, origin)?, inside(value)?));
                let entries = fields.iter().map(entry).collect::<Result<_>>()?;
                Value::Dict(Rc::new(Dict::of_distinct(meter, entries)?))
            }
        })
    }

    fn depth(&self) -> usize {
        match self {
            Value::List(items) | Value::Tuple(items) => items.depth,
            Value::Dict(dict) => dict.depth,
            Value::Generator(generator) => generator.depth,
            Value::Loop(state) => state.borrow().items.depth,
            Value::Method(method) => method.0.depth() + 1,
            _ => 0,
        }
    }

    pub(super) fn is_true(&self) -> bool {
        match self {
            Value::Undefined(_) | Value::None => false,
            Value::Bool(flag) => *flag,
            Value::Int(number, _) => *number != 0,
            Value::Float(number, _) => *number != 0.0,
            Value::Text(text) => text.len() > 0,
            Value::List(items) | Value::Tuple(items) => !items.values.is_empty(),
            Value::Dict(dict) => !dict.entries.is_empty(),
            Value::Generator(_)
            | Value::Loop(_)
            | Value::Cell(_)
            | Value::Macro(_)
            | Value::Function(_)
            | Value::Method(_) => true,
        }
    }

    pub(super) fn is_undefined(&self) -> bool {
        matches!(self, Value::Undefined(_))
    }

    fn is_hashable(&self) -> bool {
        match self {
            Value::List(_) | Value::Dict(_) => false,
            Value::Tuple(items) => items.values.iter().all(Value::is_hashable),
            _ => true,
        }
    }

    /// As Python names it.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Value::Undefined(_) => "Undefined",
            Value::None => "NoneType",
            Value::Bool(_) => "bool",
            Value::Int(..) => "int",
            Value::Float(..) => "float",
            Value::Text(_) => "str",
            Value::List(_) => "list",
            Value::Tuple(_) => "tuple",
            Value::Dict(_) => "dict",
            Value::Generator(_) => "generator",
            Value::Loop(_) => "LoopContext",
            Value::Cell(_) => "Namespace",
            Value::Macro(_) => "Macro",
            Value::Function(_) => "function",
            Value::Method(_) => "builtin_function_or_method",
        }
    }

    pub(super) fn as_str(&self) -> Option<&str> {
        if let Value::Text(text) = self { Some(text.as_str()) } else { None }
    }

    /// A whole number; `True` is 1.
    pub(super) fn as_int(&self) -> Option<i128> {
        match self {
            Value::Bool(flag) => Some(i128::from(*flag)),
            Value::Int(number, _) => Some(*number),
            _ => None,
        }
    }

    /// Any number.
    pub(super) fn as_float(&self) -> Option<f64> {
        match self {
            Value::Float(number, _) => Some(*number),
            other => other.as_int().map(|number| number as f64),
        }
    }

    /// Foreign if any of it is that is printed as it stands: a text or a number.
    pub(super) fn origin(&self) -> Origin {
        match self {
            Value::Int(_, origin) | Value::Float(_, origin) => *origin,
            Value::Text(text) => text.origin(),
            _ => Origin::Own,
        }
    }

    /// The error of using a value that is not there.
    pub(super) fn defined(&self) -> Result<()> {
        let Value::Undefined(missing) = self else { return Ok(()) };
        let name = &missing.name;
        Err(Problem::new(match missing.of {
            None => format!("'{name}' is undefined"),
            Some("NoneType") => format!("None has no attribute '{name}'"),
            Some(of) => format!("'{of} object' has no attribute '{name}'"),
        }))
    }
}
