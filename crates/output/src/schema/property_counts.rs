//! `minProperties` and `maxProperties`.

use serde_json::{Map, Value};

use super::problem::not_enforced;
use crate::error::ConstraintError;

/// Checks `minProperties` and `maxProperties`, which can only be counted in some objects: a name that no schema names
/// may come twice, and then counts once.
pub(super) fn check_property_counts(out: &mut Map<String, Value>, path: &str) -> Result<(), ConstraintError> {
    let count = |keyword: &str| out.get(keyword).and_then(Value::as_u64);
    let (min, max) = (count("minProperties").unwrap_or(0), count("maxProperties"));
    let names = |keyword: &str| out.get(keyword).and_then(Value::as_array).cloned().unwrap_or_default();
    let mut required: Vec<String> =
        names("required").iter().filter_map(Value::as_str).map(str::to_string).collect();
    required.sort();
    required.dedup();
    let n_required = required.len() as u64;
    if min <= n_required {
        out.remove("minProperties");
    }
    let (min, max) = (min.saturating_sub(n_required), max.map(|max| max.saturating_sub(n_required)));
    if min == 0 && max.is_none() {
        return Ok(());
    }
    let named = out.get("properties").and_then(Value::as_object);
    let optional = named.is_some_and(|named| named.keys().any(|name| required.binary_search(name).is_err()));
    let closed = out.get("additionalProperties") == Some(&Value::Bool(false))
        && !out.contains_key("patternProperties");
    let counted = if optional { closed && min <= 1 && max.unwrap_or(1) == 1 } else { min <= 1 };
    if counted {
        return Ok(());
    }
    let keyword = if min > 0 { "minProperties" } else { "maxProperties" };
    Err(not_enforced(keyword, path, "properties are only counted where all that are named are required"))
}
