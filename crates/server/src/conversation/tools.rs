//! Tools of a request: read, and told to models whose template knows none.

use lossy_output::{Tool, ToolChoice, ToolFormat};
use lossy_tokenizer::Message;
use serde_json::{Value, json};

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
    /// whether several may be called at once
    pub parallel: bool,
    /// how calls are written; `None`: there are none
    pub format: Option<ToolFormat>,
}

impl RequestTools {
    /// Tools in OpenAI's shape.
    ///
    /// # Errors
    /// A tool that is no function, or has no name.
    pub fn read(values: &[Value]) -> Result<Vec<Tool>, ApiError> {
        let tools = values.iter().map(Tool::from_openai).collect::<Result<Vec<_>, _>>();
        tools.map_err(|error| ApiError::invalid("tools", error.to_string()))
    }

    /// `values`, and what they were read as, of which the model may call those in `tools`.
    pub fn new(
        values: Vec<Value>,
        tools: Vec<Tool>,
        choice: ToolChoice,
        parallel: bool,
        served: &Served,
    ) -> RequestTools {
        let format = (!tools.is_empty() && choice != ToolChoice::None).then(|| served.tool_format());
        RequestTools { values, tools, choice, parallel, format }
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

/// `tool_choice` where it is a word.
///
/// # Errors
/// It is none of them, or wants a call where there are no tools.
pub fn choice_of_word(word: &str, tools: &[Tool]) -> Result<ToolChoice, ApiError> {
    let wrong = |what: String| Err(ApiError::invalid("tool_choice", format!("tool_choice {what}")));
    match word {
        "auto" => Ok(ToolChoice::Auto),
        "none" => Ok(ToolChoice::None),
        "required" | "any" if tools.is_empty() => wrong(format!("is `{word}`, but there are no tools")),
        "required" | "any" => Ok(ToolChoice::Required),
        other => wrong(format!("is `{other}`, but may be auto, none, required, or name a function")),
    }
}

/// `tool_choice` where it names a tool.
///
/// # Errors
/// It is not among the tools.
pub fn choice_of_name(name: &str, tools: &[Tool]) -> Result<ToolChoice, ApiError> {
    match tools.iter().any(|tool| tool.name == name) {
        true => Ok(ToolChoice::Named(name.to_string())),
        false => {
            let message = format!("tool_choice names `{name}`, which is not among the tools");
            Err(ApiError::invalid("tool_choice", message))
        }
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
