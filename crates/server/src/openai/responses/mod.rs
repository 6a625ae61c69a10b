//! `/v1/responses`

mod fields;
pub(super) mod items;
mod output;
mod streamed;
mod tools;

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use self::fields::REFUSED;
pub use self::fields::{ResponseFields, ResponseRequest};
pub use self::output::{ResponseObject, ResponseUsage};
use self::streamed::ResponseStream;
use super::form::form_of_type;
use super::rendered::{Asked, RenderedPrompt};
use crate::app::{App, aside};
use crate::conversation::{Turns, Wishes, begin, render};
use crate::error::{ApiError, ErrorBody};
use crate::http::guard::Caller;
use crate::http::json::Body;
use crate::http::stream::{self, Render};
use crate::request::SamplingFields;

/// Answers items
#[utoipa::path(post, path = "/v1/responses", request_body = ResponseRequest,
               responses((status = 200, body = ResponseObject), (status = 400, body = ErrorBody),
                         (status = 429, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn post(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    body: Body,
) -> Result<Response, ApiError> {
    let (request, prepared, mut events) = begin(&app, caller, move |app| read(app, &body)).await?;
    let Request { fields, custom } = request;
    let heartbeat = app.options.heartbeat;
    let sampling = &prepared.options.sampling;
    let response = ResponseObject::new(&fields, &app.served.id, (sampling.temperature, sampling.top_p));
    let mut render = ResponseStream::new(app, response, prepared.answer(), custom);
    if fields.stream == Some(true) {
        return stream::respond(events, render, heartbeat).await;
    }
    while !render.is_done() {
        let (index, event) = stream::next(&mut events).await?;
        render.event(index, event);
    }
    Ok(Json(render.response).into_response())
}

/// What is left of a request beside its conversation.
struct Request {
    fields: ResponseFields,
    /// names of tools whose input is text
    custom: BTreeSet<String>,
}

fn read(app: &App, body: &Body) -> Result<(Request, Turns, Wishes), ApiError> {
    let (fields, sampling) = fields(app, body)?;
    let (turns, custom) = turns(app, &fields)?;
    let format = fields.text.as_ref().and_then(|text| text.format.as_ref());
    let form = match format {
        Some(format) => form_of_type(app, &format.r#type, format.schema.as_ref(), ("text.format", "schema"))?,
        None => None,
    };
    let includes = |what: &str| fields.include.iter().flatten().any(|included| included == what);
    let n_logprobs = match fields.top_logprobs {
        Some(n) if n > 0 => Some(n as usize),
        _ => includes("message.output_text.logprobs").then_some(0),
    };
    let thinking_budget = super::chat::budget("thinking_token_budget", fields.thinking_token_budget)?;
    let wishes = Wishes { sampling, n_logprobs, form, thinking_budget };
    Ok((Request { fields, custom }, turns, wishes))
}

fn fields(app: &App, body: &Body) -> Result<(ResponseFields, SamplingFields), ApiError> {
    body.refuse(&REFUSED)?;
    let fields: ResponseFields = body.read()?;
    let mut sampling: SamplingFields = body.read()?;
    app.check_model(fields.model.as_deref())?;
    if body.text("truncation").is_some_and(|word| word != "disabled") {
        let message = "truncation may be disabled only: this server leaves nothing out of a prompt";
        return Err(ApiError::invalid("truncation", message));
    }
    if let Some(n) = fields.max_output_tokens {
        if n < 1 {
            let message = format!("max_output_tokens is {n}, but must be at least 1");
            return Err(ApiError::invalid("max_output_tokens", message));
        }
        sampling.max_completion_tokens = Some(n);
    }
    Ok((fields, sampling))
}

fn turns(app: &App, fields: &ResponseFields) -> Result<(Turns, BTreeSet<String>), ApiError> {
    let parallel = fields.parallel_tool_calls.unwrap_or(true);
    let values = fields.tools.as_deref().unwrap_or_default();
    let (tools, custom) = tools::read(app, values, fields.tool_choice.as_ref(), parallel)?;
    let turns = Turns {
        messages: items::read(
            fields.instructions.as_deref(),
            &fields.input,
            app.options.keep_billing_header,
        )?,
        field: "input",
        tools,
        effort: fields.reasoning.as_ref().and_then(|reasoning| reasoning.effort.clone()),
        variables: fields.chat_template_kwargs.clone().unwrap_or_default(),
        opens_answer: true,
    };
    Ok((turns, custom))
}

/// Tokens of a prompt.
#[derive(Serialize, ToSchema)]
pub struct InputTokens {
    object: &'static str,
    /// how many
    input_tokens: usize,
}

/// Counts the tokens of a prompt
#[utoipa::path(post, path = "/v1/responses/input_tokens", request_body = ResponseRequest,
               responses((status = 200, body = InputTokens), (status = 400, body = ErrorBody)))]
pub async fn count(State(app): State<Arc<App>>, body: Body) -> Result<Json<InputTokens>, ApiError> {
    aside(move || {
        body.refuse(&REFUSED)?;
        let fields: ResponseFields = body.read()?;
        app.check_model(fields.model.as_deref())?;
        let rendered = render(&app, &turns(&app, &fields)?.0)?;
        Ok(Json(InputTokens { object: "response.input_tokens", input_tokens: rendered.prompt.len() }))
    })
    .await
}

/// The tokens of a prompt; no text is generated
#[utoipa::path(post, path = "/v1/responses/render", request_body = ResponseRequest,
               responses((status = 200, body = RenderedPrompt), (status = 400, body = ErrorBody)))]
pub async fn render_prompt(
    State(app): State<Arc<App>>,
    body: Body,
) -> Result<Json<RenderedPrompt>, ApiError> {
    aside(move || {
        let (fields, sampling) = fields(&app, &body)?;
        let prompt = render(&app, &turns(&app, &fields)?.0)?.prompt;
        let ResponseFields { model, stream, .. } = fields;
        let (field, stream_options) = ("input", None);
        let asked = Asked { prefix: "resp_", field, model, stream, stream_options, max_tokens: None };
        Ok(Json(asked.with(&app, &sampling, prompt)?))
    })
    .await
}

/// Reads a body up to where the model is needed.
pub(crate) fn read_body(body: &Body) {
    if let Ok(fields) = body.read::<ResponseFields>() {
        let _ = items::read(fields.instructions.as_deref(), &fields.input, false);
        let values: Vec<Value> = fields.tools.unwrap_or_default();
        tools::read_body(&values, fields.tool_choice.as_ref());
    }
}
