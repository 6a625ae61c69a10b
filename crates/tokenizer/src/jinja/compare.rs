//! Which values are equal, and which come first.

use std::cmp::Ordering;
use std::rc::Rc;

use super::limits::{Meter, Problem, Result};
use super::value::Value;

/// Python's `==`.
pub(super) fn equal(meter: &Meter, a: &Value, b: &Value) -> Result<bool> {
    meter.steps(1)?;
    Ok(match (a, b) {
        (Value::Undefined(_), Value::Undefined(_)) | (Value::None, Value::None) => true,
        (Value::Text(a), Value::Text(b)) => {
            if a.len() != b.len() {
                return Ok(false);
            }
            meter.text(a.len())?;
            a.as_str() == b.as_str()
        }
        (Value::List(a), Value::List(b)) | (Value::Tuple(a), Value::Tuple(b)) => {
            if a.values.len() != b.values.len() {
                return Ok(false);
            }
            for (a, b) in a.values.iter().zip(&b.values) {
                if !equal(meter, a, b)? {
                    return Ok(false);
                }
            }
            true
        }
        (Value::Dict(a), Value::Dict(b)) => {
            if a.entries().len() != b.entries().len() {
                return Ok(false);
            }
            for (key, value) in a.entries() {
                match b.get(key)? {
                    Some(other) if equal(meter, value, &other)? => {}
                    _ => return Ok(false),
                }
            }
            true
        }
        (Value::Generator(a), Value::Generator(b)) => Rc::ptr_eq(a, b),
        (Value::Loop(a), Value::Loop(b)) => Rc::ptr_eq(a, b),
        (Value::Cell(a), Value::Cell(b)) => a == b,
        (Value::Macro(a), Value::Macro(b)) => Rc::ptr_eq(a, b),
        (Value::Function(a), Value::Function(b)) => a == b,
        _ => match (a.as_int(), b.as_int()) {
            (Some(a), Some(b)) => a == b,
            _ => matches!((a.as_float(), b.as_float()), (Some(a), Some(b)) if a == b),
        },
    })
}

/// Python's order.
///
/// # Errors
/// Values that have none, with `operator` in the words.
pub(super) fn compare(meter: &Meter, a: &Value, b: &Value, operator: &str) -> Result<Option<Ordering>> {
    meter.steps(1)?;
    match (a, b) {
        (Value::Text(a), Value::Text(b)) => {
            meter.text(a.len().min(b.len()))?;
            Ok(Some(a.as_str().cmp(b.as_str())))
        }
        (Value::List(a), Value::List(b)) | (Value::Tuple(a), Value::Tuple(b)) => {
            for (a, b) in a.values.iter().zip(&b.values) {
                if !equal(meter, a, b)? {
                    return compare(meter, a, b, operator);
                }
            }
            Ok(Some(a.values.len().cmp(&b.values.len())))
        }
        _ => {
            if let (Some(a), Some(b)) = (a.as_int(), b.as_int()) {
                return Ok(Some(a.cmp(&b)));
            }
            if let (Some(a), Some(b)) = (a.as_float(), b.as_float()) {
                return Ok(a.partial_cmp(&b));
            }
            a.defined()?;
            b.defined()?;
            let (a, b) = (a.type_name(), b.type_name());
            Err(Problem::new(format!("'{operator}' not supported between instances of '{a}' and '{b}'")))
        }
    }
}
