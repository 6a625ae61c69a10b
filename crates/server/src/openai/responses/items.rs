//! Items of a request's input as the messages of a conversation.

use lossy_tokenizer::Message;
use serde_json::{Value, json};

use crate::conversation::is_billing_header;
use crate::error::ApiError;

/// What separates the texts of a message or a result.
const GAP: &str = "\n";

/// Reads `instructions` and `input`.
///
/// # Errors
/// There is nothing to answer; an item or a part of it is of a kind that cannot be read, and is named.
pub fn read(
    instructions: Option<&str>,
    input: &Value,
    keep_billing_header: bool,
) -> Result<Vec<Message>, ApiError> {
    let mut reader = Reader { keep_billing_header, ..Reader::default() };
    if let Some(text) = instructions.filter(|text| !text.is_empty()) {
        reader.message("system", text.to_string());
    }
    match input {
        Value::String(text) => reader.message("user", text.clone()),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                reader.item(item, &format!("input[{index}]"))?;
            }
        }
        _ => return Err(ApiError::invalid("input", "input must be a text or a list of items")),
    }
    let messages = reader.messages;
    match messages.iter().any(|message| message.role != "system") {
        true => Ok(messages),
        // Some clients send all they have to say as the developer.
        false if !messages.is_empty() => Ok(messages),
        false => Err(ApiError::invalid("input", "input is empty: there is nothing to answer")),
    }
}

#[derive(Default)]
struct Reader {
    messages: Vec<Message>,
    /// thinking that belongs to the assistant's next message
    thinking: String,
    keep_billing_header: bool,
}

impl Reader {
    fn message(&mut self, role: &str, text: String) {
        if role == "system" && !self.keep_billing_header && is_billing_header(&text) {
            return;
        }
        self.messages.push(Message::new(role, text));
    }

    fn item(&mut self, item: &Value, place: &str) -> Result<(), ApiError> {
        let kind = item["type"].as_str().unwrap_or("message");
        match kind {
            "message" => self.read_message(item, place),
            "reasoning" => {
                let texts = texts(&item["content"], &format!("{place}.content"))?;
                let summary = match texts.is_empty() {
                    true => self::texts(&item["summary"], &format!("{place}.summary"))?,
                    false => texts,
                };
                self.thinking.push_str(&summary);
                Ok(())
            }
            "function_call" => {
                let arguments = string(item, "arguments", place)?;
                self.call(item, place, string(item, "name", place)?, arguments)
            }
            "custom_tool_call" => {
                let input = json!({"input": string(item, "input", place)?});
                self.call(item, place, string(item, "name", place)?, input.to_string())
            }
            "function_call_output" | "custom_tool_call_output" => self.result(item, place),
            // Calls that a client runs itself, such as local_shell_call: the name is the kind's.
            other => match (other.strip_suffix("_call"), other.strip_suffix("_call_output")) {
                (_, Some(_)) if item["call_id"].is_string() || item["id"].is_string() => {
                    self.result(item, place)
                }
                (Some(name), None) if item["call_id"].is_string() => {
                    let arguments = ["action", "operation"].into_iter().find_map(|key| item.get(key));
                    let arguments = arguments.cloned().unwrap_or_else(|| json!({}));
                    self.call(item, place, name.to_string(), arguments.to_string())
                }
                _ => {
                    let message =
                        format!("{place} is an item of type {other}, which this server cannot read");
                    Err(ApiError::invalid(format!("{place}.type"), message))
                }
            },
        }
    }

    fn read_message(&mut self, item: &Value, place: &str) -> Result<(), ApiError> {
        let role = string(item, "role", place)?;
        let text = texts(&item["content"], &format!("{place}.content"))?;
        match role.as_str() {
            "system" | "developer" => self.message("system", text),
            "user" => self.message("user", text),
            "assistant" => {
                let message = self.assistant();
                let gap = if message.content.is_empty() { "" } else { GAP };
                message.content += &format!("{gap}{text}");
            }
            other => {
                let param = format!("{place}.role");
                let message =
                    format!("{param} is `{other}`, but may be system, developer, user or assistant");
                return Err(ApiError::invalid(param, message));
            }
        }
        Ok(())
    }

    /// The assistant's message that is being read: calls and text that follow each other are one message.
    fn assistant(&mut self) -> &mut Message {
        let goes_on = self.messages.last().is_some_and(|last| last.role == "assistant");
        if !goes_on || !self.thinking.is_empty() {
            let mut message = Message::assistant("");
            if !self.thinking.is_empty() {
                let thinking = std::mem::take(&mut self.thinking);
                message.extra.insert("reasoning_content".to_string(), Value::String(thinking));
            }
            self.messages.push(message);
        }
        let last = self.messages.len() - 1;
        &mut self.messages[last]
    }

    fn call(&mut self, item: &Value, place: &str, name: String, arguments: String) -> Result<(), ApiError> {
        let id = string(item, "call_id", place)?;
        let function = json!({"name": name, "arguments": arguments});
        self.assistant().tool_calls.push(json!({"id": id, "type": "function", "function": function}));
        Ok(())
    }

