//! Errors in Anthropic's shape.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::ApiError;

/// What Anthropic answers where others answer 429 or 503: its SDKs try again.
const OVERLOADED: u16 = 529;

/// The body of an error.
#[derive(Serialize, ToSchema)]
pub struct MessagesErrorBody {
    r#type: &'static str,
    error: MessagesError,
}

/// What is wrong.
#[derive(Serialize, ToSchema)]
struct MessagesError {
    r#type: &'static str,
    message: String,
}

impl MessagesErrorBody {
    /// Of an error.
    pub fn of(error: &ApiError) -> MessagesErrorBody {
        MessagesErrorBody {
            r#type: "error",
            error: MessagesError { r#type: words(error.status()).1, message: error.message().to_string() },
        }
    }
}

/// The status and the type.
fn words(status: StatusCode) -> (StatusCode, &'static str) {
    let overloaded = StatusCode::from_u16(OVERLOADED).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    match status {
        StatusCode::UNAUTHORIZED => (status, "authentication_error"),
        StatusCode::FORBIDDEN => (status, "permission_error"),
        StatusCode::NOT_FOUND => (status, "not_found_error"),
        StatusCode::PAYLOAD_TOO_LARGE => (status, "request_too_large"),
        StatusCode::REQUEST_TIMEOUT => (status, "timeout_error"),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => (overloaded, "overloaded_error"),
        status if status.is_client_error() => (status, "invalid_request_error"),
        status => (status, "api_error"),
    }
}

/// A response in Anthropic's words, if it is an error.
pub fn in_its_words(response: Response) -> Response {
    let Some(error) = response.extensions().get::<ApiError>().cloned() else { return response };
    let (status, _) = words(error.status());
    let mut told = (status, axum::Json(MessagesErrorBody::of(&error))).into_response();
    for (name, value) in response.headers() {
        if !told.headers().contains_key(name) && *name != axum::http::header::CONTENT_LENGTH {
            told.headers_mut().insert(name.clone(), value.clone());
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_anthropics_shape() {
        let body = serde_json::to_value(MessagesErrorBody::of(&ApiError::invalid("x", "it is -1"))).unwrap();
        let error = serde_json::json!({"type": "invalid_request_error", "message": "it is -1"});
        assert_eq!(body, serde_json::json!({"type": "error", "error": error}));
    }

    #[test]
    fn a_full_queue_is_an_overload_and_says_when_to_come_back() {
        let response = in_its_words(ApiError::full(3).into_response());
        assert_eq!(response.status().as_u16(), 529);
        assert_eq!(response.headers()["retry-after"], "5");
        assert_eq!(in_its_words(StatusCode::NO_CONTENT.into_response()).status(), StatusCode::NO_CONTENT);
    }
}
