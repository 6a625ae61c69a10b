//! Errors of schemas, and what they show of one.

use serde_json::Value;

use crate::error::ConstraintError;

pub(super) fn list<'v>(value: &'v Value, at: &str) -> Result<&'v Vec<Value>, ConstraintError> {
    value
        .as_array()
        .filter(|items| !items.is_empty())
        .ok_or_else(|| bad(at, "it is no list, or an empty one"))
}

pub(super) fn bad(path: &str, problem: &str) -> ConstraintError {
    ConstraintError::BadSchema { path: path.to_string(), problem: problem.to_string() }
}

pub(super) fn not_enforced(keyword: &str, path: &str, why: &str) -> ConstraintError {
    ConstraintError::NotEnforced {
        keyword: keyword.to_string(),
        path: path.to_string(),
        why: why.to_string(),
    }
}

/// A name as a part of a JSON pointer.
pub(super) fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// The beginning of a value, for errors.
pub(super) fn shortened(value: &Value) -> String {
    let text = value.to_string();
    let mut shortened: String = text.chars().take(40).collect();
    if shortened.len() < text.len() {
        shortened.push('…');
    }
    shortened
}

/// How many arrays and objects lie within each other, counted up to one more than `most`.
pub(super) fn levels(value: &Value, most: usize) -> usize {
    let mut deepest = 0;
    let mut waiting = vec![(value, 1)];
    while let Some((value, level)) = waiting.pop() {
        deepest = deepest.max(level);
        if level > most {
            break;
        }
        match value {
            Value::Array(items) => waiting.extend(items.iter().map(|item| (item, level + 1))),
            Value::Object(fields) => waiting.extend(fields.values().map(|field| (field, level + 1))),
            _ => {}
        }
    }
    deepest
}
