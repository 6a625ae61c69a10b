//! What templates use of Python: its operators, its formats, and the methods of its values.

mod arguments;
mod braces;
mod collection;
mod number;
mod operator;
mod padding;
mod percent;
mod pieces;
mod print;
mod text;

pub(super) use arguments::Args;
pub(super) use collection::items;
pub(super) use number::repr as float_repr;
pub(super) use operator::{arithmetic, contains, sign};
pub(super) use percent::percent;
pub(super) use print::{push_str, repr, to_text};
pub(super) use text::{strip, title};

use std::rc::Rc;

pub(super) use super::lexer::is_space;
use super::limits::{Meter, Problem, Result};
use super::text::Text;
use super::value::{Items, Value};

/// The method of a value, if it has one of this name.
pub(super) fn has_method(value: &Value, name: &str) -> bool {
    match value {
        Value::Text(_) => text::METHODS.iter().any(|(found, _)| *found == name),
        Value::Dict(_) => collection::DICT_METHODS.iter().any(|(found, _)| *found == name),
        Value::List(_) | Value::Tuple(_) => collection::LIST_METHODS.iter().any(|(found, _)| *found == name),
        _ => false,
    }
}

/// Calls a method.
pub(super) fn call_method(meter: &Rc<Meter>, value: &Value, name: &str, args: Args) -> Result<Value> {
    let unknown = || Problem::new(format!("'{}' has no method '{name}'", value.type_name()));
    match value {
        Value::Text(text) => {
            let (_, method) = text::METHODS.iter().find(|(found, _)| *found == name).ok_or_else(unknown)?;
            method(text, args)
        }
        Value::Dict(dict) => {
            let (_, method) =
                collection::DICT_METHODS.iter().find(|(found, _)| *found == name).ok_or_else(unknown)?;
            method(meter, dict, args)
        }
        Value::List(items) | Value::Tuple(items) => {
            let (_, method) =
                collection::LIST_METHODS.iter().find(|(found, _)| *found == name).ok_or_else(unknown)?;
            method(meter, items, args)
        }
        _ => Err(unknown()),
    }
}

/// The items that a `for` would see.
pub(super) fn iterate(meter: &Rc<Meter>, value: &Value) -> Result<Rc<Items>> {
    let values = match value {
        Value::List(items) | Value::Tuple(items) => return Ok(Rc::clone(items)),
        Value::Generator(generator) => return generator.take(meter),
        Value::Undefined(_) => Vec::new(),
        Value::Text(text) => text.split_chars()?.into_iter().map(Value::Text).collect(),
        Value::Dict(dict) => dict.entries().iter().map(|(key, _)| key.clone()).collect(),
        other => return Err(Problem::new(format!("'{}' object is not iterable", other.type_name()))),
    };
    Ok(Rc::new(Items::new(meter, values)?))
}

/// Characters, items or entries, of what has a length.
pub(super) fn length(meter: &Meter, value: &Value) -> Result<usize> {
    Ok(match value {
        Value::Text(text) => {
            meter.text(text.len())?;
            text.as_str().chars().count()
        }
        Value::List(items) | Value::Tuple(items) => items.values.len(),
        Value::Dict(dict) => dict.entries().len(),
        Value::Undefined(_) => 0,
        other => return Err(Problem::new(format!("object of type '{}' has no len()", other.type_name()))),
    })
}

/// The byte at which character `n` of a text begins; its end beyond the last.
pub(super) fn byte_of_char(text: &Text, n: usize) -> Result<usize> {
    text.meter().text(text.len().min(n.saturating_mul(4)))?;
    Ok(text.as_str().char_indices().nth(n).map_or(text.len(), |(at, _)| at))
}
