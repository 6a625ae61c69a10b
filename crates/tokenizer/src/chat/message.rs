//! Messages of a conversation in OpenAI's shape.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

/// One message of a conversation.
///
/// Deserializes from OpenAI's shape: `content` may be a string, null, or a list of text parts (which are joined by
/// newlines). Fields that are not named here are kept in [`Message::extra`] and visible to the template.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks: `system`, `user`, `assistant`, `tool`, or what the template knows.
    pub role: String,
    /// The text.
    #[serde(default, deserialize_with = "text_of_content")]
    pub content: String,
    /// Calls that the assistant made, in OpenAI's shape.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub tool_calls: Vec<Value>,
    /// The call that a `tool` message answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
    /// Name of the speaker or of the tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Every other field, for example `reasoning_content`.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Message {
    /// A message of `role` with the text `content`.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Message { role: role.into(), content: content.into(), ..Message::default() }
    }

    /// A system message.
    pub fn system(content: impl Into<String>) -> Self {
        Message::new("system", content)
    }

    /// A user's message.
    pub fn user(content: impl Into<String>) -> Self {
        Message::new("user", content)
    }

    /// An assistant's message.
    pub fn assistant(content: impl Into<String>) -> Self {
        Message::new("assistant", content)
    }
}

impl Message {
    /// The message as templates expect it. They were written for what transformers gives them, not for OpenAI's wire:
    /// arguments of a call are a map and not JSON in a string, a message that only calls has no content, and the
    /// reasoning has the names `reasoning_content` and `thinking`.
    pub(crate) fn for_template(&self) -> Map<String, Value> {
        let mut fields = Map::new();
        fields.insert("role".into(), self.role.clone().into());
        let only_calls = self.content.is_empty() && !self.tool_calls.is_empty();
        fields.insert("content".into(), if only_calls { Value::Null } else { self.content.clone().into() });
        if !self.tool_calls.is_empty() {
            let mut calls = self.tool_calls.clone();
            for call in &mut calls {
                parse_arguments(call);
            }
            fields.insert("tool_calls".into(), Value::Array(calls));
        }
        for (name, value) in [("tool_call_id", &self.tool_call_id), ("name", &self.name)] {
            if let Some(value) = value {
                fields.insert(name.into(), value.clone().into());
            }
        }
        fields.extend(self.extra.clone());
        const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];
        let reasoning = REASONING.iter().find_map(|name| fields.get(*name).filter(|value| !value.is_null()));
        if let Some(reasoning) = reasoning.cloned() {
            fields.entry("thinking").or_insert_with(|| reasoning.clone());
            fields.insert("reasoning_content".into(), reasoning);
        }
        fields
    }
}

fn parse_arguments(call: &mut Value) {
    let function = if call.get("function").is_some() { &mut call["function"] } else { call };
    let Some(arguments) = function.get_mut("arguments") else { return };
    if let Some(parsed) = arguments.as_str().and_then(|text| serde_json::from_str::<Map<_, _>>(text).ok()) {
        *arguments = Value::Object(parsed);
    }
}

fn null_is_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

fn text_of_content<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    use serde::de::Error;
    match Value::deserialize(from)? {
        Value::Null => Ok(String::new()),
        Value::String(text) => Ok(text),
        Value::Array(parts) => {
            let mut texts = Vec::new();
            for part in &parts {
                let kind = part.get("type").and_then(Value::as_str);
                match (kind, part.get("text").and_then(Value::as_str)) {
                    (Some("text"), Some(text)) => texts.push(text),
                    _ => {
                        let kind = kind.unwrap_or("without a type");
                        return Err(D::Error::custom(format!("a content part {kind} is not text")));
                    }
                }
            }
            Ok(texts.join("\n"))
        }
        other => {
            Err(D::Error::custom(format!("content is neither text, null nor a list of text parts: {other}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<Message, serde_json::Error> {
        serde_json::from_str(json)
    }

    #[test]
    fn content_is_text_null_or_text_parts() {
        assert_eq!(parse(r#"{"role":"user","content":"hi"}"#).unwrap(), Message::user("hi"));
        assert_eq!(parse(r#"{"role":"user","content":null}"#).unwrap().content, "");
        assert_eq!(parse(r#"{"role":"user"}"#).unwrap().content, "");
        let parts = r#"{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}"#;
        assert_eq!(parse(parts).unwrap().content, "a\nb");
    }

    #[test]
    fn content_that_is_not_text_is_an_error_that_names_it() {
        let image = r#"{"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}}]}"#;
        assert!(parse(image).unwrap_err().to_string().contains("image_url"));
        assert!(parse(r#"{"role":"user","content":3}"#).is_err());
    }

    #[test]
    fn arguments_on_the_wire_are_a_map_in_the_template() {
        let call = r#"{"type":"function","function":{"name":"f","arguments":"{\"b\": 1, \"a\": 2}"}}"#;
        let message =
            parse(&format!(r#"{{"role":"assistant","content":null,"tool_calls":[{call}]}}"#)).unwrap();
        let value = message.for_template();
        assert_eq!(value["tool_calls"][0]["function"]["arguments"].to_string(), r#"{"b":1,"a":2}"#);
        assert!(value["content"].is_null());
        let mut call = serde_json::json!({"name": "f", "arguments": "no JSON"});
        parse_arguments(&mut call);
        assert_eq!(call["arguments"], "no JSON");
    }

    #[test]
    fn reasoning_is_found_under_the_names_that_templates_use() {
        let message = parse(r#"{"role":"assistant","content":"x","reasoning":"because"}"#).unwrap();
        let value = message.for_template();
        assert_eq!((&value["reasoning_content"], &value["thinking"]), (&"because".into(), &"because".into()));
    }

    #[test]
    fn fields_without_a_name_here_are_kept() {
        let message = parse(r#"{"role":"assistant","content":"x","reasoning_content":"because"}"#).unwrap();
        assert_eq!(message.extra["reasoning_content"], "because");
        assert!(
            parse(r#"{"role":"assistant","content":null,"tool_calls":null}"#).unwrap().tool_calls.is_empty()
        );
    }
}
