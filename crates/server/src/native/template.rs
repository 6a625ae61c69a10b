//! `/apply-template`: the prompt that a conversation becomes.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::{App, aside};
use crate::conversation::{Rendered, render};
use crate::error::{ApiError, ErrorBody};
use crate::http::json::Body;
use crate::openai::chat::{ChatFields, ChatRequest, turns};

/// A prompt.
#[derive(Serialize, ToSchema)]
pub struct Applied {
    prompt: String,
}

/// The prompt of a chat request's body.
pub fn rendered(app: &App, body: &Body) -> Result<Rendered, ApiError> {
    let fields: ChatFields = body.read()?;
    render(app, &turns(app, &fields)?)
}

/// The prompt that a conversation becomes, as text
#[utoipa::path(post, path = "/apply-template", request_body = ChatRequest,
               responses((status = 200, body = Applied), (status = 400, body = ErrorBody)))]
pub async fn apply(State(app): State<Arc<App>>, body: Body) -> Result<Json<Applied>, ApiError> {
    aside(move || {
        let ids = rendered(&app, &body)?.prompt;
        Ok(Json(Applied { prompt: app.served.tokenizer.decode(&ids, false) }))
    })
    .await
}
