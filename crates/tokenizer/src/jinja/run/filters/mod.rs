//! What stands after `|`: Jinja2's filters, with transformers' `tojson`.

mod json;
mod number;
mod order;
mod sequence;
mod text;

use super::super::limits::{Problem, Result};
use super::super::python::Args;
use super::super::text::{Origin, Text};
use super::super::value::Value;
use super::Interpreter;

pub(super) use sequence::{attribute_path, items_if_true};
pub(super) use text::cased;

type Apply = fn(&mut Interpreter, Value, Args) -> Result<Value>;

const FILTERS: &[(&str, Apply)] = &[
    ("abs", number::abs),
    ("attr", sequence::attr),
    ("batch", sequence::batch),
    ("capitalize", text::capitalize),
    ("center", text::center),
    ("count", sequence::length),
    ("d", sequence::default),
    ("default", sequence::default),
    ("dictsort", order::dictsort),
    ("e", text::escape),
    ("escape", text::escape),
    ("first", sequence::first),
    ("float", number::float),
    ("forceescape", text::escape),
    ("format", text::format),
    ("groupby", order::groupby),
    ("indent", text::indent),
    ("int", number::int),
    ("items", sequence::items),
    ("join", text::join),
    ("last", sequence::last),
    ("length", sequence::length),
    ("list", sequence::list),
    ("lower", text::lower),
    ("map", sequence::map),
    ("max", order::max),
    ("min", order::min),
    ("reject", sequence::reject),
    ("rejectattr", sequence::rejectattr),
    ("replace", text::replace),
    ("reverse", sequence::reverse),
    ("round", number::round),
    ("safe", text::string),
    ("select", sequence::select),
    ("selectattr", sequence::selectattr),
    ("slice", sequence::slice),
    ("sort", order::sort),
    ("string", text::string),
    ("striptags", text::striptags),
    ("sum", number::sum),
    ("title", text::title),
    ("tojson", json::tojson),
    ("trim", text::trim),
    ("truncate", text::truncate),
    ("unique", order::unique),
    ("upper", text::upper),
    ("urlencode", text::urlencode),
    ("wordcount", text::wordcount),
    ("wordwrap", text::wordwrap),
];

/// `value|name(args)`
pub(super) fn apply(this: &mut Interpreter, name: &str, value: Value, args: Args) -> Result<Value> {
    match FILTERS.iter().find(|(found, _)| *found == name) {
        Some((_, filter)) => filter(this, value, args),
        None => Err(Problem::new(format!("No filter named '{name}'."))),
    }
}

/// Whether there is a filter of this name.
pub(super) fn is_known(name: &str) -> bool {
    FILTERS.iter().any(|(found, _)| *found == name)
}

/// A text argument, or `default`.
fn text_or(this: &Interpreter, value: Option<Value>, who: &str, default: &str) -> Result<Text> {
    match value {
        Some(Value::Text(text)) => Ok(text),
        None | Some(Value::None) => Text::new(&this.meter, default, Origin::Own),
        Some(other) => {
            other.defined()?;
            Err(Problem::new(format!("{who} needs a string, not a '{}'", other.type_name())))
        }
    }
}

/// A count argument, or `default`.
fn count_or(value: Option<Value>, who: &str, default: usize) -> Result<usize> {
    let Some(value) = value else { return Ok(default) };
    value.defined()?;
    match value.as_int() {
        Some(number) => Ok(usize::try_from(number.max(0)).unwrap_or(usize::MAX)),
        None => Err(Problem::new(format!("{who} needs a whole number, not a '{}'", value.type_name()))),
    }
}
