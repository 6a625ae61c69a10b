//! Blocks of a request's messages as the messages of a conversation.

use std::collections::HashMap;

use lossy_tokenizer::Message;
use serde_json::{Value, json};

use crate::conversation::is_billing_header;
use crate::error::ApiError;

/// What separates the texts of a message or a result.
const GAP: &str = "\n";

/// Reads `system` and `messages`.
///
/// # Errors
/// There is nothing to answer; the last message is the assistant's; a block is of a kind that cannot be read, and is named.
pub fn read(
    system: Option<&Value>,
    messages: &[Value],
    keep_billing_header: bool,
) -> Result<Vec<Message>, ApiError> {
    if messages.is_empty() {
        return Err(ApiError::invalid("messages", "messages is empty: there is nothing to answer"));
    }
    let mut reader = Reader { keep_billing_header, ..Reader::default() };
    if let Some(system) = system {
        reader.system(system, "system")?;
    }
    for (index, message) in messages.iter().enumerate() {
        let place = format!("messages[{index}]");
        let content = &message["content"];
        match message["role"].as_str() {
            Some("user") => reader.user(content, &format!("{place}.content"))?,
            Some("assistant") => reader.assistant(content, &format!("{place}.content"))?,
            Some("system") => reader.system(content, &format!("{place}.content"))?,
            role => {
                let param = format!("{place}.role");
                let role = role.unwrap_or("missing");
                let message = format!("{param} is {role}, but may be user, assistant or system");
                return Err(ApiError::invalid(param, message));
            }
        }
    }
    if reader.messages.last().is_some_and(|last| last.role == "assistant") {
        let message = "the last of the messages is the assistant's, but it is the assistant's turn: use /v1/completions to \
                       continue a text";
        return Err(ApiError::invalid("messages", message));
    }
    Ok(reader.messages)
}

#[derive(Default)]
struct Reader {
    messages: Vec<Message>,
    /// the tool of each call, by the call's name
    tools: HashMap<String, String>,
    keep_billing_header: bool,
}

impl Reader {
    fn system(&mut self, content: &Value, place: &str) -> Result<(), ApiError> {
        let mut texts = texts(content, place)?;
        texts.retain(|text| self.keep_billing_header || !is_billing_header(text));
        if !texts.is_empty() {
            self.messages.push(Message::system(texts.join(GAP)));
        }
        Ok(())
    }

    fn user(&mut self, content: &Value, place: &str) -> Result<(), ApiError> {
        let Value::Array(blocks) = content else {
            let text = texts(content, place)?.join(GAP);
            self.messages.push(Message::user(text));
            return Ok(());
        };
        let mut said: Vec<&str> = Vec::new();
        let n_before = self.messages.len();
        for (index, block) in blocks.iter().enumerate() {
            let place = format!("{place}[{index}]");
            if block["type"] != "tool_result" {
                said.push(text(block, &place)?);
                continue;
            }
            self.say(&mut said);
            let id = string(block, "tool_use_id", &place)?;
            let mut text = texts(&block["content"], &format!("{place}.content"))?.join(GAP);
            if block["is_error"] == true {
                text.insert_str(0, "Error: ");
            }
            let name = self.tools.get(id).cloned();
            self.messages.push(Message {
                tool_call_id: Some(id.to_string()),
                name,
                ..Message::new("tool", text)
            });
        }
        if !said.is_empty() || self.messages.len() == n_before {
            self.messages.push(Message::user(said.join(GAP)));
        }
        Ok(())
    }

    /// What the user said up to here is a message.
    fn say(&mut self, said: &mut Vec<&str>) {
        if !said.is_empty() {
            self.messages.push(Message::user(said.join(GAP)));
            said.clear();
        }
    }

    fn assistant(&mut self, content: &Value, place: &str) -> Result<(), ApiError> {
        let mut message = Message::assistant("");
        let Value::Array(blocks) = content else {
            message.content = texts(content, place)?.join(GAP);
            self.messages.push(message);
            return Ok(());
        };
        let (mut said, mut thought): (Vec<&str>, Vec<&str>) = (Vec::new(), Vec::new());
        for (index, block) in blocks.iter().enumerate() {
            let place = format!("{place}[{index}]");
            match block["type"].as_str() {
                Some("thinking") => thought.push(string(block, "thinking", &place)?),
                // It was never text.
                Some("redacted_thinking") => {}
                Some("tool_use") => {
                    let (id, name) = (string(block, "id", &place)?, string(block, "name", &place)?);
                    self.tools.insert(id.to_string(), name.to_string());
                    let input = block.get("input").cloned().unwrap_or_else(|| json!({}));
                    let function = json!({"name": name, "arguments": input.to_string()});
                    message.tool_calls.push(json!({"id": id, "type": "function", "function": function}));
                }
                _ => said.push(text(block, &place)?),
            }
        }
        message.content = said.join(GAP);
        if !thought.is_empty() {
            message.extra.insert("reasoning_content".to_string(), thought.join(GAP).into());
        }
        self.messages.push(message);
        Ok(())
    }
}

