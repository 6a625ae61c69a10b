//! Tools of a request for a response as the functions of a conversation.

use std::collections::BTreeSet;

use lossy_output::{Tool, ToolChoice};
use serde_json::{Map, Value, json};

use crate::app::App;
use crate::conversation::{RequestTools, choice_of_name, choice_of_word};
use crate::error::ApiError;

/// The one argument of a custom tool.
const INPUT: &str = "input";

/// Reads `tools` and `tool_choice`; also says which tools are custom. Tools of other types are run by OpenAI's servers. They are
/// left out, which is noted.
///
/// # Errors
/// A tool without a name; a choice that is none.
pub fn read(
    app: &App,
    tools: &[Value],
    choice: Option<&Value>,
    parallel: bool,
) -> Result<(RequestTools, BTreeSet<String>), ApiError> {
    let (values, custom, left_out) = functions(tools);
    if !left_out.is_empty() {
        let types = left_out.into_iter().collect::<Vec<_>>().join(", ");
        app.options.notes.tell(&format!("responses: tools of type {types} are not offered to the model"));
    }
    let told = RequestTools::read(&values)?;
    let (choice, callable) = self::choice(choice, told)?;
    Ok((RequestTools::new(values, callable, choice, parallel, &app.served), custom))
}

/// Functions in the shape of chats, the names of those that are custom tools, and the types of tools that are neither.
fn functions(tools: &[Value]) -> (Vec<Value>, BTreeSet<String>, BTreeSet<String>) {
    let (mut values, mut custom, mut left_out) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    for tool in tools {
        match tool["type"].as_str() {
            Some("custom") => {
                custom.extend(tool["name"].as_str().map(str::to_string));
                values.push(custom_function(tool));
            }
            Some("function") | None => values.push(function(tool)),
            Some(other) => {
                left_out.insert(other.to_string());
            }
        }
    }
    (values, custom, left_out)
}

fn function(tool: &Value) -> Value {
    if tool["function"].is_object() {
        return tool.clone();
    }
    let mut function = Map::new();
    for key in ["name", "description", "parameters", "strict"] {
        if let Some(value) = tool.get(key).filter(|value| !value.is_null()) {
            function.insert(key.to_string(), value.clone());
        }
    }
    json!({"type": "function", "function": function})
}

/// A custom tool is a function of one text. A grammar is told, and of its two kinds a regular expression is enforced.
fn custom_function(tool: &Value) -> Value {
    let mut description = tool["description"].as_str().unwrap_or_default().to_string();
    let mut schema = json!({"type": "string"});
    let format = &tool["format"];
    if let Some(definition) = format["definition"].as_str() {
        let syntax = format["syntax"].as_str().unwrap_or("lark");
        description += &format!("\nThe input follows this {syntax} grammar:\n{definition}");
        if syntax == "regex" {
            schema["pattern"] = format!("^(?:{definition})$").into();
        }
    }
    let parameters = json!({
        "type": "object", "properties": {INPUT: schema}, "required": [INPUT], "additionalProperties": false
    });
    json!({"type": "function", "function": {
        "name": tool["name"], "description": description.trim(), "parameters": parameters
    }})
}

/// The text that a custom tool was called with.
pub fn custom_input(arguments: &str) -> String {
    let value: Value = serde_json::from_str(arguments).unwrap_or_default();
    // A call that broke off is shown as far as it came.
    value[INPUT].as_str().map_or_else(|| arguments.to_string(), str::to_string)
}

