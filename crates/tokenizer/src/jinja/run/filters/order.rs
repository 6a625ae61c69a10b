//! Filters that compare items.

use std::cmp::Ordering;

use super::super::super::compare::{compare, equal};
use super::super::super::limits::{Problem, Result};
use super::super::super::python::{self, Args, iterate};
use super::super::super::value::Value;
use super::super::Interpreter;
use super::{attribute_path, cased};

/// What values are compared by: an attribute, in lower case unless `case_sensitive`.
fn keys(
    this: &Interpreter,
    values: &[Value],
    attribute: Option<&Value>,
    is_exact: bool,
) -> Result<Vec<Value>> {
    let key = |value: &Value| {
        let key = match attribute {
            None | Some(Value::None) => value.clone(),
            Some(attribute) => match attribute.as_str().filter(|path| path.contains(',')) {
                Some(paths) => {
                    let mut parts = Vec::new();
                    for path in paths.split(',') {
                        parts.push(attribute_path(this, value, &this.own_text(path)?)?);
                    }
                    Value::list(&this.meter, parts)?
                }
                None => attribute_path(this, value, attribute)?,
            },
        };
        match key {
            Value::Text(text) if !is_exact => cased(&text, false).map(Value::Text),
            other => Ok(other),
        }
    };
    values.iter().map(key).collect()
}

/// The places of `keys` in order; equal ones stay as they are.
fn order(this: &Interpreter, keys: &[Value], is_reversed: bool) -> Result<Vec<usize>> {
    let mut places: Vec<usize> = (0..keys.len()).collect();
    let mut result = Ok(());
    places.sort_by(|a, b| {
        let (a, b) = (&keys[*a], &keys[*b]);
        let ordering = if result.is_ok() { compare(&this.meter, a, b, "<") } else { Ok(None) };
        let ordering = ordering.unwrap_or_else(|problem| {
            result = Err(problem);
            None
        });
        let ordering = ordering.unwrap_or(Ordering::Equal);
        if is_reversed { ordering.reverse() } else { ordering }
    });
    result.map(|()| places)
}

fn is_set(flag: Option<Value>) -> bool {
    flag.is_some_and(|flag| flag.is_true())
}

/// `sort(reverse=False, case_sensitive=False, attribute=None)`
pub(super) fn sort(this: &mut Interpreter, value: Value, args: Args) -> Result<Value> {
    let [reverse, exact, attribute] = args.bind("sort", ["reverse", "case_sensitive", "attribute"])?;
    let items = iterate(&this.meter, &value)?;
    let keys = keys(this, &items.values, attribute.as_ref(), is_set(exact))?;
    let places = order(this, &keys, is_set(reverse))?;
    Value::list(&this.meter, places.into_iter().map(|at| items.values[at].clone()).collect())
}

/// `dictsort(case_sensitive=False, by='key', reverse=False)`
pub(super) fn dictsort(this: &mut Interpreter, value: Value, args: Args) -> Result<Value> {
    let [exact, by, reverse] = args.bind("dictsort", ["case_sensitive", "by", "reverse"])?;
    let Value::Dict(dict) = &value else { return Err(Problem::new("dictsort needs a mapping")) };
    let by_value = match by.as_ref().and_then(Value::as_str) {
        None | Some("key") => false,
        Some("value") => true,
        Some(_) => return Err(Problem::new("You can only sort by either \"key\" or \"value\"")),
    };
    let sorted: Vec<Value> =
        dict.entries().iter().map(|(key, value)| if by_value { value } else { key }.clone()).collect();
    let keys = keys(this, &sorted, None, is_set(exact))?;
    let places = order(this, &keys, is_set(reverse))?;
    let pairs = iterate(&this.meter, &python::items(&this.meter, dict)?)?;
    Value::list(&this.meter, places.into_iter().map(|at| pairs.values[at].clone()).collect())
}

/// `unique(case_sensitive=False, attribute=None)`
pub(super) fn unique(this: &mut Interpreter, value: Value, args: Args) -> Result<Value> {
    let [exact, attribute] = args.bind("unique", ["case_sensitive", "attribute"])?;
    let items = iterate(&this.meter, &value)?;
    let keys = keys(this, &items.values, attribute.as_ref(), is_set(exact))?;
    let mut kept: Vec<usize> = Vec::new();
    for at in 0..keys.len() {
        let mut is_new = true;
        for other in &kept {
            is_new = is_new && !equal(&this.meter, &keys[at], &keys[*other])?;
        }
        if is_new {
            kept.push(at);
        }
    }
    Value::generator(&this.meter, kept.into_iter().map(|at| items.values[at].clone()).collect())
}

/// `groupby(attribute, default=None, case_sensitive=False)`: pairs of a key and its items.
pub(super) fn groupby(this: &mut Interpreter, value: Value, args: Args) -> Result<Value> {
    let [attribute, default, exact] = args.bind("groupby", ["attribute", "default", "case_sensitive"])?;
    let items = iterate(&this.meter, &value)?;
    let mut keys = keys(this, &items.values, attribute.as_ref(), is_set(exact))?;
    if let Some(default) = default {
        keys.iter_mut().filter(|key| key.is_undefined()).for_each(|key| *key = default.clone());
    }
    let mut groups: Vec<(Value, Vec<Value>)> = Vec::new();
    for at in order(this, &keys, false)? {
        let is_same = match groups.last() {
            Some((last, _)) => equal(&this.meter, last, &keys[at])?,
            None => false,
        };
        if !is_same {
            groups.push((keys[at].clone(), Vec::new()));
        }
        if let Some((_, group)) = groups.last_mut() {
            group.push(items.values[at].clone());
        }
    }
    let mut pairs = Vec::new();
    for (key, group) in groups {
        let group = Value::list(&this.meter, group)?;
        pairs.push(Value::tuple(&this.meter, vec![key, group])?);
    }
    Value::list(&this.meter, pairs)
}

/// The item that is `wanted` compared with all others.
fn extreme(this: &mut Interpreter, value: &Value, args: Args, wanted: Ordering) -> Result<Value> {
    let [exact, attribute] = args.bind("min", ["case_sensitive", "attribute"])?;
    let items = iterate(&this.meter, value)?;
    let keys = keys(this, &items.values, attribute.as_ref(), is_set(exact))?;
    let mut best = 0;
    for at in 1..keys.len() {
        if compare(&this.meter, &keys[at], &keys[best], "<")? == Some(wanted) {
            best = at;
        }
    }
    Ok(items.values.get(best).cloned().unwrap_or_else(|| Value::undefined("an item of an empty sequence")))
}

pub(super) fn min(this: &mut Interpreter, value: Value, args: Args) -> Result<Value> {
    extreme(this, &value, args, Ordering::Less)
}

pub(super) fn max(this: &mut Interpreter, value: Value, args: Args) -> Result<Value> {
    extreme(this, &value, args, Ordering::Greater)
}
