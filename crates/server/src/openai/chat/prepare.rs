//! From a chat request to a conversation.

use lossy_output::{Tool, ToolChoice};
use serde_json::Value;

use super::fields::{ChatFields, REFUSED};
use crate::app::App;
use crate::conversation::{RequestTools, Turns, Wishes, choice_of_name, choice_of_word};
use crate::error::ApiError;
use crate::http::json::Body;
use crate::openai::form::FormFields;
use crate::openai::messages;
use crate::request::SamplingFields;

/// What the prompt of a chat request is made of.
///
/// # Errors
/// A message or a tool is wrong; it is named.
pub fn turns(app: &App, fields: &ChatFields) -> Result<Turns, ApiError> {
    let values = fields.tools.clone().unwrap_or_default();
    let tools = RequestTools::read(&values)?;
    let choice = choice(fields.tool_choice.as_ref(), &tools)?;
    let parallel = fields.parallel_tool_calls.unwrap_or(true);
    Ok(Turns {
        messages: messages::read(&fields.messages, app.options.keep_billing_header)?,
        field: "messages",
        tools: RequestTools::new(values, tools, choice, parallel, &app.served),
        effort: fields.reasoning_effort.clone(),
        variables: fields.chat_template_kwargs.clone().unwrap_or_default(),
        opens_answer: fields.add_generation_prompt.unwrap_or(true),
    })
}

/// A chat request as a conversation.
///
/// # Errors
/// A field is wrong; it is named.
pub fn read(app: &App, body: &Body) -> Result<(ChatFields, Turns, Wishes), ApiError> {
    body.refuse(&REFUSED)?;
    let fields: ChatFields = body.read()?;
    let sampling: SamplingFields = body.read()?;
    let form: FormFields = body.read()?;
    app.check_model(fields.model.as_deref())?;
    let turns = turns(app, &fields)?;
    let wishes = Wishes {
        sampling,
        n_logprobs: n_logprobs(&fields)?,
        form: form.read(app)?,
        thinking_budget: budget("thinking_token_budget", fields.thinking_token_budget)?,
    };
    Ok((fields, turns, wishes))
}

/// Most tokens of thinking; -1: any number.
pub fn budget(field: &str, tokens: Option<i64>) -> Result<Option<usize>, ApiError> {
    match tokens {
        None | Some(-1) => Ok(None),
        Some(n) => usize::try_from(n)
            .map(Some)
            .map_err(|_| ApiError::invalid(field, format!("{field} is {n}, but must be at least -1"))),
    }
}

fn n_logprobs(fields: &ChatFields) -> Result<Option<usize>, ApiError> {
    let n = fields.top_logprobs.map_or(0, |n| n as usize);
    match fields.logprobs {
        Some(true) => Ok(Some(n)),
        _ if n > 0 => Err(ApiError::invalid("top_logprobs", "top_logprobs needs logprobs: true")),
        _ => Ok(None),
    }
}

fn choice(value: Option<&Value>, tools: &[Tool]) -> Result<ToolChoice, ApiError> {
    match value {
        None | Some(Value::Null) => Ok(ToolChoice::Auto),
        Some(Value::String(word)) => choice_of_word(word, tools),
        Some(object) => match object["function"]["name"].as_str().or(object["name"].as_str()) {
            Some(name) => choice_of_name(name, tools),
            None => Err(ApiError::invalid("tool_choice", "tool_choice has no function.name")),
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_choice_is_a_word_or_the_name_of_a_tool() {
        let tools = RequestTools::read(&[json!({"type": "function", "function": {"name": "f"}})]).unwrap();
        let of = |value: Value| choice(Some(&value), &tools).map_err(|error| error.message().to_string());
        assert_eq!(of(json!("auto")), Ok(ToolChoice::Auto));
        assert_eq!(of(json!("required")), Ok(ToolChoice::Required));
        let named = json!({"type": "function", "function": {"name": "f"}});
        assert_eq!(of(named), Ok(ToolChoice::Named("f".to_string())));
        assert!(of(json!({"type": "function", "function": {"name": "g"}})).unwrap_err().contains("`g`"));
        assert!(of(json!("perhaps")).unwrap_err().contains("perhaps"));
        assert!(choice(Some(&json!("required")), &[]).unwrap_err().message().contains("no tools"));
    }
}
