//! A tool that a model may call, and which of them it has to.

use serde_json::{Value, json};

use crate::error::ConstraintError;

/// A function that the model may call.
#[derive(Clone, Debug, PartialEq)]
pub struct Tool {
    /// The name; unique among the tools of a request.
    pub name: String,
    /// What it is good for, as the model reads it.
    pub description: Option<String>,
    /// JSON schema of the arguments.
    pub parameters: Value,
    /// Arguments must satisfy the schema, or the request is an error. Without it, a schema that cannot be enforced
    /// only means that the arguments are some JSON object.
    pub strict: bool,
}

/// Whether tools are called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ToolChoice {
    /// no tool is called
    None,
    /// the model decides
    #[default]
    Auto,
    /// at least one tool is called
    Required,
    /// this tool is called
    Named(String),
}

impl Tool {
    /// Reads OpenAI's shapes: `{"type": "function", "function": {"name": …}}`, or the same without the inner object.
    ///
    /// # Errors
    /// A tool that is no function, or that has no name; parameters that are no schema.
    pub fn from_openai(value: &Value) -> Result<Tool, ConstraintError> {
        let function = value.get("function").unwrap_or(value);
        let text = |key: &str| function.get(key).and_then(Value::as_str).map(str::to_string);
        let name = text("name").unwrap_or_default();
        let bad =
            |problem: &str| ConstraintError::BadTool { name: name.clone(), problem: problem.to_string() };
        if value.get("type").is_some_and(|kind| kind != "function") {
            return Err(bad(&format!("its type is {}, but only functions can be called", value["type"])));
        }
        if name.is_empty() {
            return Err(bad("it has no name"));
        }
        let parameters = match function.get("parameters") {
            None | Some(Value::Null) => json!({"type": "object", "properties": {}}),
            Some(schema @ (Value::Object(_) | Value::Bool(_))) => schema.clone(),
            Some(_) => return Err(bad("its parameters are no JSON schema")),
        };
        let strict = function.get("strict").and_then(Value::as_bool).unwrap_or(false);
        Ok(Tool { description: text("description"), parameters, strict, name })
    }

    /// The tool as instructions describe it to a model.
    pub(super) fn described(&self) -> Value {
        let mut function = json!({"name": self.name, "parameters": self.parameters});
        if let Some(description) = &self.description {
            function["description"] = description.as_str().into();
        }
        function
    }

    pub(super) fn bad(&self, problem: &str) -> ConstraintError {
        ConstraintError::BadTool { name: self.name.clone(), problem: problem.to_string() }
    }
}
