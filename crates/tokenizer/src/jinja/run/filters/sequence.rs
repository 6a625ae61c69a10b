//! Filters of lists, dicts and numbers.

use std::rc::Rc;

use super::super::super::access;
use super::super::super::limits::{Problem, Result};
use super::super::super::python::{self, Args, iterate, to_text};
use super::super::super::text::Origin;
use super::super::super::value::{Items, Missing, Value};
use super::super::Interpreter;
use super::super::checks;
use super::count_or;

/// `a.b.0` from an item; a number is an index.
pub(in super::super) fn attribute_path(this: &Interpreter, item: &Value, path: &Value) -> Result<Value> {
    let Some(path) = path.as_str() else { return this.item(item, path) };
    let mut value = item.clone();
    for part in path.split('.') {
        let key = match part.parse::<i128>() {
            Ok(number) if part.bytes().all(|c| c.is_ascii_digit()) => Value::Int(number, Origin::Own),
            _ => this.own_text(part)?,
        };
        value = this.item(&value, &key)?;
    }
    Ok(value)
}

pub(super) fn length(this: &mut Interpreter, value: Value, _: Args) -> Result<Value> {
    python::length(&this.meter, &value).map(Value::int)
}

pub(super) fn list(this: &mut Interpreter, value: Value, _: Args) -> Result<Value> {
    let items = iterate(&this.meter, &value)?;
    Value::list(&this.meter, items.values.clone())
}

pub(super) fn items(this: &mut Interpreter, value: Value, _: Args) -> Result<Value> {
    match &value {
        Value::Undefined(_) => Value::generator(&this.meter, Vec::new()),
        Value::Dict(dict) => {
            let pairs = python::items(&this.meter, dict)?;
            Value::generator(&this.meter, iterate(&this.meter, &pairs)?.values.clone())
        }
        _ => Err(Problem::new("Can only get item pairs from a mapping.")),
    }
}

pub(super) fn first(this: &mut Interpreter, value: Value, _: Args) -> Result<Value> {
    let items = iterate(&this.meter, &value)?;
    Ok(items
        .values
        .first()
        .cloned()
        .unwrap_or_else(|| Value::undefined("the first item of an empty sequence")))
}

pub(super) fn last(this: &mut Interpreter, value: Value, _: Args) -> Result<Value> {
    let items = iterate(&this.meter, &value)?;
    Ok(items.values.last().cloned().unwrap_or_else(|| Value::undefined("the last item of an empty sequence")))
}

pub(super) fn reverse(this: &mut Interpreter, value: Value, _: Args) -> Result<Value> {
    if let Value::Text(text) = &value {
        let meter = &this.meter;
        let whole = [None, None, Some(Value::Int(-1, Origin::Own))];
        return access::slice(meter, &Value::Text(text.clone()), whole);
    }
    let items = iterate(&this.meter, &value)?;
    Value::generator(&this.meter, items.values.iter().rev().cloned().collect())
}

/// `default(value, boolean=False)`
pub(super) fn default(this: &mut Interpreter, value: Value, args: Args) -> Result<Value> {
    let [default, boolean] = args.bind("default", ["default_value", "boolean"])?;
    let is_missing = value.is_undefined() || (boolean.is_some_and(|flag| flag.is_true()) && !value.is_true());
    if !is_missing {
        return Ok(value);
    }
    default.map_or_else(|| this.own_text(""), Ok)
}

pub(super) fn attr(this: &mut Interpreter, value: Value, args: Args) -> Result<Value> {
    let [name] = args.bind("attr", ["name"])?;
    let name = name.ok_or_else(|| Problem::new("attr needs a name"))?;
    value.defined()?;
    if matches!(value, Value::Dict(_)) && !python::has_method(&value, name.as_str().unwrap_or_default()) {
        // an attribute only, not an item
        return Ok(Value::Undefined(Missing {
            of: Some("dict"),
            name: name.as_str().unwrap_or_default().into(),
        }));
    }
    this.attribute(&value, name.as_str().unwrap_or_default())
}

/// The items of what is true, else none: `none|map(…)` is empty.
pub(in super::super) fn items_if_true(this: &Interpreter, value: &Value) -> Result<Rc<Items>> {
    if value.is_true() {
        iterate(&this.meter, value)
    } else {
        Ok(Rc::new(Items::new(&this.meter, Vec::new())?))
    }
}

