//! JSON schemas, before they are compiled: what is enforced, and the errors for what is not.
//!
//! The compiler of grammars enforces a part of JSON Schema, ignores another part and refuses a third. Here a schema is
//! checked and rewritten into the part that it enforces for certain, so that an answer that was allowed is valid. A
//! keyword outside of that part is an error that names it and its place.
//!
//! | keywords | |
//! | --- | --- |
//! | `type` `enum` `const` | enforced |
//! | `minimum` `maximum` `exclusiveMinimum` `exclusiveMaximum` `multipleOf` | enforced up to 2^53 |
//! | `minLength` `maxLength` `pattern` | enforced; a pattern without look-around, back-references and `\b` |
//! | `format` | enforced: [`FORMATS`](format::FORMATS); any other is an error |
//! | `properties` `required` `additionalProperties` `patternProperties` | enforced; patterns that share no name |
//! | `minProperties` `maxProperties` | enforced where the names are all required, or at most one more is asked for |
//! | `items` `prefixItems` `additionalItems` `minItems` `maxItems` | enforced |
//! | `allOf` `anyOf` `$ref` `$defs` `definitions` | enforced; references within the schema |
//! | `oneOf` | enforced if no two of its schemas can hold at once: by type, by value, by a property such as `kind` |
//! | `title` `description` `default` `examples` …, `x-…` | they say nothing about the answer |
//! | `uniqueItems` `contains` `not` `if` `propertyNames` `dependentRequired` `unevaluatedProperties` `$dynamicRef` …, unknown ones | errors |
//!
//! An answer may be narrower than the schema: properties come in the order of the schema, an integer is written without
//! a fraction, strings have no `\u` escapes, and formats are enforced in their usual form.

mod exclusive;
mod format;
mod keywords;
mod numbers;
mod pattern;
mod problem;
mod property_counts;
mod reference;
mod rewrite;

use serde_json::{Value, json};

use crate::error::ConstraintError;
use crate::limits::Limits;

pub(crate) use pattern::group_depth;

/// White space between the parts of a JSON text is bounded: a model that likes it would never stop.
const WHITE_SPACE: &str = r"[\x20\x0A\x0D\x09]{1,80}";
/// Every other character stands for itself. With `\u` a name could be spelled in two ways, and pass as another one.
const ESCAPES: &str = r#"nrbtf\""#;

/// The schema as it can be compiled.
///
/// # Errors
/// A keyword that cannot be enforced, a schema that is none, a limit.
pub(crate) fn prepared(schema: &Value, limits: &Limits) -> Result<Value, ConstraintError> {
    rewrite::Rewriter::new(schema, limits)?.finish(false)
}

/// The same, for a schema whose instances have to be objects.
pub(crate) fn prepared_object(schema: &Value, limits: &Limits) -> Result<Value, ConstraintError> {
    rewrite::Rewriter::new(schema, limits)?.finish(true)
}

/// Whether all instances of a schema are texts: its type says so, or all of its values.
pub(crate) fn is_text(root: &Value, schema: &Value) -> bool {
    let mut schema = schema;
    for _ in 0..8 {
        let target =
            schema.get("$ref").and_then(Value::as_str).and_then(|text| reference::resolved(root, text).ok());
        let Some((_, target)) = target else { break };
        schema = target;
    }
    let values = schema.get("enum").and_then(Value::as_array);
    match schema.get("type") {
        Some(kind) => kind == "string",
        None => values.is_some_and(|values| !values.is_empty() && values.iter().all(Value::is_string)),
    }
}

/// Any JSON object.
pub(crate) fn any_object() -> Value {
    with_options(json!({"type": "object"}))
}

/// A prepared schema with what the compiler should know besides.
fn with_options(mut schema: Value) -> Value {
    schema["x-guidance"] = json!({"whitespace_pattern": WHITE_SPACE, "json_allowed_escapes": ESCAPES});
    schema
}

#[cfg(test)]
mod tests;