/// The choice, and the tools that may be called.
fn choice(value: Option<&Value>, tools: Vec<Tool>) -> Result<(ToolChoice, Vec<Tool>), ApiError> {
    let wrong = |message: &str| Err(ApiError::invalid("tool_choice", message));
    match value {
        None | Some(Value::Null) => Ok((ToolChoice::Auto, tools)),
        Some(Value::String(word)) => Ok((choice_of_word(word, &tools)?, tools)),
        Some(object) => match object["type"].as_str() {
            Some("function" | "custom") => {
                let Some(name) = object["name"].as_str() else { return wrong("tool_choice has no name") };
                Ok((choice_of_name(name, &tools)?, tools))
            }
            Some("allowed_tools") => {
                let Some(allowed) = object["tools"].as_array() else {
                    return wrong("tool_choice of type allowed_tools has no tools");
                };
                for name in allowed.iter().filter_map(|tool| tool["name"].as_str()) {
                    choice_of_name(name, &tools)?;
                }
                let is_allowed = |tool: &Tool| allowed.iter().any(|name| name["name"] == tool.name);
                let tools: Vec<Tool> = tools.into_iter().filter(is_allowed).collect();
                let mode = object["mode"].as_str().unwrap_or("auto");
                Ok((choice_of_word(mode, &tools)?, tools))
            }
            other => {
                let kind = other.unwrap_or("none");
                wrong(&format!("tool_choice has type {kind}, but may be function, custom or allowed_tools"))
            }
        },
    }
}

/// Reads the tools of a body without a model.
pub(super) fn read_body(tools: &[Value], choice: Option<&Value>) {
    if let Ok(tools) = RequestTools::read(&functions(tools).0) {
        let _ = self::choice(choice, tools);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_as_chats_have_them_and_other_types_are_left_out() {
        let (values, custom, left_out) = functions(&[
            json!({"type": "function", "name": "f", "strict": false, "parameters": {"type": "object"}}),
            json!({"type": "web_search"}),
            json!({"type": "namespace", "name": "n", "tools": []}),
            json!({"type": "custom", "name": "patch", "description": "Edits."}),
        ]);
        let wanted = json!({"type": "function", "function": {"name": "f", "strict": false, "parameters": {"type": "object"}}});
        assert_eq!(values[0], wanted);
        assert_eq!(values[1]["function"]["parameters"]["required"], json!(["input"]));
        assert_eq!(custom.into_iter().collect::<Vec<_>>(), ["patch"]);
        assert_eq!(left_out.into_iter().collect::<Vec<_>>(), ["namespace", "web_search"]);
    }

    #[test]
    fn a_grammar_is_told_and_a_regular_expression_enforced() {
        let format = json!({"type": "grammar", "syntax": "regex", "definition": "a|b"});
        let made = custom_function(&json!({"type": "custom", "name": "x", "format": format}));
        assert_eq!(made["function"]["parameters"]["properties"]["input"]["pattern"], "^(?:a|b)$");
        assert!(made["function"]["description"].as_str().unwrap().contains("regex grammar:\na|b"));
    }

    #[test]
    fn a_custom_tools_input_is_its_text() {
        assert_eq!(custom_input(r#"{"input": "a\nb"}"#), "a\nb");
        assert_eq!(custom_input(r#"{"input": "a"#), r#"{"input": "a"#);
    }

    #[test]
    fn a_choice_may_be_a_list_of_tools() {
        let tools = || {
            RequestTools::read(&[function(&json!({"name": "f"})), function(&json!({"name": "g"}))]).unwrap()
        };
        let of = |value: Value| {
            let (choice, tools) =
                choice(Some(&value), tools()).map_err(|error| error.message().to_string())?;
            Ok::<_, String>((choice, tools.into_iter().map(|tool| tool.name).collect::<Vec<_>>()))
        };
        let allowed = json!({"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "g"}]});
        assert_eq!(of(allowed), Ok((ToolChoice::Required, vec!["g".to_string()])));
        assert_eq!(of(json!({"type": "custom", "name": "f"})).unwrap().0, ToolChoice::Named("f".to_string()));
        let unknown = json!({"type": "allowed_tools", "tools": [{"name": "h"}]});
        assert!(of(unknown).unwrap_err().contains("`h`"));
        assert!(of(json!({"type": "mcp", "server_label": "x"})).unwrap_err().contains("type mcp"));
    }
}
