//! The fields of a completion request, besides those of every request.

use serde::Deserialize;
use utoipa::ToSchema;

use crate::openai::form::FormFields;
use crate::openai::usage::StreamOptions;
use crate::request::SamplingFields;

/// A completion request.
#[derive(ToSchema)]
#[allow(dead_code)] // The schema of what three structs read.
pub struct CompletionRequest {
    #[schema(inline)]
    #[serde(flatten)]
    sampling: SamplingFields,
    #[schema(inline)]
    #[serde(flatten)]
    form: FormFields,
    #[schema(inline)]
    #[serde(flatten)]
    completion: CompletionFields,
}

/// Which text goes on.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub struct CompletionFields {
    /// the model's name; absent: the one that is served
    pub model: Option<String>,
    /// a text, several, token ids, or several lists of them
    pub prompt: Prompts,
    /// piece by piece, as server-sent events
    pub stream: Option<bool>,
    /// what a stream has besides
    pub stream_options: Option<StreamOptions>,
    /// the answer begins with the prompt
    pub echo: Option<bool>,
    /// log-probabilities of the tokens, and of so many that were likely in their place
    pub logprobs: Option<u32>,
    /// as `n`: of more answers than are returned none can be chosen here
    pub best_of: Option<u64>,
    /// fill in a text before this one: not supported
    pub suffix: Option<String>,
}

/// Texts that go on.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Prompts {
    /// a text
    Text(String),
    /// several
    Texts(Vec<String>),
    /// token ids
    Ids(Vec<u32>),
    /// several lists of them
    IdLists(Vec<Vec<u32>>),
}
