//! Messages as clients send them, and as templates expect them.

use lossy_tokenizer::Message;
use serde_json::Value;

use crate::conversation::is_billing_header;
use crate::error::ApiError;
use crate::http::json::from_value;

/// Reads the messages of a request.
///
/// # Errors
/// There are none; one has another shape than OpenAI's; one has parts that are no text, which are named.
pub fn read(messages: &[Value], keep_billing_header: bool) -> Result<Vec<Message>, ApiError> {
    if messages.is_empty() {
        return Err(ApiError::invalid("messages", "messages is empty: there is nothing to answer"));
    }
    let mut read = Vec::with_capacity(messages.len());
    for (index, value) in messages.iter().enumerate() {
        let place = format!("messages[{index}]");
        check_parts(value, &place)?;
        check_content(value, &place)?;
        let is_system = matches!(value["role"].as_str(), Some("system" | "developer"));
        let value = match is_system && !keep_billing_header {
            true => match without_billing_header(value) {
                Some(value) => value,
                None => continue,
            },
            false => value.clone(),
        };
        let mut message: Message = from_value(&value, &place)?;
        if message.role == "developer" {
            message.role = "system".to_string();
        }
        read.push(message);
    }
    if read.is_empty() {
        return Err(ApiError::invalid("messages", "messages has nothing but a billing header"));
    }
    Ok(read)
}

/// Who speaks in OpenAI's interface.
const ROLES: [&str; 6] = ["system", "developer", "user", "assistant", "tool", "function"];

/// Fails if a message says nothing, or nobody says it.
fn check_content(message: &Value, place: &str) -> Result<(), ApiError> {
    let role = &message["role"];
    if let Some(role) = role.as_str().filter(|role| !ROLES.contains(role)) {
        let param = format!("{place}.role");
        let message = format!("{param} is `{role}`, but may be {}", ROLES.join(", "));
        return Err(ApiError::invalid(param, message));
    }
    let is_assistant = role == "assistant";
    if message.is_object() && role.is_string() && !is_assistant && message["content"].is_null() {
        let param = format!("{place}.content");
        let message = format!("{param} is missing");
        return Err(ApiError::invalid(param, message));
    }
    Ok(())
}

/// Fails if a part of a message is no text.
fn check_parts(message: &Value, place: &str) -> Result<(), ApiError> {
    let Some(parts) = message["content"].as_array() else { return Ok(()) };
    for (index, part) in parts.iter().enumerate() {
        let kind = part["type"].as_str().unwrap_or("without a type");
        if kind != "text" || !part["text"].is_string() {
            let param = format!("{place}.content[{index}]");
            let message = format!("{param} is a part {kind}, but this server reads parts of text only");
            return Err(ApiError::invalid(param, message));
        }
    }
    Ok(())
}

/// The message without blocks that are billing headers; `None` if nothing is left.
fn without_billing_header(message: &Value) -> Option<Value> {
    let is_header = |text: &Value| text.as_str().is_some_and(is_billing_header);
    let mut message = message.clone();
    match &mut message["content"] {
        content if is_header(content) => return None,
        Value::Array(parts) => {
            let n_before = parts.len();
            parts.retain(|part| !is_header(&part["text"]));
            if parts.is_empty() && n_before > 0 {
                return None;
            }
        }
        _ => {}
    }
    Some(message)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn error(messages: Value) -> String {
        serde_json::to_string(&read(messages.as_array().unwrap(), false).unwrap_err().body()).unwrap()
    }

    #[test]
    fn a_developer_is_the_system() {
        let messages =
            [json!({"role": "developer", "content": "a"}), json!({"role": "user", "content": "b"})];
        let roles: Vec<String> =
            read(&messages, false).unwrap().into_iter().map(|message| message.role).collect();
        assert_eq!(roles, ["system", "user"]);
    }

    #[test]
    fn parts_that_are_no_text_are_named() {
        let image = json!([{"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "image_url", "image_url": {}}]}]);
        let found = error(image);
        assert!(
            found.contains("image_url") && found.contains(r#""param":"messages[0].content[1]""#),
            "{found}"
        );
        assert!(error(json!([])).contains("empty"));
        assert!(error(json!([{"content": "x"}])).contains("role"));
        assert!(error(json!([{"role": "user", "content": 3}])).contains(r#""param":"messages[0].content""#));
        assert!(error(json!(["x"])).contains(r#""param":"messages[0]""#));
    }

    #[test]
    fn a_billing_header_is_left_out_unless_it_is_wanted() {
        let header = "x-anthropic-billing-header: cc_version=1; cch=abc";
        let messages = [
            json!({"role": "system", "content": [{"type": "text", "text": header}, {"type": "text", "text": "Be brief."}]}),
            json!({"role": "system", "content": header}),
            json!({"role": "user", "content": header}),
        ];
        let texts = |keep| -> Vec<String> {
            read(&messages, keep).unwrap().into_iter().map(|message| message.content).collect()
        };
        assert_eq!(texts(false), ["Be brief.", header]);
        assert_eq!(texts(true).len(), 3);
    }
}
