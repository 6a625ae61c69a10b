//! What stands after `is`: Jinja2's tests.

use super::super::ast::Comparison;
use super::super::limits::{Problem, Result};
use super::super::python::Args;
use super::super::value::Value;
use super::Interpreter;
use super::filters;

/// Whether `value is name(args)`.
pub(super) fn apply(this: &mut Interpreter, name: &str, value: &Value, args: Args) -> Result<bool> {
    let comparison = match name {
        "eq" | "equalto" | "==" => Some(Comparison::Equal),
        "ne" | "!=" => Some(Comparison::NotEqual),
        "lt" | "lessthan" | "<" => Some(Comparison::Less),
        "le" | "<=" => Some(Comparison::LessEqual),
        "gt" | "greaterthan" | ">" => Some(Comparison::Greater),
        "ge" | ">=" => Some(Comparison::GreaterEqual),
        "in" => Some(Comparison::In),
        _ => None,
    };
    if let Some(comparison) = comparison {
        let [other] = args.bind(name, ["other"])?;
        let other = other.ok_or_else(|| Problem::new(format!("the test '{name}' compares with nothing")))?;
        return this.holds(comparison, value, &other);
    }
    if matches!(name, "divisibleby" | "sameas") {
        let [other] = args.bind(name, ["other"])?;
        let other = other.ok_or_else(|| Problem::new(format!("the test '{name}' compares with nothing")))?;
        if name == "sameas" {
            return Ok(
                value.type_name() == other.type_name() && this.holds(Comparison::Equal, value, &other)?
            );
        }
        return Ok(integer(value)?.checked_rem(integer(&other)?).ok_or_else(by_zero)? == 0);
    }
    let [] = args.bind(name, [])?;
    Ok(match name {
        "defined" => !value.is_undefined(),
        "undefined" => value.is_undefined(),
        "none" => matches!(value, Value::None),
        "boolean" => matches!(value, Value::Bool(_)),
        "true" => matches!(value, Value::Bool(true)),
        "false" => matches!(value, Value::Bool(false)),
        "integer" => matches!(value, Value::Int(..)),
        "float" => matches!(value, Value::Float(..)),
        "number" => value.as_float().is_some(),
        "string" => matches!(value, Value::Text(_)),
        "mapping" => matches!(value, Value::Dict(_)),
        "iterable" => matches!(value, Value::Loop(_) | Value::Generator(_)) || is_sequence(value),
        "sequence" => is_sequence(value),
        "callable" => this.is_callable(value) || value.is_undefined(),
        "odd" => integer(value)? % 2 != 0,
        "even" => integer(value)? % 2 == 0,
        "lower" | "upper" => {
            let text = super::super::python::to_text(&this.meter, value)?;
            let changed = filters::cased(&text, name == "upper")?;
            let has_letters = text.as_str().chars().any(|c| c.is_lowercase() || c.is_uppercase());
            has_letters && changed.as_str() == text.as_str()
        }
        "escaped" => false,
        "filter" | "test" => {
            let name = value.as_str().unwrap_or_default();
            if name.is_empty() { false } else { filters::is_known(name) }
        }
        other => return Err(Problem::new(format!("No test named '{other}'."))),
    })
}

/// What has a length and items.
fn is_sequence(value: &Value) -> bool {
    matches!(value, Value::Text(_) | Value::List(_) | Value::Tuple(_) | Value::Dict(_) | Value::Undefined(_))
}

fn integer(value: &Value) -> Result<i128> {
    value.defined()?;
    value
        .as_int()
        .ok_or_else(|| Problem::new(format!("a whole number is expected, not '{}'", value.type_name())))
}

fn by_zero() -> Problem {
    Problem::new("division by zero")
}

/// The items for which a test holds, or does not.
pub(super) fn choose(
    this: &mut Interpreter,
    items: &Value,
    wanted: bool,
    attribute: Option<&Value>,
    test: Option<(&str, Vec<Value>)>,
) -> Result<Vec<Value>> {
    let mut chosen = Vec::new();
    for item in &filters::items_if_true(this, items)?.values {
        let tested = match attribute {
            Some(attribute) => filters::attribute_path(this, item, attribute)?,
            None => item.clone(),
        };
        let holds = match &test {
            Some((name, positional)) => {
                let args = Args { positional: positional.clone(), named: Vec::new() };
                apply(this, name, &tested, args)?
            }
            None => tested.is_true(),
        };
        if holds == wanted {
            this.meter.steps(1)?;
            chosen.push(item.clone());
        }
    }
    Ok(chosen)
}
