//! Methods of `dict`, `list` and `tuple` that change nothing.

use std::rc::Rc;

use super::super::compare::equal;
use super::super::limits::{Meter, Problem, Result};
use super::super::value::{Dict, Items, Value};
use super::arguments::{Args, required};

type DictMethod = fn(&Rc<Meter>, &Dict, Args) -> Result<Value>;
type ListMethod = fn(&Rc<Meter>, &Items, Args) -> Result<Value>;

pub(super) const DICT_METHODS: &[(&str, DictMethod)] = &[
    ("get", |_, dict, args| {
        let [key, default] = args.bind("get", ["key", "default"])?;
        let found = dict.get(&required(key, "get", "key")?)?;
        Ok(found.or(default).unwrap_or(Value::None))
    }),
    ("items", |meter, dict, _| items(meter, dict)),
    ("keys", |meter, dict, _| {
        Value::list(meter, dict.entries().iter().map(|(key, _)| key.clone()).collect())
    }),
    ("values", |meter, dict, _| {
        Value::list(meter, dict.entries().iter().map(|(_, value)| value.clone()).collect())
    }),
    ("copy", |meter, dict, _| Value::dict(meter, dict.entries().to_vec())),
];

pub(super) const LIST_METHODS: &[(&str, ListMethod)] = &[
    ("count", |meter, items, args| {
        let [value] = args.bind("count", ["value"])?;
        let value = required(value, "count", "value")?;
        let mut n = 0;
        for item in &items.values {
            n += usize::from(equal(meter, item, &value)?);
        }
        Ok(Value::int(n))
    }),
    ("index", |meter, items, args| {
        let [value] = args.bind("index", ["value"])?;
        let value = required(value, "index", "value")?;
        for (at, item) in items.values.iter().enumerate() {
            if equal(meter, item, &value)? {
                return Ok(Value::int(at));
            }
        }
        Err(Problem::new("the value is not in the list"))
    }),
    ("copy", |meter, items, _| Value::list(meter, items.values.clone())),
];

/// Pairs of keys and values.
pub(in super::super) fn items(meter: &Rc<Meter>, dict: &Dict) -> Result<Value> {
    let pair = |(key, value): &(Value, Value)| Value::tuple(meter, vec![key.clone(), value.clone()]);
    Value::list(meter, dict.entries().iter().map(pair).collect::<Result<_>>()?)
}
