//! Which path is answered by whom, and what all answers have in common.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::header::{CONTENT_LENGTH, HOST};
use axum::http::{Method, Request, StatusCode, Uri, Version};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use tower_http::timeout::RequestBodyTimeoutLayer;
use utoipa::OpenApi;

use crate::anthropic;
use crate::app::App;
use crate::error::ApiError;
use crate::http::guard::Caller;
use crate::http::json::TOO_LARGE;
use crate::native::{cache, status, template, tokens};
use crate::openai::{chat, completions, decisions, models, responses};
use crate::openapi::Description;
use crate::page;

/// All endpoints.
pub fn router(app: Arc<App>) -> Router {
    let limits = app.options.limits;
    let page = if app.options.page { page::routes() } else { Router::new() };
    page.route("/v1/chat/completions", post(chat::post))
        .route("/v1/chat/completions/render", post(chat::render))
        .route("/v1/completions", post(completions::post))
        .route("/v1/completions/render", post(completions::render))
        .route("/v1/decisions", post(decisions::post))
        .route("/v1/responses", post(responses::post))
        .route("/v1/responses/input_tokens", post(responses::count))
        .route("/v1/responses/render", post(responses::render_prompt))
        .route(anthropic::PATH, post(anthropic::post))
        .route("/v1/messages/count_tokens", post(anthropic::count))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{*id}", get(models::get))
        .route("/tokenize", post(tokens::tokenize))
        .route("/detokenize", post(tokens::detokenize))
        .route("/tokenizer_info", get(tokens::info))
        .route("/apply-template", post(template::apply))
        .route("/health", get(status::health))
        .route("/v1/health", get(status::health))
        .route("/version", get(status::version))
        .route("/server_info", get(status::server_info))
        .route("/get_server_info", get(status::server_info))
        .route("/model_info", get(status::model_info))
        .route("/get_model_info", get(status::model_info))
        .route("/get_load", get(status::load))
        .route("/props", get(status::props))
        .route("/slots", get(status::slots))
        .route("/metrics", get(status::metrics))
        .route("/cache", delete(cache::purge))
        .route("/openapi.json", get(|| async { Json(Description::openapi()) }))
        .route("/v1/embeddings", post(|| other_model("/v1/embeddings", "an embedding model")))
        .route("/v1/rerank", post(|| other_model("/v1/rerank", "a reranking model")))
        .route("/rerank", post(|| other_model("/rerank", "a reranking model")))
        .route("/v1/audio/transcriptions", post(|| other_model("/v1/audio/transcriptions", "a speech model")))
        .route("/v1/images/generations", post(|| other_model("/v1/images/generations", "an image model")))
        .fallback(nowhere)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(limits.body))
        .layer(RequestBodyTimeoutLayer::new(limits.patience))
        .layer(from_fn_with_state(app.clone(), guarded))
        .with_state(app)
}

async fn other_model(path: &'static str, kind: &'static str) -> ApiError {
    ApiError::not_implemented(format!("{path} needs {kind}, but a model that generates text is served here"))
}

async fn nowhere(uri: Uri) -> ApiError {
    ApiError::not_found(format!("there is nothing at {}: /openapi.json says what there is", uri.path()))
}

async fn wrong_method(method: Method, uri: Uri) -> Response {
    let error = ApiError::bad_request(format!(
        "{} does not answer {method}: /openapi.json says what does",
        uri.path()
    ));
    (StatusCode::METHOD_NOT_ALLOWED, Json(error.body())).into_response()
}

/// Lets nobody in who may not use the server, and tells browsers who may.
async fn guarded(State(app): State<Arc<App>>, mut request: Request<Body>, next: Next) -> Response {
    let (method, headers) = (request.method().clone(), request.headers().clone());
    let is_anthropics = request.uri().path().starts_with(anthropic::PATH);
    // A browser sends no key with the question whether it may.
    let is_question = method == Method::OPTIONS && headers.contains_key("access-control-request-method");
    let announced = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    let path = request.uri().path();
    let may_ask = match app.options.page && page::has(path) {
        // The page asks for the key.
        true => app.guard.check_page(&headers).map(|()| Caller::default()),
        false => app.guard.check(path, &headers),
    };
    let checked = match may_ask {
        _ if request.version() == Version::HTTP_11 && !headers.contains_key(HOST) => {
            Err(ApiError::bad_request("a request of HTTP/1.1 names its host"))
        }
        Ok(_) if announced.is_some_and(|bytes| bytes > app.options.limits.body as u64) => {
            Err(ApiError::too_large(TOO_LARGE))
        }
        checked => checked,
    };
    let mut response = match checked {
        Err(error) if !(is_question && error.status() == StatusCode::UNAUTHORIZED) => error.into_response(),
        checked => {
            request.extensions_mut().insert(checked.unwrap_or_default());
            next.run(request).await
        }
    };
    if is_anthropics {
        response = anthropic::in_its_words(response);
    }
    app.guard.allow_page(&method, &headers, &mut response);
    response
}
