//! Python's operators.

use std::rc::Rc;

use super::super::ast::Arithmetic;
use super::super::compare::equal;
use super::super::limits::{Meter, Problem, Result};
use super::super::text::Builder;
use super::super::value::{Items, Value};
use super::{iterate, percent};

/// `a + b` and the like.
pub(in super::super) fn arithmetic(
    meter: &Rc<Meter>,
    operator: Arithmetic,
    a: &Value,
    b: &Value,
) -> Result<Value> {
    meter.steps(1)?;
    a.defined()?;
    match (operator, a, b) {
        (Arithmetic::Modulo, Value::Text(format), _) => return percent(format, b).map(Value::Text),
        (Arithmetic::Add, Value::Text(first), Value::Text(second)) => {
            let mut out = Builder::new(meter)?;
            out.push_text(first)?;
            out.push_text(second)?;
            return Ok(Value::Text(out.finish()));
        }
        (Arithmetic::Add, Value::List(first), Value::List(second)) => {
            return Value::list(meter, joined(meter, first, second)?);
        }
        (Arithmetic::Add, Value::Tuple(first), Value::Tuple(second)) => {
            return Value::tuple(meter, joined(meter, first, second)?);
        }
        (Arithmetic::Multiply, _, _) => {
            let repeated = match (a.as_int(), b.as_int()) {
                (None, Some(n)) => repeated(meter, a, n)?,
                (Some(n), None) => repeated(meter, b, n)?,
                _ => None,
            };
            if let Some(repeated) = repeated {
                return Ok(repeated);
            }
        }
        _ => {}
    }
    b.defined()?;
    let origin = a.origin().with(b.origin());
    if let (Some(a), Some(b)) = (a.as_int(), b.as_int())
        && let Some(number) = whole(operator, a, b)?
    {
        return Ok(Value::Int(number, origin));
    }
    match (a.as_float(), b.as_float()) {
        (Some(a), Some(b)) => Ok(Value::Float(float(operator, a, b)?, origin)),
        _ => Err(unsupported(operator, a, b)),
    }
}

fn unsupported(operator: Arithmetic, a: &Value, b: &Value) -> Problem {
    let (first, second) = (a.type_name(), b.type_name());
    if operator == Arithmetic::Add && matches!(a, Value::Text(_) | Value::List(_) | Value::Tuple(_)) {
        return Problem::new(format!("can only concatenate {first} (not \"{second}\") to {first}"));
    }
    let sign = match operator {
        Arithmetic::Add => "+",
        Arithmetic::Subtract => "-",
        Arithmetic::Multiply => "*",
        Arithmetic::Divide => "/",
        Arithmetic::FloorDivide => "//",
        Arithmetic::Modulo => "%",
        Arithmetic::Power => "**",
    };
    Problem::new(format!("unsupported operand type(s) for {sign}: '{first}' and '{second}'"))
}

fn joined(meter: &Meter, first: &Items, second: &Items) -> Result<Vec<Value>> {
    meter.steps(first.values.len() + second.values.len())?;
    Ok(first.values.iter().chain(&second.values).cloned().collect())
}

/// A text or list `n` times.
fn repeated(meter: &Rc<Meter>, value: &Value, n: i128) -> Result<Option<Value>> {
    let n = usize::try_from(n.max(0)).unwrap_or(usize::MAX);
    let items = match value {
        Value::Text(text) => {
            let mut out = Builder::new(meter)?;
            out.pad(text, n)?;
            return Ok(Some(Value::Text(out.finish())));
        }
        Value::List(items) | Value::Tuple(items) => items,
        _ => return Ok(None),
    };
    let total = items.values.len().saturating_mul(n);
    meter.steps(total)?;
    let _held = meter.hold(total.saturating_mul(size_of::<Value>()))?;
    let mut values = Vec::new();
    for _ in 0..if items.values.is_empty() { 0 } else { n } {
        values.extend(items.values.iter().cloned());
    }
    let is_list = matches!(value, Value::List(_));
    if is_list { Value::list(meter, values).map(Some) } else { Value::tuple(meter, values).map(Some) }
}

/// Of two whole numbers; `None` if the result is a float.
fn whole(operator: Arithmetic, a: i128, b: i128) -> Result<Option<i128>> {
    let result = match operator {
        Arithmetic::Add => a.checked_add(b),
        Arithmetic::Subtract => a.checked_sub(b),
        Arithmetic::Multiply => a.checked_mul(b),
        Arithmetic::Divide => return Ok(None),
        Arithmetic::Power if b < 0 => return Ok(None),
        Arithmetic::Power => match a {
            0 | 1 => Some(if b == 0 { 1 } else { a }),
            -1 => Some(if b % 2 == 0 { 1 } else { -1 }),
            _ => u32::try_from(b).ok().and_then(|b| a.checked_pow(b)),
        },
        Arithmetic::FloorDivide | Arithmetic::Modulo if b == 0 => return Err(by_zero()),
        Arithmetic::FloorDivide => {
            a.checked_div(b).map(|quotient| quotient - i128::from(a % b != 0 && (a < 0) != (b < 0)))
        }
        Arithmetic::Modulo => {
            a.checked_rem(b).map(|rest| if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest })
        }
    };
    match result {
        Some(number) => Ok(Some(number)),
        None => Err(Problem::new("a whole number has more than 127 bits, the limit")),
    }
}

fn float(operator: Arithmetic, a: f64, b: f64) -> Result<f64> {
    use Arithmetic::{Add, Divide, FloorDivide, Modulo, Multiply, Power, Subtract};
    if b == 0.0 && matches!(operator, Divide | FloorDivide | Modulo)
        || (operator == Power && a == 0.0 && b < 0.0)
    {
        return Err(by_zero());
    }
    Ok(match operator {
        Add => a + b,
        Subtract => a - b,
        Multiply => a * b,
        Divide => a / b,
        FloorDivide => (a / b).floor(),
        Modulo => {
            let rest = a % b;
            if rest != 0.0 && (rest < 0.0) != (b < 0.0) { rest + b } else { rest }
        }
        Power => a.powf(b),
    })
}

fn by_zero() -> Problem {
    Problem::new("division by zero")
}

/// `-value`, or `+value`.
pub(in super::super) fn sign(value: &Value, is_minus: bool) -> Result<Value> {
    value.defined()?;
    match (value.as_int(), value) {
        (Some(number), _) => match if is_minus { number.checked_neg() } else { Some(number) } {
            Some(number) => Ok(Value::Int(number, value.origin())),
            None => Err(Problem::new("a whole number has more than 127 bits, the limit")),
        },
        (_, Value::Float(number, origin)) => {
            Ok(Value::Float(if is_minus { -number } else { *number }, *origin))
        }
        _ => {
            let sign = if is_minus { '-' } else { '+' };
            Err(Problem::new(format!("bad operand type for unary {sign}: '{}'", value.type_name())))
        }
    }
}

/// `item in container`
pub(in super::super) fn contains(meter: &Rc<Meter>, container: &Value, item: &Value) -> Result<bool> {
    match container {
        Value::Text(text) => match item {
            Value::Text(part) => {
                meter.text(text.len() + part.len())?;
                Ok(text.as_str().contains(part.as_str()))
            }
            other => {
                other.defined()?;
                let kind = other.type_name();
                Err(Problem::new(format!("'in <string>' requires string as left operand, not {kind}")))
            }
        },
        Value::Dict(dict) => Ok(dict.get(item)?.is_some()),
        other => {
            for found in &iterate(meter, other)?.values {
                if equal(meter, found, item)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
    }
}
