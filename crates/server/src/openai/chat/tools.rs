//! Tools of a request: read, and told to models whose template knows none.

use lossy_output::{Tool, ToolChoice, ToolFormat};
use lossy_tokenizer::Message;
use serde_json::{Value, json};

use super::fields::ChatFields;
use crate::error::ApiError;
use crate::served::Served;

/// The tools of a request, and whether they are called.
pub struct RequestTools {
    /// as they came, for the template
    pub values: Vec<Value>,
    /// as they are enforced
    pub tools: Vec<Tool>,
    /// whether the model may, must or must not call them
    pub choice: ToolChoice,
    /// how calls are written; `None`: there are none
    pub format: Option<ToolFormat>,
}

impl RequestTools {
    /// Reads `tools` and `tool_choice`.
    ///
    /// # Errors
    /// A tool that is no function; a choice that is none of them.
    pub fn read(fields: &ChatFields, served: &Served) -> Result<RequestTools, ApiError> {
        let values = fields.tools.clone().unwrap_or_default();
        let tools = values
            .iter()
            .map(Tool::from_openai)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| ApiError::invalid("tools", error.to_string()))?;
        let choice = choice(fields.tool_choice.as_ref(), &tools)?;
        let format = (!tools.is_empty() && choice != ToolChoice::None).then(|| served.tool_format());
        Ok(RequestTools { values, tools, choice, format })
    }

    /// Whether the model must call one.
    pub fn is_required(&self) -> bool {
        matches!(self.choice, ToolChoice::Required | ToolChoice::Named(_))
    }

    /// What the template gets. Where it knows no tools, the system message explains them, and earlier calls and their
    /// results are spelled out.
    pub fn tell(&self, messages: &mut Vec<Message>, served: &Served) -> Vec<Value> {
        if served.tool_format().needs_instructions() {
            messages.iter_mut().for_each(spell_out);
        }
        let Some(format) = &self.format else { return Vec::new() };
        if !format.needs_instructions() {
            return self.values.clone();
        }
        let text = format.instructions(&self.tools);
        match messages.first_mut().filter(|first| first.role == "system") {
            Some(system) => system.content = format!("{}\n\n{text}", system.content),
            None => messages.insert(0, Message::system(text)),
        }
        Vec::new()
    }
}

fn choice(value: Option<&Value>, tools: &[Tool]) -> Result<ToolChoice, ApiError> {
    let wrong = |what: String| Err(ApiError::invalid("tool_choice", format!("tool_choice {what}")));
    let named = |name: &str| match tools.iter().any(|tool| tool.name == name) {
        true => Ok(ToolChoice::Named(name.to_string())),
        false => wrong(format!("names `{name}`, which is not among the tools")),
    };
    match value {
        None | Some(Value::Null) => Ok(ToolChoice::Auto),
        Some(Value::String(word)) => match word.as_str() {
            "auto" => Ok(ToolChoice::Auto),
            "none" => Ok(ToolChoice::None),
            "required" | "any" if tools.is_empty() => wrong(format!("is `{word}`, but there are no tools")),
            "required" | "any" => Ok(ToolChoice::Required),
            other => wrong(format!("is `{other}`, but may be auto, none, required, or name a function")),
        },
        Some(object) => match object["function"]["name"].as_str().or(object["name"].as_str()) {
            Some(name) => named(name),
            None => wrong("has no function.name".to_string()),
        },
    }
}

/// Calls and their results as text, in the words in which the instructions ask for calls.
fn spell_out(message: &mut Message) {
    for call in std::mem::take(&mut message.tool_calls) {
        let function = &call["function"];
        let arguments = match &function["arguments"] {
            Value::String(text) => serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.clone())),
            other => other.clone(),
        };
        let call = json!({"name": function["name"], "arguments": arguments});
        let gap = if message.content.is_empty() { "" } else { "\n" };
        message.content += &format!("{gap}<tool_call>\n{call}\n</tool_call>");
    }
    if message.role == "tool" {
        message.role = "user".to_string();
        message.content = format!("<tool_response>\n{}\n</tool_response>", message.content);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tool(name: &str) -> Tool {
        Tool::from_openai(&json!({"type": "function", "function": {"name": name}})).unwrap()
    }

    #[test]
    fn a_choice_is_a_word_or_the_name_of_a_tool() {
        let tools = [tool("f")];
        let of = |value: Value| choice(Some(&value), &tools).map_err(|error| error.message().to_string());
        assert_eq!(of(json!("auto")), Ok(ToolChoice::Auto));
        assert_eq!(of(json!("required")), Ok(ToolChoice::Required));
        let named = json!({"type": "function", "function": {"name": "f"}});
        assert_eq!(of(named), Ok(ToolChoice::Named("f".to_string())));
        assert!(of(json!({"type": "function", "function": {"name": "g"}})).unwrap_err().contains("`g`"));
        assert!(of(json!("perhaps")).unwrap_err().contains("perhaps"));
        assert!(choice(Some(&json!("required")), &[]).unwrap_err().message().contains("no tools"));
    }

    #[test]
    fn calls_and_results_are_spelled_out_for_a_template_that_knows_none() {
        let call =
            json!({"id": "1", "type": "function", "function": {"name": "f", "arguments": "{\"a\": 1}"}});
        let mut message = Message { tool_calls: vec![call], ..Message::assistant("Well.") };
        spell_out(&mut message);
        assert_eq!(
            message.content,
            "Well.\n<tool_call>\n{\"name\":\"f\",\"arguments\":{\"a\":1}}\n</tool_call>"
        );
        let mut result = Message::new("tool", "7");
        spell_out(&mut result);
        assert_eq!(
            (result.role.as_str(), result.content.as_str()),
            ("user", "<tool_response>\n7\n</tool_response>")
        );
    }
}
