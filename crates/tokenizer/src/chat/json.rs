//! `tojson` as Python's `json.dumps` writes it.
//!
//! transformers replaces Jinja's filter, which escapes `<`, `>`, `&` and `'` for HTML. What differs from other JSON
//! writers is visible to the model: a space after `,` and `:`, the spelling of floats (`1e-05`), order of keys as given.

use std::fmt::Write;

use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Error, ErrorKind};

/// The filter `tojson(ensure_ascii=False, indent=None, separators=None, sort_keys=False)`.
pub(super) fn tojson(value: &Value, options: Kwargs) -> Result<Value, Error> {
    let indent: Option<Value> = options.get("indent")?;
    let separators: Option<Value> = options.get("separators")?;
    let indent = match indent {
        Some(indent) if indent.is_none() || indent.is_undefined() => None,
        Some(indent) if indent.kind() == ValueKind::String => Some(indent.to_string()),
        Some(indent) => match usize::try_from(indent.clone()) {
            Ok(n) if n <= 64 => Some(" ".repeat(n)),
            _ => return Err(invalid(format!("tojson cannot indent by {indent}"))),
        },
        None => None,
    };
    let (mut comma, mut colon) = (if indent.is_some() { "," } else { ", " }.to_string(), ": ".to_string());
    if let Some(separators) = separators.filter(|value| !value.is_none()) {
        let pair: Vec<String> = separators.try_iter()?.map(|text| text.to_string()).collect();
        let Ok([first, second]) = <[String; 2]>::try_from(pair) else {
            return Err(invalid(format!("tojson needs two separators, not {separators}")));
        };
        (comma, colon) = (first, second);
    }
    let mut writer = Writer {
        out: String::new(),
        indent,
        comma,
        colon,
        ascii: options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        sort: options.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
    };
    options.assert_all_used()?;
    writer.value(value, 0)?;
    Ok(Value::from_safe_string(writer.out))
}

fn invalid(problem: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, problem)
}

struct Writer {
    out: String,
    indent: Option<String>,
    comma: String,
    colon: String,
    ascii: bool,
    sort: bool,
}

/// Deeper nesting than any message has; deeper than Python goes as well.
const MAX_DEPTH: usize = 200;

impl Writer {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(invalid(format!("tojson: a value nested deeper than {MAX_DEPTH}")));
        }
        match value.kind() {
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self.out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.out.push_str(&number(value)),
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Vec<Value> = value.try_iter()?.collect();
                self.out.push('[');
                for (i, item) in items.iter().enumerate() {
                    self.before_item(i, depth + 1);
                    self.value(item, depth + 1)?;
                }
                self.after_items(items.len(), depth);
                self.out.push(']');
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sort {
                    keys.sort();
                }
                self.out.push('{');
                for (i, key) in keys.iter().enumerate() {
                    self.before_item(i, depth + 1);
                    match key.kind() {
                        ValueKind::String => self.string(key.as_str().unwrap_or_default()),
                        ValueKind::None => self.out.push_str("\"null\""),
                        ValueKind::Bool => write!(self.out, "\"{}\"", key.is_true())?,
                        ValueKind::Number => write!(self.out, "\"{}\"", number(key))?,
                        kind => return Err(invalid(format!("tojson: a key of kind {kind}"))),
                    }
                    self.out.push_str(&self.colon);
                    self.value(&value.get_item(key)?, depth + 1)?;
                }
                self.after_items(keys.len(), depth);
                self.out.push('}');
            }
            kind => return Err(invalid(format!("tojson: a value of kind {kind}"))),
        }
        Ok(())
    }

    fn before_item(&mut self, index: usize, depth: usize) {
        if index > 0 {
            self.out.push_str(&self.comma);
        }
        self.new_line(depth);
    }

    fn after_items(&mut self, n_items: usize, depth: usize) {
        if n_items > 0 {
            self.new_line(depth);
        }
    }

    fn new_line(&mut self, depth: usize) {
        if let Some(indent) = &self.indent {
            self.out.push('\n');
            for _ in 0..depth {
                self.out.push_str(indent);
            }
        }
    }

    fn string(&mut self, text: &str) {
        self.out.push('"');
        for character in text.chars() {
            match character {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                '\0'..='\u{1f}' => self.escape(character as u16),
                '\u{7f}'.. if self.ascii => {
                    for &mut unit in character.encode_utf16(&mut [0; 2]) {
                        self.escape(unit);
                    }
                }
                _ => self.out.push(character),
            }
        }
        self.out.push('"');
    }

    fn escape(&mut self, unit: u16) {
        self.out.push_str(&format!("\\u{unit:04x}"));
    }
}

/// A number as Python's `repr` spells it.
fn number(value: &Value) -> String {
    if value.is_integer() {
        return value.to_string();
    }
    match f64::try_from(value.clone()) {
        Ok(x) => float(x),
        Err(_) => value.to_string(),
    }
}

/// Shortest digits that give the same double; an exponent below 1e-4 and from 1e16.
fn float(x: f64) -> String {
    if x.is_nan() {
        return "NaN".to_string();
    }
    if x.is_infinite() {
        return if x > 0.0 { "Infinity" } else { "-Infinity" }.to_string();
    }
    let scientific = format!("{x:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    match exponent.parse::<i32>() {
        Ok(exponent) if x != 0.0 && !(-4..16).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.abs())
        }
        _ => format!("{x:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_spelled_as_python_does() {
        let spelled: Vec<String> =
            [1.0, -0.0, 0.1, 1e15, 1e16, 1.5e300, 0.0001, 0.00001, -2.5e-7, f64::INFINITY].map(float).into();
        let python = [
            "1.0",
            "-0.0",
            "0.1",
            "1000000000000000.0",
            "1e+16",
            "1.5e+300",
            "0.0001",
            "1e-05",
            "-2.5e-07",
            "Infinity",
        ];
        assert_eq!(spelled, python);
    }
}
