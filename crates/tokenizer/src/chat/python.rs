//! Python's methods on values, as templates call them.

use minijinja::value::{Value, from_args};
use minijinja::{Error, State};

/// Calls a method of Python's `str`, `dict` or `list`.
///
/// # Errors
/// A method that is not known, or arguments that it does not take.
pub(super) fn method(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    match (name, value.as_str()) {
        // the crate's own knows fewer ends of lines than Python
        ("splitlines", Some(text)) => {
            let (keep_ends,): (Option<bool>,) = from_args(args)?;
            Ok(lines(text, keep_ends.unwrap_or(false)).into_iter().map(Value::from).collect())
        }
        _ => minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args),
    }
}

/// `str.splitlines`: `\r\n` is one end.
fn lines(text: &str, keep_ends: bool) -> Vec<&str> {
    const ENDS: &[char] =
        &['\n', '\r', '\u{b}', '\u{c}', '\u{1c}', '\u{1d}', '\u{1e}', '\u{85}', '\u{2028}', '\u{2029}'];
    let mut lines = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let Some((line, after)) = rest.split_once(ENDS) else {
            lines.push(rest);
            break;
        };
        let end = &rest[line.len()..rest.len() - after.len()];
        let after = if end == "\r" { after.strip_prefix('\n').unwrap_or(after) } else { after };
        lines.push(if keep_ends { &rest[..rest.len() - after.len()] } else { line });
        rest = after;
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_where_they_do_in_python() {
        assert_eq!(lines("a\r\nb\rc\n\nd\u{2028}", false), ["a", "b", "c", "", "d"]);
        assert_eq!(lines("a\r\nb\u{85}c", true), ["a\r\n", "b\u{85}", "c"]);
        assert!(lines("", false).is_empty());
        assert_eq!(lines("\n", false), [""]);
    }
}
