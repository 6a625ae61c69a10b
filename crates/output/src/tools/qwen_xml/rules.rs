//! The grammar of calls with parameters in tags.

use serde_json::{Value, json};

use super::{CLOSE, FUNCTION_END, PARAMETER, PARAMETER_END, is_text};
use crate::error::ConstraintError;
use crate::lark::{Rules, literal, marker};
use crate::tools::format::{CallGrammar, Callable};

/// A parameter that can be enforced.
pub(super) struct Parameter {
    name: String,
    required: bool,
    value: Kind,
}

/// What a value is.
enum Kind {
    Text,
    OneOf(Vec<String>),
    Json(Value),
}

/// The parameters of a tool.
///
/// # Errors
/// What about their schema has no place in this format.
pub(super) fn parameters(callable: &Callable) -> Result<Vec<Parameter>, ConstraintError> {
    let prepared = &callable.schema["allOf"][0];
    let fails = |keyword: &str, path: &str, why: &str| ConstraintError::NotEnforced {
        keyword: keyword.to_string(),
        path: path.to_string(),
        why: why.to_string(),
    };
    let known = ["type", "properties", "required", "additionalProperties"];
    let fields = prepared.as_object().into_iter().flatten();
    if let Some((other, _)) = fields.into_iter().find(|(keyword, _)| !known.contains(&keyword.as_str())) {
        return Err(fails(other, "", "parameters are written one by one"));
    }
    let required = prepared["required"].as_array().cloned().unwrap_or_default();
    let properties = prepared["properties"].as_object().cloned().unwrap_or_default();
    if let Some(missing) =
        required.iter().filter_map(Value::as_str).find(|name| !properties.contains_key(*name))
    {
        return Err(fails("required", "", &format!("there is no schema for {missing:?}")));
    }
    let mut parameters = Vec::new();
    for (name, schema) in properties {
        let path = format!("/properties/{name}");
        let value = match is_text(callable.tool, &name) {
            true => text(&callable.schema, &schema).map_err(|keyword| {
                fails(&keyword, &path, "a text is written without quotation marks, and not checked")
            })?,
            false => Kind::Json(json!({
                "allOf": [schema], "$defs": callable.schema["$defs"], "x-guidance": callable.schema["x-guidance"]
            })),
        };
        parameters.push(Parameter { required: required.contains(&Value::from(name.as_str())), name, value });
    }
    Ok(parameters)
}

/// What a parameter that is a text may be, or the keyword that cannot be enforced.
fn text(root: &Value, schema: &Value) -> Result<Kind, String> {
    let mut schema = schema;
    for _ in 0..8 {
        let target = schema.get("$ref").and_then(Value::as_str).and_then(|path| root.pointer(&path[1..]));
        let Some(target) = target else { break };
        schema = target;
    }
    let fields = schema.as_object().ok_or("properties")?;
    if let Some(other) = fields.keys().find(|keyword| !["type", "enum", "const"].contains(&keyword.as_str()))
    {
        return Err(other.clone());
    }
    let values = match (fields.get("const"), fields.get("enum")) {
        (Some(value), _) => vec![value.clone()],
        (None, Some(Value::Array(values))) => values.clone(),
        _ => return Ok(Kind::Text),
    };
    let texts: Vec<String> = values.iter().filter_map(Value::as_str).map(str::to_string).collect();
    let written_as_is =
        |text: &String| !text.contains(PARAMETER_END) && !text.starts_with('\n') && !text.ends_with('\n');
    match !texts.is_empty() && texts.iter().all(written_as_is) {
        true => Ok(Kind::OneOf(texts)),
        false => Err("enum".to_string()),
    }
}

/// Rules with `call`: what follows `<function=`.
pub(super) fn calls(grammar: &CallGrammar) -> Rules {
    let mut rules = Rules::default();
    let close = marker(grammar.vocabulary, CLOSE);
    rules.rule("call", &grammar.alternatives("call"));
    rules.rule("text[lazy]", &format!("/(?s:.*){}/", PARAMETER_END.replace('/', "\\/")));
    let end = format!("\"{FUNCTION_END}\\n\" {close}");
    for (i, callable) in grammar.callables.iter().enumerate() {
        let mut call = format!("{} ", literal(&format!("{}>\n", callable.tool.name)));
        match callable.enforced.then(|| parameters(callable)) {
            Some(Ok(parameters)) => {
                for (j, parameter) in parameters.iter().enumerate() {
                    let rule = format!("value_{i}_{j}");
                    let open = literal(&format!("{PARAMETER}{}>\n", parameter.name));
                    let optional = if parameter.required { "" } else { "?" };
                    call.push_str(&format!("({open} {rule} \"\\n\"){optional} "));
                    value(&mut rules, &rule, &parameter.value);
                }
            }
            _ => call.push_str(&format!("(\"{PARAMETER}\" /[^<>\\s]+/ \">\\n\" text \"\\n\")* ")),
        }
        rules.rule(&format!("call_{i}"), &(call + &end));
    }
    rules
}

fn value(rules: &mut Rules, name: &str, kind: &Kind) {
    let end = literal(&format!("\n{PARAMETER_END}"));
    match kind {
        Kind::Text => {
            rules.rule(name, "text");
        }
        Kind::OneOf(texts) => {
            let texts: Vec<String> = texts.iter().map(|text| literal(text)).collect();
            rules.rule(name, &format!("({}) {end}", texts.join(" | ")));
        }
        Kind::Json(schema) => {
            let json = format!("{name}_json");
            rules.rule(name, &format!("{json} {end}"));
            rules.json(&json, schema);
        }
    }
}
