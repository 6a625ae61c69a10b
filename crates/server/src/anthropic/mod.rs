//! Anthropic's interface: messages, whole or as a stream.

mod answer;
mod blocks;
mod error;
mod fields;
mod streamed;
mod tools;

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

pub use self::answer::MessageAnswer;
pub use self::error::{MessagesErrorBody, in_its_words};
use self::fields::REFUSED;
pub use self::fields::{MessagesFields, MessagesRequest};
use self::streamed::MessageStream;
use crate::app::{App, aside};
use crate::conversation::{Turns, Wishes, begin, collect, render};
use crate::error::ApiError;
use crate::http::guard::Caller;
use crate::http::json::Body;
use crate::http::stream;
use crate::openai::form::form_of_type;
use crate::request::SamplingFields;

/// The paths of this interface begin so.
pub const PATH: &str = "/v1/messages";

/// Answers a conversation, in Anthropic's words
#[utoipa::path(post, path = "/v1/messages", request_body = MessagesRequest,
               responses((status = 200, body = MessageAnswer), (status = 400, body = MessagesErrorBody),
                         (status = 529, body = MessagesErrorBody)))]
pub async fn post(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    body: Body,
) -> Result<Response, ApiError> {
    let (fields, prepared, events) = begin(&app, caller, move |app| read(app, &body)).await?;
    let mut answer = prepared.answer();
    let wants_diagnostics = fields.diagnostics.is_some();
    let stops = prepared.options.stop.clone();
    if fields.stream == Some(true) {
        let heartbeat = app.options.heartbeat;
        let render = MessageStream::new(app, answer, stops, wants_diagnostics);
        return stream::respond(events, render, heartbeat).await;
    }
    collect(&app.served.tokenizer, events, std::slice::from_mut(&mut answer)).await?;
    Ok(Json(MessageAnswer::of(&answer, &app.served.id, &stops, wants_diagnostics)).into_response())
}

fn read(app: &App, body: &Body) -> Result<(MessagesFields, Turns, Wishes), ApiError> {
    body.refuse(&REFUSED)?;
    let fields: MessagesFields = body.read()?;
    let mut sampling: SamplingFields = body.read()?;
    app.check_model(fields.model.as_deref())?;
    let Some(max_tokens) = fields.max_tokens else {
        return Err(ApiError::invalid(
            "max_tokens",
            "max_tokens is missing: name the most tokens of the answer",
        ));
    };
    if max_tokens < 1 {
        let message = format!("max_tokens is {max_tokens}, but must be at least 1");
        return Err(ApiError::invalid("max_tokens", message));
    }
    sampling.stop = fields.stop_sequences.clone().map(crate::request::OneOrMany::Many);
    let output = fields.output_config.as_ref();
    let form = match output.and_then(|config| config.format.as_ref()) {
        Some(format) => {
            let places = ("output_config.format", "schema");
            form_of_type(app, &format.r#type, format.schema.as_ref(), places)?
        }
        None => None,
    };
    let thinking_budget = match &fields.thinking {
        Some(thinking) => thinking.budget()?,
        None => None,
    };
    let wishes = Wishes { sampling, n_logprobs: None, form, thinking_budget };
    let turns = turns(app, &fields)?;
    Ok((fields, turns, wishes))
}

fn turns(app: &App, fields: &MessagesFields) -> Result<Turns, ApiError> {
    let effort = match &fields.thinking {
        Some(thinking) if thinking.is_off()? => Some("none".to_string()),
        _ => fields.output_config.as_ref().and_then(|config| config.effort.clone()),
    };
    let values = fields.tools.as_deref().unwrap_or_default();
    let keep = app.options.keep_billing_header;
    Ok(Turns {
        messages: blocks::read(fields.system.as_ref(), &fields.messages, keep)?,
        field: "messages",
        tools: tools::read(app, values, fields.tool_choice.as_ref())?,
        effort,
        variables: fields.chat_template_kwargs.clone().unwrap_or_default(),
        opens_answer: true,
    })
}

/// Tokens of a prompt.
#[derive(Serialize, ToSchema)]
pub struct TokenCount {
    /// how many
    input_tokens: usize,
}

/// Counts the tokens of a prompt
#[utoipa::path(post, path = "/v1/messages/count_tokens", request_body = MessagesRequest,
               responses((status = 200, body = TokenCount), (status = 400, body = MessagesErrorBody)))]
pub async fn count(State(app): State<Arc<App>>, body: Body) -> Result<Json<TokenCount>, ApiError> {
    aside(move || {
        body.refuse(&REFUSED)?;
        let fields: MessagesFields = body.read()?;
        app.check_model(fields.model.as_deref())?;
        Ok(Json(TokenCount { input_tokens: render(&app, &turns(&app, &fields)?)?.prompt.len() }))
    })
    .await
}

/// Reads a body up to where the model is needed.
pub(crate) fn read_body(body: &Body) {
    if let Ok(fields) = body.read::<MessagesFields>() {
        let _ = blocks::read(fields.system.as_ref(), &fields.messages, false);
        let _ = fields.thinking.map(|thinking| (thinking.budget().is_ok(), thinking.is_off().is_ok()));
        let values: Vec<Value> = fields.tools.unwrap_or_default();
        tools::read_body(&values, fields.tool_choice.as_ref());
    }
}
