//! `tojson` as Python's `json.dumps` writes it.
//!
//! transformers replaces Jinja's filter, which escapes `<`, `>`, `&` and `'` for HTML. What differs from other JSON
//! writers is visible to the model: a space after `,` and `:`, the spelling of floats (`1e-05`), order of keys as given.

use super::super::super::compare::compare;
use super::super::super::limits::{Problem, Result};
use super::super::super::python::{Args, float_repr, iterate, to_text};
use super::super::super::text::{Builder, Origin, Text};
use super::super::super::value::Value;
use super::super::Interpreter;

/// `tojson(ensure_ascii=False, indent=None, separators=None, sort_keys=False)`
pub(super) fn tojson(this: &mut Interpreter, value: Value, args: Args) -> Result<Value> {
    let [ascii, indent, separators, sort] =
        args.bind("tojson", ["ensure_ascii", "indent", "separators", "sort_keys"])?;
    let indent = match indent {
        None | Some(Value::None | Value::Undefined(_)) => None,
        Some(Value::Text(text)) => Some(text.as_str().to_string()),
        Some(other) => match other.as_int() {
            Some(n @ ..=64) => Some(" ".repeat(usize::try_from(n).unwrap_or(0))),
            _ => return Err(Problem::new("tojson indents by 64 spaces at most")),
        },
    };
    let (mut comma, mut colon) = (if indent.is_some() { "," } else { ", " }.to_string(), ": ".to_string());
    if let Some(separators) = separators.filter(|value| !matches!(value, Value::None)) {
        let pair = iterate(&this.meter, &separators)?;
        let [first, second] = pair.values.as_slice() else {
            return Err(Problem::new(format!("tojson needs two separators, not {}", pair.values.len())));
        };
        comma = to_text(&this.meter, first)?.as_str().to_string();
        colon = to_text(&this.meter, second)?.as_str().to_string();
    }
    let is_set = |flag: Option<Value>| flag.is_some_and(|flag| flag.is_true());
    let out = Builder::new(&this.meter)?;
    let mut writer = Writer { out, indent, comma, colon, ascii: is_set(ascii), sort: is_set(sort) };
    writer.value(&value, 0)?;
    Ok(Value::Text(writer.out.finish()))
}

struct Writer {
    out: Builder,
    indent: Option<String>,
    comma: String,
    colon: String,
    ascii: bool,
    sort: bool,
}

impl Writer {
    fn value(&mut self, value: &Value, depth: usize) -> Result<()> {
        self.out.meter().steps(1)?;
        match value {
            Value::None => self.out.push_own("null"),
            Value::Bool(flag) => self.out.push_own(if *flag { "true" } else { "false" }),
            Value::Int(number, origin) => self.out.push(&number.to_string(), *origin),
            Value::Float(number, origin) => self.out.push(&float(*number), *origin),
            Value::Text(text) => self.text(text),
            Value::List(items) | Value::Tuple(items) => {
                self.out.push_own("[")?;
                for (i, item) in items.values.iter().enumerate() {
                    self.before_item(i, depth + 1)?;
                    self.value(item, depth + 1)?;
                }
                self.after_items(items.values.len(), depth)?;
                self.out.push_own("]")
            }
            Value::Dict(dict) => {
                let mut entries: Vec<&(Value, Value)> = dict.entries().iter().collect();
                if self.sort {
                    let meter = self.out.meter().clone();
                    let mut result = Ok(());
                    entries.sort_by(|a, b| {
                        let ordering = compare(&meter, &a.0, &b.0, "<");
                        ordering
                            .unwrap_or_else(|problem| {
                                result = Err(problem);
                                None
                            })
                            .unwrap_or(std::cmp::Ordering::Equal)
                    });
                    result?;
                }
                self.out.push_own("{")?;
                for (i, (key, value)) in entries.into_iter().enumerate() {
                    self.before_item(i, depth + 1)?;
                    self.key(key)?;
                    let colon = self.colon.clone();
                    self.out.push_own(&colon)?;
                    self.value(value, depth + 1)?;
                }
                self.after_items(dict.entries().len(), depth)?;
                self.out.push_own("}")
            }
            other => other.defined().and(Err(Problem::new(format!(
                "Object of type {} is not JSON serializable",
                other.type_name()
            )))),
        }
    }

    fn key(&mut self, key: &Value) -> Result<()> {
        if let Value::Text(text) = key {
            return self.text(text);
        }
        self.out.push_own("\"")?;
        match key {
            Value::None | Value::Bool(_) | Value::Int(..) | Value::Float(..) => self.value(key, 0)?,
            other => {
                let kind = other.type_name();
                let problem = format!("keys must be str, int, float, bool or None, not {kind}");
                return Err(Problem::new(problem));
            }
        }
        self.out.push_own("\"")
    }

    fn before_item(&mut self, index: usize, depth: usize) -> Result<()> {
        if index > 0 {
            let comma = self.comma.clone();
            self.out.push_own(&comma)?;
        }
        self.new_line(depth)
    }

    fn after_items(&mut self, n_items: usize, depth: usize) -> Result<()> {
        if n_items > 0 { self.new_line(depth) } else { Ok(()) }
    }

    fn new_line(&mut self, depth: usize) -> Result<()> {
        let Some(indent) = self.indent.clone() else { return Ok(()) };
        self.out.push_own("\n")?;
        for _ in 0..depth {
            self.out.push_own(&indent)?;
        }
        Ok(())
    }

    fn text(&mut self, text: &Text) -> Result<()> {
        self.out.push_char('"', Origin::Own)?;
        for (c, origin) in text.chars() {
            match c {
                '"' => self.out.push("\\\"", origin)?,
                '\\' => self.out.push("\\\\", origin)?,
                '\n' => self.out.push("\\n", origin)?,
                '\r' => self.out.push("\\r", origin)?,
                '\t' => self.out.push("\\t", origin)?,
                '\u{8}' => self.out.push("\\b", origin)?,
                '\u{c}' => self.out.push("\\f", origin)?,
                '\0'..='\u{1f}' => self.out.push(&format!("\\u{:04x}", u32::from(c)), origin)?,
                '\u{7f}'.. if self.ascii => {
                    for &mut unit in c.encode_utf16(&mut [0; 2]) {
                        self.out.push(&format!("\\u{unit:04x}"), origin)?;
                    }
                }
                _ => self.out.push_char(c, origin)?,
            }
        }
        self.out.push_char('"', Origin::Own)
    }
}

/// Python's JSON has names for what is no number.
fn float(x: f64) -> String {
    if x.is_nan() {
        return "NaN".to_string();
    }
    if x.is_infinite() {
        return if x > 0.0 { "Infinity" } else { "-Infinity" }.to_string();
    }
    float_repr(x)
}
