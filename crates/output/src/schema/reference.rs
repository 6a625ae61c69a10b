//! `$ref` within a schema: JSON pointers and anchors.

use serde_json::Value;

/// Follows a reference; gives the pointer that it stands for, without escapes of URIs, and the schema there.
///
/// # Errors
/// Says why there is none.
pub(super) fn resolved<'a>(root: &'a Value, reference: &str) -> Result<(String, &'a Value), String> {
    let own = root.get("$id").and_then(Value::as_str).map(|id| id.trim_end_matches('#'));
    let fragment = match reference.strip_prefix(own.unwrap_or_default()).unwrap_or(reference) {
        "" => "",
        rest => rest.strip_prefix('#').ok_or("only references within the schema (`#…`) can be followed")?,
    };
    let pointer = unescaped(fragment).ok_or("its escapes (`%…`) are no UTF-8")?;
    if pointer.is_empty() {
        return Ok((pointer, root));
    }
    if !pointer.starts_with('/') {
        let mut found = Vec::new();
        anchors(root, &pointer, &mut found);
        return match found.as_slice() {
            [schema] => Ok((format!("#{pointer}"), schema)),
            [] => Err("there is no such anchor".to_string()),
            _ => Err("there are several such anchors".to_string()),
        };
    }
    let schema = root.pointer(&pointer).ok_or("there is nothing")?;
    Ok((pointer, schema))
}

/// Decodes `%41`.
fn unescaped(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte == b'%' {
            let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &rest[2..];
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

/// All schemas with an anchor of this name.
fn anchors<'a>(value: &'a Value, name: &str, found: &mut Vec<&'a Value>) {
    match value {
        Value::Object(fields) => {
            let is = |key: &str| fields.get(key).and_then(Value::as_str).is_some_and(|anchor| anchor == name);
            if is("$anchor") || is("$dynamicAnchor") {
                found.push(value);
            }
            fields
                .iter()
                .filter(|(key, _)| !holds_values(key))
                .for_each(|(_, field)| anchors(field, name, found));
        }
        Value::Array(items) => items.iter().for_each(|item| anchors(item, name, found)),
        _ => {}
    }
}

/// Whether a keyword holds values and no schemas.
pub(super) fn holds_values(keyword: &str) -> bool {
    matches!(keyword, "enum" | "const" | "default" | "examples" | "example")
}

/// Whether any schema below the root says where it lies (`$id`), so that references in it would lead elsewhere.
pub(super) fn has_inner_id(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.iter().filter(|(key, _)| !holds_values(key)).any(|(_, field)| {
            let named = field.as_object().is_some_and(|fields| {
                ["$id", "id"].iter().any(|key| fields.get(*key).is_some_and(Value::is_string))
            });
            named || has_inner_id(field)
        }),
        Value::Array(items) => {
            items.iter().any(|item| item.get("$id").is_some_and(Value::is_string) || has_inner_id(item))
        }
        _ => false,
    }
}
