//! Filters of text.

use super::super::super::limits::{Problem, Result};
use super::super::super::python::{self, Args, call_method, iterate, percent, push_str, strip, to_text};
use super::super::super::text::{Builder, Origin, Text};
use super::super::super::value::Value;
use super::super::Interpreter;
use super::{attribute_path, count_or, text_or};

/// The text of the value, with a method of `str`.
fn method(this: &Interpreter, value: &Value, name: &str, positional: Vec<Value>) -> Result<Value> {
    let text = Value::Text(to_text(&this.meter, value)?);
    call_method(&this.meter, &text, name, Args { positional, named: Vec::new() })
}

pub(super) fn string(this: &mut Interpreter, value: Value, args: Args) -> Result<Value> {
    let [] = args.bind("string", [])?;
    to_text(&this.meter, &value).map(Value::Text)
}

pub(super) fn lower(this: &mut Interpreter, value: Value, _: Args) -> Result<Value> {
    method(this, &value, "lower", Vec::new())
}

pub(super) fn upper(this: &mut Interpreter, value: Value, _: Args) -> Result<Value> {
    method(this, &value, "upper", Vec::new())
}

pub(super) fn capitalize(this: &mut Interpreter, value: Value, _: Args) -> Result<Value> {
    method(this, &value, "capitalize", Vec::new())
}

/// `text.upper()` or `text.lower()`
pub(in super::super) fn cased(text: &Text, is_upper: bool) -> Result<Text> {
    let name = if is_upper { "upper" } else { "lower" };
    match call_method(text.meter(), &Value::Text(text.clone()), name, Args::default())? {
        Value::Text(text) => Ok(text),
        other => to_text(text.meter(), &other),
    }
}

pub(super) fn title(this: &mut Interpreter, value: Value, _: Args) -> Result<Value> {
    let text = to_text(&this.meter, &value)?;
    let separates = |c: char| python::is_space(c) || matches!(c, '-' | '(' | '{' | '[' | '<');
    python::title(&text, separates).map(Value::Text)
}

pub(super) fn center(this: &mut Interpreter, value: Value, args: Args) -> Result<Value> {
    let [width] = args.bind("center", ["width"])?;
    let width = count_or(width, "center", 80)?;
    method(this, &value, "center", vec![Value::int(width)])
}

pub(super) fn trim(this: &mut Interpreter, value: Value, args: Args) -> Result<Value> {
    let [chars] = args.bind("trim", ["chars"])?;
    let text = to_text(&this.meter, &value)?;
    let chars = match chars {
        None | Some(Value::None) => None,
        some => Some(text_or(this, some, "trim", "")?),
    };
    strip(&text, chars.as_ref().map(Text::as_str), true, true).map(Value::Text)
}

pub(super) fn replace(this: &mut Interpreter, value: Value, args: Args) -> Result<Value> {
    let [old, new, count] = args.bind("replace", ["old", "new", "count"])?;
    let (Some(old), Some(new)) = (old, new) else { return Err(Problem::new("replace needs two strings")) };
    let (old, new) = (to_text(&this.meter, &old)?, to_text(&this.meter, &new)?);
    let mut positional = vec![Value::Text(old), Value::Text(new)];
    positional.extend(count.filter(|count| !matches!(count, Value::None)));
    method(this, &value, "replace", positional)
}

/// `format|format(values)` is `format % values`.
pub(super) fn format(this: &mut Interpreter, value: Value, args: Args) -> Result<Value> {
    let text = to_text(&this.meter, &value)?;
    let values = if args.named.is_empty() {
        Value::tuple(&this.meter, args.positional)?
    } else if args.positional.is_empty() {
        let mut entries = Vec::new();
        for (name, value) in args.named {
            entries.push((this.own_text(&name)?, value));
        }
        Value::dict(&this.meter, entries)?
    } else {
        return Err(Problem::new("can't handle positional and keyword arguments at the same time"));
    };
    percent(&text, &values).map(Value::Text)
}

pub(super) fn join(this: &mut Interpreter, value: Value, args: Args) -> Result<Value> {
    let [separator, attribute] = args.bind("join", ["d", "attribute"])?;
    let separator = to_text(&this.meter, &separator.unwrap_or(this.own_text("")?))?;
    let items = iterate(&this.meter, &value)?;
    let mut out = Builder::new(&this.meter)?;
    for (i, item) in items.values.iter().enumerate() {
        if i > 0 {
            out.push_text(&separator)?;
        }
        match &attribute {
            Some(attribute) => push_str(&mut out, &attribute_path(this, item, attribute)?)?,
            None => push_str(&mut out, item)?,
        }
    }
    Ok(Value::Text(out.finish()))
}

/// Characters with a meaning in HTML as entities.
pub(super) fn escape(this: &mut Interpreter, value: Value, _: Args) -> Result<Value> {
    let text = to_text(&this.meter, &value)?;
    let escaped = text.map(|c, out| match c {
        '&' => "&amp;".chars().for_each(out),
        '<' => "&lt;".chars().for_each(out),
        '>' => "&gt;".chars().for_each(out),
        '"' => "&#34;".chars().for_each(out),
        '\'' => "&#39;".chars().for_each(out),
        c => out(c),
    });
    escaped.map(Value::Text)
}

