//! Which form an answer must have: a schema or a grammar.

use lossy_output::Constraint;
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::app::App;
use crate::conversation::{Form, limits};
use crate::error::ApiError;

/// The form of the answer; at most one of these.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub struct FormFields {
    /// `text`, `json_object` or `json_schema`
    pub response_format: Option<ResponseFormat>,
    /// a grammar: GBNF, or Lark as llguidance has it
    pub grammar: Option<String>,
    /// a JSON schema
    pub json_schema: Option<Value>,
}

/// The form of an answer, in OpenAI's words.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub struct ResponseFormat {
    /// `text`, `json_object` or `json_schema`
    pub r#type: String,
    /// with `json_schema`: a name and the schema
    pub json_schema: Option<NamedSchema>,
    /// llama-server's place for the schema
    pub schema: Option<Value>,
}

/// A schema with a name.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub struct NamedSchema {
    /// the schema
    pub schema: Option<Value>,
}

impl FormFields {
    fn fields(&self) -> impl Iterator<Item = &'static str> {
        let has_format = self.response_format.as_ref().is_some_and(|format| format.r#type != "text");
        [
            ("response_format", has_format),
            ("grammar", self.grammar.is_some()),
            ("json_schema", self.json_schema.is_some()),
        ]
        .into_iter()
        .filter_map(|(name, is_set)| is_set.then_some(name))
    }

    /// What the answer must be; `None`: anything.
    ///
    /// # Errors
    /// Two fields say it; or one says what cannot be enforced, which the error names.
    pub fn read(&self, app: &App) -> Result<Option<Form>, ApiError> {
        let fields: Vec<&'static str> = self.fields().collect();
        if let [first, second, ..] = fields[..] {
            let message = format!("{first} and {second} cannot both say what the answer is");
            return Err(ApiError::invalid(second, message));
        }
        let Some(&field) = fields.first() else { return Ok(None) };
        if let Some(format) = self.response_format.as_ref().filter(|_| field == "response_format") {
            let named = format.json_schema.as_ref().and_then(|named| named.schema.as_ref());
            let places = ("response_format", "json_schema.schema");
            return form_of_type(app, &format.r#type, named.or(format.schema.as_ref()), places);
        }
        let vocabulary = app.served.vocabulary()?;
        let made = match &self.grammar {
            Some(grammar) => Constraint::grammar(vocabulary, grammar, &limits(app)),
            None => {
                let schema = self.json_schema.as_ref().unwrap_or(&Value::Null);
                Constraint::json_schema(vocabulary, schema, &limits(app))
            }
        };
        let constraint = made.map_err(|error| ApiError::invalid(field, format!("{field}: {error}")))?;
        Ok(Some(Form { field, constraint }))
    }
}

/// What an answer must be whose form is `text`, `json_object`, or `json_schema` with a schema. `places`: the field that says so,
/// and where in it the schema stands.
///
/// # Errors
/// It is none of them; the schema is missing, or cannot be enforced.
pub fn form_of_type(
    app: &App,
    kind: &str,
    schema: Option<&Value>,
    (field, place): (&'static str, &str),
) -> Result<Option<Form>, ApiError> {
    let made = match (kind, schema) {
        ("text", _) => return Ok(None),
        ("json_object", None) => Constraint::json_object(app.served.vocabulary()?, &limits(app)),
        ("json_schema" | "json_object", Some(schema)) => {
            Constraint::json_schema(app.served.vocabulary()?, schema, &limits(app))
        }
        ("json_schema", None) => {
            let message = format!("{field} of type json_schema needs {place}");
            return Err(ApiError::invalid(format!("{field}.{place}"), message));
        }
        (other, _) => {
            let message = format!("{field}.type is `{other}`, but may be text, json_object or json_schema");
            return Err(ApiError::invalid(format!("{field}.type"), message));
        }
    };
    let constraint = made.map_err(|error| ApiError::invalid(field, format!("{field}: {error}")))?;
    Ok(Some(Form { field, constraint }))
}
