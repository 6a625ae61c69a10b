//! `/v1/chat/completions`

mod answer;
mod fields;
mod prepare;
mod streamed;
mod tools;

use std::sync::Arc;

use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use lossy_engine::GenerationOptions;
use lossy_output::Tool;
use serde::Serialize;
use utoipa::ToSchema;

use self::answer::{Answer, AnswerMessage};
pub use self::fields::{ChatFields, ChatRequest};
use self::prepare::{Prepared, prepare};
pub use self::prepare::{RenderedChat, render};
use self::streamed::ChatStream;
pub use self::tools::RequestTools;
use super::form::FormFields;
use super::logprobs::ChatLogprobs;
use super::usage::{Head, Usage};
use crate::app::{App, aside};
use crate::error::{ApiError, ErrorBody};
use crate::http::guard::Caller;
use crate::http::json::Body;
use crate::http::stream::{self, Events};
use crate::request::SamplingFields;
use crate::work::{Event, Timings};

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
    let app_aside = app.clone();
    let (prepared, events) = aside(move || {
        let prepared = prepare(&app_aside, &body)?;
        let events = prepared.run(&app_aside, &caller)?;
        Ok((prepared, events))
    })
    .await?;
    let answers: Vec<Answer> = (0..prepared.n).map(|_| Answer::new(prepared.parser())).collect();
    let heartbeat = app.options.heartbeat;
    if prepared.fields.stream == Some(true) {
        let render = ChatStream::new(app, &prepared, answers);
        return stream::respond(events, render, heartbeat).await;
    }
    let completion = collect(&app, &prepared, events, answers).await?;
    Ok(axum::Json(completion).into_response())
}

async fn collect(
    app: &App,
    prepared: &Prepared,
    mut events: Events,
    mut answers: Vec<Answer>,
) -> Result<ChatCompletion, ApiError> {
    while answers.iter().any(|answer| answer.end.is_none()) {
        match events.recv().await {
            Some((index, Event::Step(step))) => {
                answers[index].push(&app.served.tokenizer, &step);
            }
            Some((index, Event::Done(outcome))) => {
                answers[index].finish(*outcome);
            }
            Some((_, Event::Failed(error))) => return Err(error),
            Some((_, Event::Admitted(_) | Event::Reading(_) | Event::Prompt(_))) => {}
            None => return Err(ApiError::unavailable("the engine has ended in the middle of the answer")),
        }
    }
    let ends = || answers.iter().flat_map(|answer| &answer.end).map(|(_, timings)| timings);
    let usage = Usage::of(ends());
    let timings = ends().next().cloned().unwrap_or_default();
    let has_logprobs = prepared.options.sampling.n_logprobs.is_some();
    let choices = answers.into_iter().enumerate().map(|(index, mut answer)| {
        let finish_reason = answer.end.as_ref().map_or("stop", |(reason, _)| reason);
        let logprobs = has_logprobs.then(|| ChatLogprobs { content: std::mem::take(&mut answer.logprobs) });
        Choice { index, message: answer.message(), logprobs, finish_reason }
    });
    let choices = choices.collect();
    let head = Head::new("chatcmpl", "chat.completion", &app.served.id);
    Ok(ChatCompletion { head, choices, usage, timings })
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
