//! Which form an answer must have: a schema or a grammar.

use lossy_output::{Constraint, ConstraintError, Limits};
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::app::App;
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
    /// The field that says so, if one does.
    pub fn field(&self) -> Option<&'static str> {
        self.fields().next()
    }

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
    pub fn constraint(&self, app: &App) -> Result<Option<Constraint>, ApiError> {
        let limits = limits(app);
        let fields: Vec<&str> = self.fields().collect();
        let made = match fields[..] {
            [] => return Ok(None),
            ["grammar"] => Constraint::grammar(
                app.served.vocabulary()?,
                self.grammar.as_deref().unwrap_or_default(),
                &limits,
            ),
            ["json_schema"] => Constraint::json_schema(
                app.served.vocabulary()?,
                self.json_schema.as_ref().unwrap_or(&Value::Null),
                &limits,
            ),
            ["response_format"] => self.formatted(app, &limits)?,
            [first, second, ..] => {
                let message = format!("{first} and {second} cannot both say what the answer is");
                return Err(ApiError::invalid(second, message));
            }
            [_] => return Ok(None),
        };
        made.map(Some).map_err(|error| ApiError::invalid(fields[0], format!("{}: {error}", fields[0])))
    }

    fn formatted(&self, app: &App, limits: &Limits) -> Result<Result<Constraint, ConstraintError>, ApiError> {
        let Some(format) = &self.response_format else {
            return Err(ApiError::internal("there is no response_format"));
        };
        let named = format.json_schema.as_ref().and_then(|named| named.schema.as_ref());
        let vocabulary = app.served.vocabulary()?;
        match (format.r#type.as_str(), named.or(format.schema.as_ref())) {
            ("json_object", None) => Ok(Constraint::json_object(vocabulary, limits)),
            ("json_schema" | "json_object", Some(schema)) => {
                Ok(Constraint::json_schema(vocabulary, schema, limits))
            }
            ("json_schema", None) => Err(ApiError::invalid(
                "response_format.json_schema",
                "response_format of type json_schema needs json_schema.schema",
            )),
            (other, _) => {
                let message =
                    format!("response_format.type is `{other}`, but may be text, json_object or json_schema");
                Err(ApiError::invalid("response_format.type", message))
            }
        }
    }
}

/// What a schema or grammar may take.
pub fn limits(app: &App) -> Limits {
    Limits { bytes: app.options.limits.schema, ..Limits::default() }
}
