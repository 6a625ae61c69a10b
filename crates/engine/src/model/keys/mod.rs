//! What each key of a configuration means for the result: one row each, in [`hf`] and [`gguf`].
//!
//! A key is computed, or must have a value with which it changes nothing, or changes nothing whatever its value. A key
//! that has no row is not read, and is told to whoever loads the model: it may change what the model computes.

pub(super) mod gguf;
pub(super) mod hf;

use std::fmt;

use serde_json::Value;

/// What a key means for the result.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rule {
    /// the configuration's reader takes it into account
    Computed,
    /// with any other value the model computes something that this program does not
    Only(&'static [Plain]),
    /// why its value changes nothing
    #[allow(dead_code, reason = "said for the reader of a table")]
    Nothing(&'static str),
}

/// A row of a table: keys, and what they mean. `*` stands for the rest of a name.
pub(super) type Row = (&'static [&'static str], Rule);

/// The rule of a key.
pub(super) fn rule(table: &[Row], key: &str) -> Option<Rule> {
    let is_meant = |pattern: &&str| match pattern.split_once('*') {
        Some((start, _)) => key.starts_with(start),
        None => key == *pattern,
    };
    table.iter().find(|(keys, _)| keys.iter().any(is_meant)).map(|(_, rule)| *rule)
}

/// A value that a table names.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Plain {
    Bool(bool),
    Number(f64),
    Text(&'static str),
    /// `{}` or `[]`
    Empty,
}

const FALSE: &[Plain] = &[Plain::Bool(false)];
const TRUE: &[Plain] = &[Plain::Bool(true)];
/// a factor that changes nothing
const ONE: &[Plain] = &[Plain::Number(1.0)];
/// a number of things that are not there, or a limit that is none
const ZERO: &[Plain] = &[Plain::Number(0.0)];
/// for factors of which 0 means that there is none, as llama.cpp has it
const ONE_OR_ZERO: &[Plain] = &[Plain::Number(1.0), Plain::Number(0.0)];
/// no value changes nothing but absence
const ABSENT: &[Plain] = &[];

impl Plain {
    fn is(self, value: &Value) -> bool {
        match (self, value) {
            (Plain::Bool(wanted), Value::Bool(found)) => wanted == *found,
            (Plain::Number(wanted), Value::Number(found)) => found.as_f64() == Some(wanted),
            (Plain::Text(wanted), Value::String(found)) => wanted == found,
            (Plain::Text(wanted), Value::Array(found)) => {
                matches!(found.as_slice(), [Value::String(found)] if found == wanted)
            }
            (Plain::Empty, Value::Array(found)) => found.is_empty(),
            (Plain::Empty, Value::Object(found)) => found.is_empty(),
            _ => false,
        }
    }
}

impl fmt::Display for Plain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Plain::Bool(value) => write!(f, "{value}"),
            Plain::Number(value) => write!(f, "{value}"),
            Plain::Text(value) => write!(f, "\"{value}\""),
            Plain::Empty => write!(f, "empty"),
        }
    }
}

/// What a table says of a key and its value.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    /// it is computed, or changes nothing
    Fine,
    /// the model computes something that this program does not; the values that would do
    Refused(String),
    /// the table has no such key
    Unread,
}

/// What `table` says of a key. `null` is taken for absence, as transformers takes it.
pub(super) fn verdict(table: &[Row], key: &str, value: &Value) -> Verdict {
    match rule(table, key) {
        _ if value.is_null() => Verdict::Fine,
        None => Verdict::Unread,
        Some(Rule::Computed | Rule::Nothing(_)) => Verdict::Fine,
        Some(Rule::Only(values)) if values.iter().any(|wanted| wanted.is(value)) => Verdict::Fine,
        Some(Rule::Only(values)) => {
            Verdict::Refused(values.iter().map(Plain::to_string).collect::<Vec<_>>().join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const TABLE: &[Row] = &[
        (&["width"], Rule::Computed),
        (&["scale", "factor"], Rule::Only(ONE)),
        (&["style"], Rule::Only(&[Plain::Text("plain"), Plain::Empty])),
        (&["note.*"], Rule::Nothing("it is a note")),
    ];

    #[test]
    fn a_key_is_fine_refused_or_unread() {
        let verdict = |key: &str, value: Value| verdict(TABLE, key, &value);
        assert_eq!(verdict("width", json!("anything")), Verdict::Fine);
        assert_eq!(verdict("factor", json!(1)), Verdict::Fine);
        assert_eq!(verdict("scale", json!(1.0)), Verdict::Fine);
        assert_eq!(verdict("scale", json!(2)), Verdict::Refused("1".to_owned()));
        assert_eq!(verdict("scale", json!("1")), Verdict::Refused("1".to_owned()));
        assert_eq!(verdict("style", json!(["plain"])), Verdict::Fine);
        assert_eq!(verdict("style", json!([])), Verdict::Fine);
        assert_eq!(
            verdict("style", json!(["plain", "bold"])),
            Verdict::Refused("\"plain\", empty".to_owned())
        );
        assert_eq!(verdict("note.author", json!({})), Verdict::Fine);
        assert_eq!(verdict("notes", json!(1)), Verdict::Unread);
        assert_eq!(verdict("notes", Value::Null), Verdict::Fine);
    }

    #[test]
    fn no_key_has_two_rows() {
        for table in [hf::CONFIG, hf::ROPE, gguf::GENERAL, gguf::ARCHITECTURE] {
            let mut keys: Vec<&str> = table.iter().flat_map(|(keys, _)| keys.iter().copied()).collect();
            keys.sort_unstable();
            assert!(keys.windows(2).all(|pair| pair[0] != pair[1]), "{keys:?}");
        }
    }
}
