//! The fields of a request for decisions.

use lossy_output::decision::Question;
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::error::ApiError;

/// Questions of a request.
const MOST_QUESTIONS: usize = 400;

/// Questions about one input. Unknown fields are refused.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)] // Some fields are only known, so that they are not refused.
pub struct DecisionFields {
    /// the model's name; absent: the one that is served
    pub model: Option<String>,
    /// a text, or items as `/v1/responses` has them
    pub input: Value,
    /// 1 to 400 of them
    #[schema(value_type = Vec<QuestionFields>)]
    pub questions: Vec<Value>,
    /// separates the cached documents of those who use one key
    pub cache_salt: Option<String>,
    /// how the KV cache is stored: one of those that the operator allows
    pub kv: Option<String>,
    /// how positions are told to the model: one of those that the operator allows
    pub positions: Option<String>,
    /// variables for the chat template
    pub chat_template_kwargs: Option<Map<String, Value>>,
    /// changes nothing here: every prompt is looked for in the cache
    pub prompt_cache_key: Option<String>,
    /// changes nothing here
    pub prompt_cache_options: Option<Value>,
    /// changes nothing here
    pub safety_identifier: Option<String>,
}

/// A question.
#[derive(ToSchema)]
#[allow(dead_code)] // The schema of what `Question::read` reads.
pub struct QuestionFields {
    /// `predicate`, `choice` or `score`
    r#type: String,
    /// comes back with the answer
    name: Option<String>,
    /// what is asked: a text, or parts
    instructions: Value,
    /// of a choice: 2 to 255, each with a `value` and perhaps a `description`
    choices: Option<Vec<Value>>,
    /// of a score: 2 to 10, from the lowest on, each with a `label` and perhaps a `description`
    levels: Option<Vec<Value>>,
}

impl DecisionFields {
    /// The questions.
    ///
    /// # Errors
    /// There are none or too many; one is wrong, and the error names the field.
    pub fn questions(&self) -> Result<Vec<Question>, ApiError> {
        let n = self.questions.len();
        if n == 0 || n > MOST_QUESTIONS {
            let message = format!("questions has {n} entries, but may have 1 to {MOST_QUESTIONS}");
            return Err(ApiError::invalid("questions", message));
        }
        let read = |(index, question): (usize, &Value)| {
            Question::read(question).map_err(|error| {
                let place = format!("questions[{index}]");
                ApiError::invalid(format!("{place}{}", error.place), format!("{place}{error}"))
            })
        };
        self.questions.iter().enumerate().map(read).collect()
    }
}
