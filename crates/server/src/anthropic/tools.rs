//! Tools of a request for a message as the functions of a conversation.

use std::collections::BTreeSet;

use lossy_output::{Tool, ToolChoice};
use serde_json::{Map, Value, json};

use crate::app::App;
use crate::conversation::{RequestTools, choice_of_name, choice_of_word};
use crate::error::ApiError;

/// Reads `tools` and `tool_choice`. Tools that have no schema, such as `web_search`, are Anthropic's own. They are left out,
/// which is noted.
///
/// # Errors
/// A tool without a name; a choice that is none.
pub fn read(app: &App, tools: &[Value], choice: Option<&Value>) -> Result<RequestTools, ApiError> {
    let (values, left_out) = functions(tools);
    if !left_out.is_empty() {
        let types = left_out.into_iter().collect::<Vec<_>>().join(", ");
        app.options.notes.tell(&format!("messages: tools of type {types} are not offered to the model"));
    }
    let tools = RequestTools::read(&values)?;
    let parallel = choice.is_none_or(|choice| choice["disable_parallel_tool_use"] != true);
    let choice = self::choice(choice, &tools)?;
    Ok(RequestTools::new(values, tools, choice, parallel, &app.served))
}

/// Functions in the shape of chats, and the types of tools that are none.
fn functions(tools: &[Value]) -> (Vec<Value>, BTreeSet<String>) {
    let (mut values, mut left_out) = (Vec::new(), BTreeSet::new());
    for tool in tools {
        match tool["type"].as_str() {
            None | Some("custom") => {
                let mut function = Map::new();
                for (key, own) in [
                    ("name", "name"),
                    ("description", "description"),
                    ("parameters", "input_schema"),
                    ("strict", "strict"),
                ] {
                    if let Some(value) = tool.get(own).filter(|value| !value.is_null()) {
                        function.insert(key.to_string(), value.clone());
                    }
                }
                values.push(json!({"type": "function", "function": function}));
            }
            Some(other) => {
                left_out.insert(other.to_string());
            }
        }
    }
    (values, left_out)
}

fn choice(value: Option<&Value>, tools: &[Tool]) -> Result<ToolChoice, ApiError> {
    let Some(value) = value.filter(|value| !value.is_null()) else { return Ok(ToolChoice::Auto) };
    match (value["type"].as_str(), value["name"].as_str()) {
        (Some("tool"), Some(name)) => choice_of_name(name, tools),
        (Some("tool"), None) => Err(ApiError::invalid("tool_choice.name", "tool_choice.name is missing")),
        (Some(word @ ("auto" | "any" | "none")), _) => choice_of_word(word, tools),
        (other, _) => {
            let kind = other.unwrap_or("missing");
            let message = format!("tool_choice.type is {kind}, but may be auto, any, none or tool");
            Err(ApiError::invalid("tool_choice.type", message))
        }
    }
}

/// Reads the tools of a body without a model.
pub(super) fn read_body(tools: &[Value], choice: Option<&Value>) {
    if let Ok(tools) = RequestTools::read(&functions(tools).0) {
        let _ = self::choice(choice, &tools);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_are_as_chats_have_them_and_those_without_a_schema_are_left_out() {
        let (values, left_out) = functions(&[
            json!({"name": "f", "description": "d", "input_schema": {"type": "object"}, "cache_control": {}}),
            json!({"type": "web_search_20250305", "name": "web_search"}),
            json!({"type": "custom", "name": "g", "input_schema": {"type": "object"}}),
        ]);
        let wanted = json!({"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}});
        assert_eq!((values.len(), &values[0]), (2, &wanted));
        assert_eq!(left_out.into_iter().collect::<Vec<_>>(), ["web_search_20250305"]);
    }

    #[test]
    fn a_choice_has_a_type() {
        let tools = RequestTools::read(&[json!({"name": "f"})]).unwrap();
        let of = |value: Value| choice(Some(&value), &tools).map_err(|error| error.message().to_string());
        assert_eq!(of(json!({"type": "any"})), Ok(ToolChoice::Required));
        assert_eq!(of(json!({"type": "tool", "name": "f"})), Ok(ToolChoice::Named("f".to_string())));
        assert!(of(json!({"type": "tool"})).unwrap_err().contains("name is missing"));
        assert!(of(json!({"type": "required"})).unwrap_err().contains("is required, but may be"));
        assert!(of(json!({"type": "tool", "name": "g"})).unwrap_err().contains("`g`"));
    }
}
