//! `str` and `repr`.

use std::rc::Rc;
use std::sync::LazyLock;

use regex_automata::meta::Regex;

use super::super::limits::{Meter, Result};
use super::super::text::{Builder, Origin, Text};
use super::super::value::Value;
use super::float_repr;

/// `str(value)`
pub(in super::super) fn to_text(meter: &Rc<Meter>, value: &Value) -> Result<Text> {
    if let Value::Text(text) = value {
        return Ok(text.clone());
    }
    let mut out = Builder::new(meter)?;
    push_str(&mut out, value)?;
    Ok(out.finish())
}

/// `repr(value)`
pub(in super::super) fn repr(meter: &Rc<Meter>, value: &Value) -> Result<Text> {
    let mut out = Builder::new(meter)?;
    push_repr(&mut out, value)?;
    Ok(out.finish())
}

/// Appends `str(value)`.
pub(in super::super) fn push_str(out: &mut Builder, value: &Value) -> Result<()> {
    match value {
        Value::Text(text) => out.push_text(text),
        Value::Undefined(_) => Ok(()),
        other => push_repr(out, other),
    }
}

fn push_repr(out: &mut Builder, value: &Value) -> Result<()> {
    out.meter().steps(1)?;
    match value {
        Value::Undefined(_) => out.push_own("Undefined"),
        Value::None => out.push_own("None"),
        Value::Bool(flag) => out.push_own(if *flag { "True" } else { "False" }),
        Value::Int(number, origin) => out.push(&number.to_string(), *origin),
        Value::Float(number, origin) => out.push(&float_repr(*number), *origin),
        Value::Text(text) => push_quoted(out, text),
        Value::List(items) => push_items(out, "[", &items.values, "]"),
        Value::Tuple(items) => {
            push_items(out, "(", &items.values, if items.values.len() == 1 { ",)" } else { ")" })
        }
        Value::Dict(dict) => {
            out.push_own("{")?;
            for (i, (key, value)) in dict.entries().iter().enumerate() {
                out.push_own(if i > 0 { ", " } else { "" })?;
                push_repr(out, key)?;
                out.push_own(": ")?;
                push_repr(out, value)?;
            }
            out.push_own("}")
        }
        Value::Macro(found) => out.push_own(&format!("<Macro {:?}>", found.definition.name)),
        Value::Function(name) => out.push_own(&format!("<function {name}>")),
        other => out.push_own(&format!("<{} object>", other.type_name())),
    }
}

fn push_items(out: &mut Builder, open: &str, items: &[Value], close: &str) -> Result<()> {
    out.push_own(open)?;
    for (i, item) in items.iter().enumerate() {
        out.push_own(if i > 0 { ", " } else { "" })?;
        push_repr(out, item)?;
    }
    out.push_own(close)
}

/// A string in quotes: single ones, unless it has such and no double ones.
fn push_quoted(out: &mut Builder, text: &Text) -> Result<()> {
    let quote = if text.as_str().contains('\'') && !text.as_str().contains('"') { '"' } else { '\'' };
    out.push_char(quote, Origin::Own)?;
    for (c, origin) in text.chars() {
        match c {
            '\n' => out.push("\\n", origin)?,
            '\r' => out.push("\\r", origin)?,
            '\t' => out.push("\\t", origin)?,
            '\\' => out.push("\\\\", origin)?,
            c if c == quote => {
                out.push_char('\\', origin)?;
                out.push_char(c, origin)?;
            }
            ' '..='~' => out.push_char(c, origin)?,
            c if is_printable(c) => out.push_char(c, origin)?,
            c => {
                let code = u32::from(c);
                let escape = match code {
                    0..=0xff => format!("\\x{code:02x}"),
                    0x100..=0xffff => format!("\\u{code:04x}"),
                    _ => format!("\\U{code:08x}"),
                };
                out.push(&escape, origin)?;
            }
        }
    }
    out.push_char(quote, Origin::Own)
}

/// Neither control, format, private, unassigned nor a separator other than the space.
fn is_printable(c: char) -> bool {
    static OTHER: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"[\p{C}\p{Z}]").expect("the pattern of this crate compiles"));
    c == ' ' || !OTHER.is_match(c.encode_utf8(&mut [0; 4]).as_bytes())
}