/// The texts of a content: a string, or blocks that are text.
fn texts(content: &Value, place: &str) -> Result<Vec<String>, ApiError> {
    match content {
        Value::String(text) => Ok(vec![text.clone()]),
        Value::Null if place.contains("].content[") => Ok(Vec::new()),
        Value::Array(blocks) => blocks
            .iter()
            .enumerate()
            .map(|(index, block)| text(block, &format!("{place}[{index}]")).map(str::to_string))
            .collect(),
        Value::Null => Err(ApiError::invalid(place, format!("{place} is missing"))),
        _ => Err(ApiError::invalid(place, format!("{place} must be a text or a list of blocks"))),
    }
}

fn text<'a>(block: &'a Value, place: &str) -> Result<&'a str, ApiError> {
    match block["type"].as_str() {
        Some("text") => string(block, "text", place),
        kind => {
            let kind = kind.unwrap_or("without a type");
            let message = format!("{place} is a block {kind}, but this server reads blocks of text only");
            Err(ApiError::invalid(place, message))
        }
    }
}

fn string<'a>(block: &'a Value, key: &str, place: &str) -> Result<&'a str, ApiError> {
    block[key].as_str().ok_or_else(|| {
        let place = format!("{place}.{key}");
        ApiError::invalid(place.clone(), format!("{place} is missing, or no text"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(system: Option<Value>, messages: Value) -> Result<Value, String> {
        let messages = messages.as_array().unwrap();
        let read = read(system.as_ref(), messages, false).map_err(|error| error.message().to_string())?;
        Ok(serde_json::to_value(read).unwrap())
    }

    #[test]
    fn blocks_become_messages_and_results_messages_of_their_own() {
        let system = json!([
            {"type": "text", "text": "x-anthropic-billing-header: cc_version=2; cch=0f3;"},
            {"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}},
            {"type": "text", "text": "Use tools."},
        ]);
        let found = of(
            Some(system),
            json!([
                {"role": "user", "content": "What is in a.txt?"},
                {"role": "assistant", "content": [
                    {"type": "thinking", "thinking": "Look.", "signature": ""},
                    {"type": "text", "text": "I look."},
                    {"type": "tool_use", "id": "t1", "name": "read", "input": {"path": "a.txt"}},
                    {"type": "tool_use", "id": "t2", "name": "list", "input": {}},
                ]},
                {"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "7"}]},
                    {"type": "tool_result", "tool_use_id": "t2", "content": "no such folder", "is_error": true},
                    {"type": "text", "text": "And now?"},
                ]},
            ]),
        );
        let wanted = json!([
            {"role": "system", "content": "Be brief.\nUse tools."},
            {"role": "user", "content": "What is in a.txt?"},
            {"role": "assistant", "content": "I look.", "reasoning_content": "Look.", "tool_calls": [
                {"id": "t1", "type": "function", "function": {"name": "read", "arguments": "{\"path\":\"a.txt\"}"}},
                {"id": "t2", "type": "function", "function": {"name": "list", "arguments": "{}"}},
            ]},
            {"role": "tool", "content": "7", "tool_call_id": "t1", "name": "read"},
            {"role": "tool", "content": "Error: no such folder", "tool_call_id": "t2", "name": "list"},
            {"role": "user", "content": "And now?"},
        ]);
        assert_eq!(found.unwrap(), wanted);
    }

    #[test]
    fn a_system_message_may_stand_among_the_others_and_a_result_may_be_empty() {
        let found = of(
            None,
            json!([
                {"role": "system", "content": "Be brief."},
                {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {}}]},
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t"}]},
            ]),
        )
        .unwrap();
        assert_eq!((&found[0]["role"], &found[2]["content"]), (&json!("system"), &json!("")));
    }

    #[test]
    fn what_cannot_be_read_is_named_with_its_place() {
        let image = json!([{"role": "user", "content": [{"type": "image", "source": {}}]}]);
        for (messages, wanted) in [
            (json!([]), "messages is empty"),
            (image, "messages[0].content[0] is a block image"),
            (json!([{"role": "tool", "content": "x"}]), "messages[0].role is tool"),
            (json!([{"role": "user"}]), "messages[0].content is missing"),
            (json!([{"role": "user", "content": 3}]), "messages[0].content must be"),
            (json!([{"role": "user", "content": [{"type": "tool_result"}]}]), "tool_use_id is missing"),
            (
                json!([{"role": "user", "content": "x"}, {"role": "assistant", "content": "{"}]),
                "the assistant's turn",
            ),
            (json!(["x"]), "messages[0].role is missing"),
        ] {
            let error = of(None, messages.clone()).unwrap_err();
            assert!(error.contains(wanted), "{messages}: {error}");
        }
    }
}