/// `map('filter', …)` or `map(attribute='a', default=…)`
pub(super) fn map(this: &mut Interpreter, value: Value, mut args: Args) -> Result<Value> {
    let items = items_if_true(this, &value)?;
    let mut mapped = Vec::new();
    let by_attribute =
        args.positional.is_empty() && args.named.iter().any(|(name, _)| &**name == "attribute");
    if by_attribute {
        let [attribute, default] = args.bind("map", ["attribute", "default"])?;
        let attribute = attribute.ok_or_else(|| Problem::new("map needs an attribute"))?;
        for item in &items.values {
            let found = attribute_path(this, item, &attribute)?;
            let default = default.clone().filter(|_| found.is_undefined());
            mapped.push(default.unwrap_or(found));
        }
        return Value::generator(&this.meter, mapped);
    }
    if args.positional.is_empty() {
        return Err(Problem::new("map requires a filter argument"));
    }
    let filter = to_text(&this.meter, &args.positional.remove(0))?;
    for item in &items.values {
        let args = Args { positional: args.positional.clone(), named: args.named.clone() };
        this.meter.steps(1 + args.positional.len() + args.named.len())?;
        // `map('map', 'map', …)` goes as deep as it has arguments
        mapped.push(this.nested(|this| super::apply(this, filter.as_str(), item.clone(), args))?);
    }
    Value::generator(&this.meter, mapped)
}

/// `select('test', …)`
fn chosen(
    this: &mut Interpreter,
    value: &Value,
    mut args: Args,
    wanted: bool,
    by_attribute: bool,
) -> Result<Value> {
    let attribute = match by_attribute {
        true if args.positional.is_empty() => return Err(Problem::new("selectattr needs an attribute")),
        true => Some(args.positional.remove(0)),
        false => None,
    };
    let test = if args.positional.is_empty() {
        None
    } else {
        Some(to_text(&this.meter, &args.positional.remove(0))?)
    };
    let test = test.as_ref().map(|test| (test.as_str(), args.positional));
    let chosen = checks::choose(this, value, wanted, attribute.as_ref(), test)?;
    Value::generator(&this.meter, chosen)
}

pub(super) fn select(this: &mut Interpreter, value: Value, args: Args) -> Result<Value> {
    chosen(this, &value, args, true, false)
}

pub(super) fn reject(this: &mut Interpreter, value: Value, args: Args) -> Result<Value> {
    chosen(this, &value, args, false, false)
}

pub(super) fn selectattr(this: &mut Interpreter, value: Value, args: Args) -> Result<Value> {
    chosen(this, &value, args, true, true)
}

pub(super) fn rejectattr(this: &mut Interpreter, value: Value, args: Args) -> Result<Value> {
    chosen(this, &value, args, false, true)
}

/// Lists of `n` items; the last is filled up.
pub(super) fn batch(this: &mut Interpreter, value: Value, args: Args) -> Result<Value> {
    let [n, fill] = args.bind("batch", ["linecount", "fill_with"])?;
    let n = count_or(n, "batch", 1)?.max(1);
    let items = iterate(&this.meter, &value)?;
    let mut rows = Vec::new();
    for chunk in items.values.chunks(n) {
        let mut row = chunk.to_vec();
        if let Some(fill) = fill.as_ref().filter(|fill| !matches!(fill, Value::None)) {
            this.meter.steps(n - row.len())?;
            let _held = this.meter.hold((n - row.len()).saturating_mul(size_of::<Value>()))?;
            row.resize(n, fill.clone());
        }
        rows.push(Value::list(&this.meter, row)?);
    }
    Value::generator(&this.meter, rows)
}

/// `n` lists of about the same length.
pub(super) fn slice(this: &mut Interpreter, value: Value, args: Args) -> Result<Value> {
    let [n, fill] = args.bind("slice", ["slices", "fill_with"])?;
    let n = count_or(n, "slice", 1)?;
    if n == 0 {
        return Err(Problem::new("division by zero"));
    }
    let items = iterate(&this.meter, &value)?;
    let (each, longer) = (items.values.len() / n, items.values.len() % n);
    let mut columns = Vec::new();
    let mut at = 0;
    for i in 0..n {
        this.meter.steps(1)?;
        let end = at + each + usize::from(i < longer);
        let mut column = items.values[at..end].to_vec();
        let fill = fill.as_ref().filter(|fill| !matches!(fill, Value::None) && i >= longer);
        column.extend(fill.cloned());
        columns.push(Value::list(&this.meter, column)?);
        at = end;
    }
    Value::generator(&this.meter, columns)
}