/// `indent(width=4, first=False, blank=False)`
pub(super) fn indent(this: &mut Interpreter, value: Value, args: Args) -> Result<Value> {
    let [width, first, blank] = args.bind("indent", ["width", "first", "blank"])?;
    let mut indention = Builder::new(&this.meter)?;
    match width {
        Some(Value::Text(text)) => indention.push_text(&text)?,
        width => indention.pad(&Text::new(&this.meter, " ", Origin::Own)?, count_or(width, "indent", 4)?)?,
    }
    let indention = indention.finish();
    let is_set = |flag: Option<Value>| flag.is_some_and(|flag| flag.is_true());
    let (first, blank) = (is_set(first), is_set(blank));
    let text = to_text(&this.meter, &value)?;
    let mut out = Builder::new(&this.meter)?;
    let mut at = 0;
    for (i, line) in text.as_str().split('\n').enumerate() {
        if i > 0 {
            out.push_slice(&text, at..at + 1)?;
            at += 1;
        }
        let is_indented = if i == 0 { first } else { blank || !line.is_empty() };
        if is_indented {
            out.push_text(&indention)?;
        }
        out.push_slice(&text, at..at + line.len())?;
        at += line.len();
    }
    Ok(Value::Text(out.finish()))
}

/// `truncate(length=255, killwords=False, end='...', leeway=5)`
pub(super) fn truncate(this: &mut Interpreter, value: Value, args: Args) -> Result<Value> {
    let [length, killwords, end, leeway] = args.bind("truncate", ["length", "killwords", "end", "leeway"])?;
    let (length, leeway) = (count_or(length, "truncate", 255)?, count_or(leeway, "truncate", 5)?);
    let end = text_or(this, end, "truncate", "...")?;
    let text = to_text(&this.meter, &value)?;
    if python::length(&this.meter, &Value::Text(text.clone()))? <= length.saturating_add(leeway) {
        return Ok(Value::Text(text));
    }
    let end_length = python::length(&this.meter, &Value::Text(end.clone()))?;
    let kept = python::byte_of_char(&text, length.saturating_sub(end_length))?;
    let kept = if killwords.is_some_and(|flag| flag.is_true()) {
        kept
    } else {
        text.as_str()[..kept].rfind(' ').unwrap_or(kept)
    };
    let mut out = Builder::new(&this.meter)?;
    out.push_slice(&text, 0..kept)?;
    out.push_text(&end)?;
    Ok(Value::Text(out.finish()))
}

/// Without tags and comments of SGML, and with single spaces.
pub(super) fn striptags(this: &mut Interpreter, value: Value, _: Args) -> Result<Value> {
    let text = to_text(&this.meter, &value)?;
    let mut out = Builder::new(&this.meter)?;
    let whole = text.as_str();
    let mut at = 0;
    while let Some(found) = whole[at..].find('<') {
        let start = at + found;
        let closing = if whole[start..].starts_with("<!--") { "-->" } else { ">" };
        let Some(length) = whole[start..].find(closing) else { break };
        out.push_slice(&text, at..start)?;
        at = start + length + closing.len();
    }
    out.push_slice(&text, at..whole.len())?;
    let words = method(this, &Value::Text(out.finish()), "split", Vec::new())?;
    let space = this.own_text(" ")?;
    call_method(&this.meter, &space, "join", Args { positional: vec![words], named: Vec::new() })
}

pub(super) fn wordcount(this: &mut Interpreter, value: Value, _: Args) -> Result<Value> {
    let text = to_text(&this.meter, &value)?;
    this.meter.text(text.len())?;
    let words = text.as_str().split(|c: char| !c.is_alphanumeric() && c != '_');
    Ok(Value::int(words.filter(|word| !word.is_empty()).count()))
}

/// `wordwrap(width=79, break_long_words=True)`: lines of whole words, as long as fits.
pub(super) fn wordwrap(this: &mut Interpreter, value: Value, args: Args) -> Result<Value> {
    let [width, breaks] = args.bind("wordwrap", ["width", "break_long_words"])?;
    let width = count_or(width, "wordwrap", 79)?.max(1);
    let breaks = breaks.is_none_or(|flag| flag.is_true());
    let text = to_text(&this.meter, &value)?;
    let mut out = Builder::new(&this.meter)?;
    let mut at = 0;
    for (i, line) in text.as_str().split('\n').enumerate() {
        if i > 0 {
            out.push_own("\n")?;
            at += 1;
        }
        let mut column = 0;
        let mut line_at = at;
        for word in line.split(' ').filter(|word| !word.is_empty()) {
            let start = at + (word.as_ptr() as usize - line.as_ptr() as usize);
            let n = word.chars().count();
            if column > 0 && column + 1 + n > width {
                out.push_own("\n")?;
                column = 0;
            } else if column > 0 {
                out.push_own(" ")?;
                column += 1;
            }
            for (offset, c) in word.char_indices() {
                if breaks && column == width {
                    out.push_own("\n")?;
                    column = 0;
                }
                out.push_slice(&text, start + offset..start + offset + c.len_utf8())?;
                column += 1;
            }
            line_at = start + word.len();
        }
        debug_assert!(line_at <= at + line.len());
        at += line.len();
    }
    Ok(Value::Text(out.finish()))
}

/// Bytes that are neither letters, digits nor `_.-~/` as `%XX`.
pub(super) fn urlencode(this: &mut Interpreter, value: Value, _: Args) -> Result<Value> {
    let text = to_text(&this.meter, &value)?;
    let encoded = text.map(|c, out| {
        if c.is_ascii_alphanumeric() || "_.-~/".contains(c) {
            return out(c);
        }
        for byte in c.encode_utf8(&mut [0; 4]).bytes() {
            format!("%{byte:02X}").chars().for_each(&mut *out);
        }
    });
    encoded.map(Value::Text)
}
