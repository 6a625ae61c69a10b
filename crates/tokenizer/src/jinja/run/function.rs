//! Functions that every template has: Jinja2's, and transformers' `raise_exception` and `strftime_now`.

use super::super::limits::{MAX_RANGE, Problem, Result};
use super::super::python::{Args, iterate, to_text};
use super::super::text::Origin;
use super::super::value::{Dict, Value};
use super::{CellKind, Interpreter};

pub(super) const NAMES: &[&str] =
    &["range", "dict", "namespace", "joiner", "cycler", "raise_exception", "strftime_now"];

pub(super) fn call(this: &mut Interpreter, name: &str, args: Args) -> Result<Value> {
    match name {
        "range" => range(this, args),
        "dict" => {
            let entries = entries(this, args, "dict")?;
            Value::dict(&this.meter, entries)
        }
        "namespace" => {
            let entries = entries(this, args, "namespace")?;
            let dict = Dict::new(&this.meter, entries)?;
            let mut names = Vec::new();
            for (key, value) in dict.entries() {
                let key = to_text(&this.meter, key)?;
                names.push((key.as_str().into(), value.clone()));
            }
            this.new_cell(CellKind::Namespace(names))
        }
        "joiner" => {
            let [separator] = args.bind("joiner", ["sep"])?;
            let separator = separator.map_or_else(|| this.own_text(", "), Ok)?;
            this.new_cell(CellKind::Joiner { separator, is_used: false })
        }
        "cycler" => {
            let items = args.positional;
            if items.is_empty() {
                return Err(Problem::new("at least one item has to be provided"));
            }
            this.new_cell(CellKind::Cycler { items, at: 0 })
        }
        "raise_exception" => {
            let [message] = args.bind("raise_exception", ["message"])?;
            let message = to_text(&this.meter, &message.unwrap_or(Value::None))?;
            Err(Problem::new(message.as_str()))
        }
        "strftime_now" => {
            let [format] = args.bind("strftime_now", ["format"])?;
            let Some(Value::Text(format)) = format else {
                return Err(Problem::new("strftime_now needs a format"));
            };
            let date = (this.clock)(format.as_str()).map_err(Problem::new)?;
            Value::text(&this.meter, &date, format.origin())
        }
        other => Err(Problem::new(format!("the function '{other}' is not known here"))),
    }
}

fn range(this: &Interpreter, args: Args) -> Result<Value> {
    let [first, second, step] = args.bind("range", ["start", "stop", "step"])?;
    let mut origin = Origin::Own;
    let mut number = |value: Option<Value>| match value {
        None => Ok(None),
        Some(value) => {
            origin = origin.with(value.origin());
            value.defined()?;
            let wrong = || {
                Problem::new(format!("'{}' object cannot be interpreted as an integer", value.type_name()))
            };
            value.as_int().map(Some).ok_or_else(wrong)
        }
    };
    let (first, second, step) = (number(first)?, number(second)?, number(step)?.unwrap_or(1));
    let (start, stop) = match (first, second) {
        (Some(stop), None) => (0, stop),
        (Some(start), Some(stop)) => (start, stop),
        _ => return Err(Problem::new("range expected at least 1 argument, got 0")),
    };
    if step == 0 {
        return Err(Problem::new("range() arg 3 must not be zero"));
    }
    let distance = if step > 0 { stop.saturating_sub(start) } else { start.saturating_sub(stop) };
    let n = if distance <= 0 { 0 } else { (distance - 1) / step.saturating_abs() + 1 };
    if n > MAX_RANGE {
        return Err(Problem::new(format!("a range of {n} numbers; the limit is {MAX_RANGE}")));
    }
    Value::list(&this.meter, (0..n).map(|i| Value::Int(start + i * step, origin)).collect())
}

/// Keys and values of `dict(other, a=1)`.
fn entries(this: &Interpreter, args: Args, who: &str) -> Result<Vec<(Value, Value)>> {
    let mut entries = Vec::new();
    match args.positional.as_slice() {
        [] => {}
        [Value::Dict(dict)] => entries.extend(dict.entries().iter().cloned()),
        [pairs] => {
            for pair in &iterate(&this.meter, pairs)?.values {
                match iterate(&this.meter, pair)?.values.as_slice() {
                    [key, value] => entries.push((key.clone(), value.clone())),
                    other => {
                        let n = other.len();
                        return Err(Problem::new(format!("{who} needs pairs, but one has {n} items")));
                    }
                }
            }
        }
        more => return Err(Problem::new(format!("{who} expected at most 1 argument, got {}", more.len()))),
    }
    for (name, value) in args.named {
        entries.push((this.own_text(&name)?, value));
    }
    Ok(entries)
}
