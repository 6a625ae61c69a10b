//! `/v1/chat/completions`

mod answer;
mod fields;
mod prepare;
mod streamed;

use std::sync::Arc;

use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use lossy_engine::GenerationOptions;
use lossy_output::Tool;
use serde::Serialize;
use utoipa::ToSchema;

use self::answer::{AnswerMessage, finish_reason};
use self::fields::REFUSED;
pub use self::fields::{ChatFields, ChatRequest};
pub use self::prepare::{budget, turns};
use self::streamed::ChatStream;
use super::form::FormFields;
use super::rendered::{Asked, RenderedPrompt};
use super::usage::{Head, Usage};
use crate::app::{App, aside};
use crate::conversation::{self, Answer, ChatLogprobs, begin, collect};
use crate::error::{ApiError, ErrorBody};
use crate::http::guard::Caller;
use crate::http::json::Body;
use crate::http::stream;
use crate::request::SamplingFields;
use crate::work::Timings;

/// A whole answer.
#[derive(Serialize, ToSchema)]
pub struct ChatCompletion {
    #[serde(flatten)]
    head: Head,
    choices: Vec<Choice>,
    usage: Usage,
    /// of the first answer
    timings: Timings,
}

/// One of several answers.
#[derive(Serialize, ToSchema)]
pub struct Choice {
    index: usize,
    message: AnswerMessage,
    logprobs: Option<ChatLogprobs>,
    finish_reason: &'static str,
}

/// Answers a conversation
#[utoipa::path(post, path = "/v1/chat/completions", request_body = ChatRequest,
               responses((status = 200, body = ChatCompletion), (status = 400, body = ErrorBody),
                         (status = 429, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn post(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    body: Body,
) -> Result<Response, ApiError> {
    let (fields, prepared, events) = begin(&app, caller, move |app| prepare::read(app, &body)).await?;
    let has_logprobs = prepared.options.sampling.n_logprobs.is_some();
    let mut answers = prepared.answers();
    if fields.stream == Some(true) {
        let heartbeat = app.options.heartbeat;
        let render = ChatStream::new(app, &fields, &prepared, answers);
        return stream::respond(events, render, heartbeat).await;
    }
    collect(&app.served.tokenizer, events, &mut answers).await?;
    Ok(axum::Json(completion(&app, answers, has_logprobs)).into_response())
}

fn completion(app: &App, answers: Vec<Answer>, has_logprobs: bool) -> ChatCompletion {
    let ends = || answers.iter().flat_map(|answer| &answer.end).map(|end| &end.timings);
    let usage = Usage::of(ends());
    let timings = ends().next().cloned().unwrap_or_default();
    let choices = answers.into_iter().enumerate().map(|(index, mut answer)| {
        let finish_reason = answer.end.as_ref().map_or("stop", |end| finish_reason(end.reason));
        let logprobs = has_logprobs.then(|| ChatLogprobs { content: std::mem::take(&mut answer.logprobs) });
        Choice { index, message: AnswerMessage::of(&answer), logprobs, finish_reason }
    });
    let choices = choices.collect();
    let head = Head::new("chatcmpl", "chat.completion", &app.served.id);
    ChatCompletion { head, choices, usage, timings }
}

/// The tokens of a conversation's prompt; no text is generated
#[utoipa::path(post, path = "/v1/chat/completions/render", request_body = ChatRequest,
               responses((status = 200, body = RenderedPrompt), (status = 400, body = ErrorBody)))]
pub async fn render(State(app): State<Arc<App>>, body: Body) -> Result<axum::Json<RenderedPrompt>, ApiError> {
    aside(move || {
        body.refuse(&REFUSED)?;
        let fields: ChatFields = body.read()?;
        app.check_model(fields.model.as_deref())?;
        let prompt = conversation::render(&app, &turns(&app, &fields)?)?.prompt;
        let ChatFields { model, stream, stream_options, .. } = fields;
        let field = "messages";
        let asked = Asked { prefix: "chatcmpl-", field, model, stream, stream_options, max_tokens: None };
        Ok(axum::Json(asked.with(&app, &body.read()?, prompt)?))
    })
    .await
}

/// Reads a body up to where the model is needed.
pub(crate) fn read_body(body: &Body) {
    if let Ok(fields) = body.read::<ChatFields>() {
        let _ = super::messages::read(&fields.messages, false);
        fields.tools.iter().flatten().for_each(|tool| drop(Tool::from_openai(tool)));
    }
    let _ = body.read::<FormFields>();
    if let Ok(sampling) = body.read::<SamplingFields>() {
        let _ = sampling.options(&GenerationOptions::default(), 1000, 0);
        let _ = (sampling.n(16), sampling.seed(None));
    }
}
