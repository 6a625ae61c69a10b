//! Filters of numbers.

use super::super::super::ast::Arithmetic;
use super::super::super::limits::{Problem, Result};
use super::super::super::python::{self, Args, arithmetic, iterate};
use super::super::super::text::Origin;
use super::super::super::value::Value;
use super::super::Interpreter;
use super::{attribute_path, count_or};

/// `sum(attribute=None, start=0)`
pub(super) fn sum(this: &mut Interpreter, value: Value, args: Args) -> Result<Value> {
    let [attribute, start] = args.bind("sum", ["attribute", "start"])?;
    let mut total = start.unwrap_or(Value::Int(0, Origin::Own));
    for item in &iterate(&this.meter, &value)?.values {
        let item = match &attribute {
            None | Some(Value::None) => item.clone(),
            Some(attribute) => attribute_path(this, item, attribute)?,
        };
        total = arithmetic(&this.meter, Arithmetic::Add, &total, &item)?;
    }
    Ok(total)
}

pub(super) fn abs(_: &mut Interpreter, value: Value, _: Args) -> Result<Value> {
    value.defined()?;
    match (&value, value.as_int()) {
        (_, Some(number)) => Ok(Value::Int(number.saturating_abs(), value.origin())),
        (Value::Float(number, origin), _) => Ok(Value::Float(number.abs(), *origin)),
        _ => Err(Problem::new(format!("bad operand type for abs(): '{}'", value.type_name()))),
    }
}

/// `int(default=0, base=10)`
pub(super) fn int(_: &mut Interpreter, value: Value, args: Args) -> Result<Value> {
    let [default, base] = args.bind("int", ["default", "base"])?;
    let base =
        u32::try_from(count_or(base, "int", 10)?).ok().filter(|base| (2..=36).contains(base)).unwrap_or(10);
    let origin = value.origin();
    let number = match &value {
        Value::Float(number, _) if number.is_finite() => Some(number.trunc() as i128),
        Value::Text(text) => {
            let digits = text.as_str().trim_matches(python::is_space).replace('_', "");
            let whole = i128::from_str_radix(&digits, base).ok();
            whole.or_else(|| digits.parse::<f64>().ok().filter(|x| x.is_finite()).map(|x| x.trunc() as i128))
        }
        other => other.as_int(),
    };
    Ok(match number {
        Some(number) => Value::Int(number, origin),
        None => default.unwrap_or(Value::Int(0, Origin::Own)),
    })
}

/// `float(default=0.0)`
pub(super) fn float(_: &mut Interpreter, value: Value, args: Args) -> Result<Value> {
    let [default] = args.bind("float", ["default"])?;
    let number = match &value {
        Value::Text(text) => text.as_str().trim_matches(python::is_space).replace('_', "").parse().ok(),
        other => other.as_float(),
    };
    Ok(match number {
        Some(number) => Value::Float(number, value.origin()),
        None => default.unwrap_or(Value::Float(0.0, Origin::Own)),
    })
}

/// `round(precision=0, method='common')`; the result is a float.
pub(super) fn round(_: &mut Interpreter, value: Value, args: Args) -> Result<Value> {
    let [precision, method] = args.bind("round", ["precision", "method"])?;
    value.defined()?;
    let precision = i32::try_from(precision.and_then(|n| n.as_int()).unwrap_or(0)).unwrap_or(i32::MAX);
    let Some(number) = value.as_float() else {
        return Err(Problem::new(format!("round needs a number, not a '{}'", value.type_name())));
    };
    let factor = 10f64.powi(precision.clamp(-300, 300));
    let rounded = match method.as_ref().and_then(Value::as_str) {
        Some("ceil") => (number * factor).ceil() / factor,
        Some("floor") => (number * factor).floor() / factor,
        Some("common") | None if precision >= 0 => {
            // the nearest of the decimal digits, as Python rounds
            format!("{number:.*}", precision.clamp(0, 300) as usize).parse().unwrap_or(number)
        }
        Some("common") | None => (number * factor).round_ties_even() / factor,
        Some(_) => return Err(Problem::new("method must be common, ceil or floor")),
    };
    Ok(Value::Float(rounded, value.origin()))
}
