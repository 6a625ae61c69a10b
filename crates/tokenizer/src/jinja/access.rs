//! Attributes, items and slices, as Jinja2 looks them up: `a.b` is an attribute, then an item; `a['b']` the other way round.
//! What is not there is undefined.

use std::rc::Rc;

use super::limits::{Meter, Problem, Result};
use super::python::has_method;
use super::text::{Builder, Origin};
use super::value::{Items, Loop, Missing, Value};

/// `value.name`
pub(super) fn attribute(meter: &Rc<Meter>, value: &Value, name: &str) -> Result<Value> {
    value.defined()?;
    if let Some(found) = own_attribute(meter, value, name)? {
        return Ok(found);
    }
    let found = match value {
        Value::Dict(dict) => dict.get_text(name)?,
        _ => None,
    };
    meter.steps(1)?;
    Ok(found.unwrap_or_else(|| missing(value, name)))
}

/// `value[key]`
pub(super) fn item(meter: &Rc<Meter>, value: &Value, key: &Value) -> Result<Value> {
    value.defined()?;
    meter.steps(1)?;
    match (value, key) {
        (Value::Dict(dict), key) => {
            if let Some(found) = dict.get(key)? {
                return Ok(found);
            }
        }
        (Value::List(items) | Value::Tuple(items), key) => {
            let at = key.as_int().and_then(|at| place(at, items.values.len()));
            if let Some(found) = at.and_then(|at| items.values.get(at)) {
                return Ok(found.clone());
            }
        }
        (Value::Text(text), key) => {
            if let Some(at) = key.as_int() {
                let n = super::python::length(meter, value)?;
                if let Some(at) = place(at, n) {
                    let start = super::python::byte_of_char(text, at)?;
                    let length = text.as_str()[start..].chars().next().map_or(0, char::len_utf8);
                    return text.slice(start..start + length).map(Value::Text);
                }
            }
        }
        _ => {}
    }
    match key {
        Value::Text(name) => {
            let found = own_attribute(meter, value, name.as_str())?;
            Ok(found.unwrap_or_else(|| missing(value, name.as_str())))
        }
        Value::Undefined(_) => Ok(missing(value, "Undefined")),
        other => Ok(missing(value, super::python::to_text(meter, other)?.as_str())),
    }
}

/// Where an index points to in what has `n` items.
fn place(at: i128, n: usize) -> Option<usize> {
    let at = if at < 0 { at.checked_add(n as i128)? } else { at };
    usize::try_from(at).ok().filter(|at| *at < n)
}

fn missing(value: &Value, name: &str) -> Value {
    Value::Undefined(Missing { of: Some(value.type_name()), name: name.into() })
}

/// Attributes that are no items.
fn own_attribute(meter: &Rc<Meter>, value: &Value, name: &str) -> Result<Option<Value>> {
    let method = |is_known: bool| is_known.then(|| Value::Method(Rc::new((value.clone(), name.into()))));
    Ok(match value {
        Value::Loop(state) => {
            loop_attribute(&state.borrow(), name).or_else(|| method(matches!(name, "cycle" | "changed")))
        }
        Value::Macro(found) if name == "name" => {
            Some(Value::text(meter, &found.definition.name, Origin::Own)?)
        }
        _ => method(has_method(value, name)),
    })
}

fn loop_attribute(state: &Loop, name: &str) -> Option<Value> {
    let (at, n) = (state.index0, state.items.values.len());
    let neighbour = |at: Option<usize>| {
        let found = at.and_then(|at| state.items.values.get(at)).cloned();
        found.unwrap_or_else(|| Value::undefined(name))
    };
    Some(match name {
        "index" => Value::int(at + 1),
        "index0" => Value::int(at),
        "revindex" => Value::int(n - at),
        "revindex0" => Value::int(n - at - 1),
        "first" => Value::Bool(at == 0),
        "last" => Value::Bool(at + 1 == n),
        "length" => Value::int(n),
        "depth" => Value::int(state.depth0 + 1),
        "depth0" => Value::int(state.depth0),
        "previtem" => neighbour(at.checked_sub(1)),
        "nextitem" => neighbour(Some(at + 1)),
        _ => return None,
    })
}

/// `value[start:stop:step]`
pub(super) fn slice(meter: &Rc<Meter>, value: &Value, bounds: [Option<Value>; 3]) -> Result<Value> {
    value.defined()?;
    let mut numbers = [None; 3];
    for (number, bound) in numbers.iter_mut().zip(bounds) {
        *number = match bound {
            None | Some(Value::None) => None,
            Some(bound) => match bound.as_int() {
                Some(found) => Some(found),
                None => {
                    bound.defined()?;
                    return Err(Problem::new("slice indices must be integers or None"));
                }
            },
        };
    }
    let [start, stop, step] = numbers;
    let step = step.unwrap_or(1);
    if step == 0 {
        return Err(Problem::new("slice step cannot be zero"));
    }
    let n = match value {
        Value::Text(_) | Value::List(_) | Value::Tuple(_) => super::python::length(meter, value)? as i128,
        other => return Ok(missing(other, "slice")),
    };
    let (low, high) = if step > 0 { (0, n) } else { (-1, n - 1) };
    let bound = |at: Option<i128>, default: i128| {
        at.map_or(default, |at| if at < 0 { at.saturating_add(n).max(low) } else { at.min(high) })
    };
    let (start, stop) =
        if step > 0 { (bound(start, 0), bound(stop, n)) } else { (bound(start, n - 1), bound(stop, -1)) };
    if let (Value::Text(text), 1) = (value, step) {
        let byte = |at: i128| super::python::byte_of_char(text, usize::try_from(at).unwrap_or(0));
        let (start, end) = (byte(start)?, byte(stop)?);
        return text.slice(start..end.max(start)).map(Value::Text);
    }
    let mut places = Vec::new();
    let mut at = start;
    while if step > 0 { at < stop } else { at > stop } {
        meter.steps(1)?;
        places.extend(usize::try_from(at));
        at = at.saturating_add(step);
    }
    let chosen = |items: &Items| places.iter().filter_map(|at| items.values.get(*at)).cloned().collect();
    match value {
        Value::List(items) => Value::list(meter, chosen(items)),
        Value::Tuple(items) => Value::tuple(meter, chosen(items)),
        Value::Text(text) => {
            let starts: Vec<(usize, char)> = text.as_str().char_indices().collect();
            let mut out = Builder::new(meter)?;
            for (at, c) in places.iter().filter_map(|at| starts.get(*at)) {
                out.push_slice(text, *at..*at + c.len_utf8())?;
            }
            Ok(Value::Text(out.finish()))
        }
        other => Ok(missing(other, "slice")),
    }
}