    fn result(&mut self, item: &Value, place: &str) -> Result<(), ApiError> {
        let key = if item["call_id"].is_string() { "call_id" } else { "id" };
        let id = string(item, key, place)?;
        let text = match &item["output"] {
            Value::Array(parts) if parts.iter().all(|part| part["type"].is_string()) => {
                texts(&item["output"], &format!("{place}.output"))?
            }
            Value::String(text) => text.clone(),
            Value::Null => return Err(missing(&format!("{place}.output"))),
            other => other.to_string(),
        };
        let mut calls = self.messages.iter().flat_map(|message| &message.tool_calls);
        let name = calls.rfind(|call| call["id"] == id).and_then(|call| call["function"]["name"].as_str());
        let name = name.map(str::to_string);
        let message = Message { tool_call_id: Some(id), name, ..Message::new("tool", text) };
        self.messages.push(message);
        Ok(())
    }
}

/// The text of a content: a string, or parts that are text.
fn texts(content: &Value, place: &str) -> Result<String, ApiError> {
    let parts = match content {
        Value::Null => return Ok(String::new()),
        Value::String(text) => return Ok(text.clone()),
        Value::Array(parts) => parts,
        _ => return Err(ApiError::invalid(place, format!("{place} must be a text or a list of parts"))),
    };
    let mut texts = Vec::with_capacity(parts.len());
    for (index, part) in parts.iter().enumerate() {
        let key = if part["type"] == "refusal" { "refusal" } else { "text" };
        let kind = part["type"].as_str().unwrap_or("without a type");
        let is_text = matches!(
            kind,
            "input_text" | "output_text" | "text" | "refusal" | "reasoning_text" | "summary_text"
        );
        match (part[key].as_str().filter(|_| is_text), part.get("data")) {
            (Some(text), _) => texts.push(text.to_string()),
            (None, Some(data)) if kind == "input_json" => texts.push(data.to_string()),
            (None, _) => {
                let place = format!("{place}[{index}]");
                let message = format!("{place} is a part {kind}, but this server reads parts of text only");
                return Err(ApiError::invalid(place, message));
            }
        }
    }
    Ok(texts.join(GAP))
}

fn string(item: &Value, key: &str, place: &str) -> Result<String, ApiError> {
    match &item[key] {
        Value::String(text) => Ok(text.clone()),
        Value::Null => Err(missing(&format!("{place}.{key}"))),
        _ => {
            let place = format!("{place}.{key}");
            Err(ApiError::invalid(place.clone(), format!("{place} must be a text")))
        }
    }
}

fn missing(place: &str) -> ApiError {
    ApiError::invalid(place, format!("{place} is missing"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(input: Value) -> Result<Value, String> {
        let messages = read(None, &input, false).map_err(|error| error.message().to_string())?;
        Ok(serde_json::to_value(messages).unwrap())
    }

    #[test]
    fn a_text_is_a_users_message_and_instructions_are_the_systems() {
        let messages = read(Some("Be brief."), &json!("Hello"), false).unwrap();
        let found: Vec<(&str, &str)> =
            messages.iter().map(|message| (message.role.as_str(), message.content.as_str())).collect();
        assert_eq!(found, [("system", "Be brief."), ("user", "Hello")]);
    }

    #[test]
    fn reasoning_text_and_calls_that_follow_each_other_are_one_message() {
        let found = of(json!([
            {"role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]},
            {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}]},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I look."}]},
            {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{\"x\":1}"},
            {"type": "custom_tool_call", "call_id": "2", "name": "g", "input": "ls\n"},
            {"type": "function_call_output", "call_id": "1", "output": "7"},
            {"type": "custom_tool_call_output", "call_id": "2", "output": [{"type": "input_text", "text": "x"}]},
            {"role": "assistant", "content": "Done."},
        ]));
        let wanted = json!([
            {"role": "user", "content": "a\nb"},
            {"role": "assistant", "content": "I look.", "reasoning_content": "Hm.", "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{\"x\":1}"}},
                {"id": "2", "type": "function", "function": {"name": "g", "arguments": "{\"input\":\"ls\\n\"}"}},
            ]},
            {"role": "tool", "content": "7", "tool_call_id": "1", "name": "f"},
            {"role": "tool", "content": "x", "tool_call_id": "2", "name": "g"},
            {"role": "assistant", "content": "Done."},
        ]);
        assert_eq!(found.unwrap(), wanted);
    }

    #[test]
    fn a_call_that_the_client_ran_keeps_its_kind_as_its_name() {
        let found = of(json!([
            {"type": "local_shell_call", "id": "9", "call_id": "1", "action": {"type": "exec", "command": ["ls"]}, "status": "completed"},
            {"type": "local_shell_call_output", "id": "1", "output": "a.txt"},
        ]))
        .unwrap();
        assert_eq!(found[0]["tool_calls"][0]["function"]["name"], "local_shell");
        assert_eq!(found[1]["name"], "local_shell");
    }

    #[test]
    fn what_cannot_be_read_is_named_with_its_place() {
        for (input, wanted) in [
            (json!([]), "input is empty"),
            (json!(3), "input must be a text"),
            (json!([{"type": "item_reference", "id": "x"}]), "input[0] is an item of type item_reference"),
            (json!([{"type": "web_search_call", "id": "x", "status": "completed"}]), "web_search_call"),
            (
                json!([{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]),
                "input[0].content[0] is a part input_image",
            ),
            (json!([{"role": "tool", "content": "x"}]), "input[0].role is `tool`"),
            (
                json!([{"type": "function_call", "name": "f", "arguments": "{}"}]),
                "input[0].call_id is missing",
            ),
            (json!([{"type": "function_call_output", "call_id": "1"}]), "input[0].output is missing"),
            (json!(["x"]), "input[0].role is missing"),
        ] {
            let error = of(input.clone()).unwrap_err();
            assert!(error.contains(wanted), "{input}: {error}");
        }
    }
}
