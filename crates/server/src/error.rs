//! What a client is told when its request cannot be answered, in OpenAI's shape.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use lossy_engine::{RequestError, RequestErrorKind};
use lossy_tokenizer::TokenizerError;
use serde::Serialize;
use utoipa::ToSchema;

/// Seconds after which a client may ask again when the queue is full.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("5");

/// An answer that is an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    kind: Kind,
    /// what is wrong, with the values, and what to do
    message: String,
    /// the field of the request that it is about
    param: Option<String>,
}

/// What went wrong; each has its status and its words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Invalid,
    TooLong,
    Unauthorized,
    Forbidden,
    NotFound,
    NoModel,
    TooSlow,
    TooLarge,
    Full,
    NotImplemented,
    Unavailable,
    OutOfMemory,
    Internal,
}

impl Kind {
    /// Status, `type` and `code` of the body.
    fn words(self) -> (StatusCode, &'static str, Option<&'static str>) {
        const INVALID: &str = "invalid_request_error";
        match self {
            Kind::Invalid => (StatusCode::BAD_REQUEST, INVALID, None),
            Kind::TooLong => (StatusCode::BAD_REQUEST, INVALID, Some("context_length_exceeded")),
            Kind::Unauthorized => (StatusCode::UNAUTHORIZED, "authentication_error", Some("invalid_api_key")),
            Kind::Forbidden => (StatusCode::FORBIDDEN, "permission_error", None),
            Kind::NotFound => (StatusCode::NOT_FOUND, "not_found_error", None),
            Kind::NoModel => (StatusCode::NOT_FOUND, "not_found_error", Some("model_not_found")),
            Kind::TooSlow => (StatusCode::REQUEST_TIMEOUT, INVALID, None),
            Kind::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, INVALID, None),
            Kind::Full => (StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", Some("queue_full")),
            Kind::NotImplemented => (StatusCode::NOT_IMPLEMENTED, "not_supported_error", None),
            Kind::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "unavailable_error", None),
            Kind::OutOfMemory => {
                (StatusCode::SERVICE_UNAVAILABLE, "out_of_memory_error", Some("kv_budget_exceeded"))
            }
            Kind::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "server_error", None),
        }
    }
}

/// The body of an error.
#[derive(Serialize, ToSchema)]
pub struct ErrorBody {
    error: ErrorDetail,
}

/// What is wrong.
#[derive(Serialize, ToSchema)]
struct ErrorDetail {
    message: String,
    r#type: &'static str,
    param: Option<String>,
    code: Option<&'static str>,
}

impl ApiError {
    fn new(kind: Kind, message: impl Into<String>) -> ApiError {
        ApiError { kind, message: message.into(), param: None }
    }

    /// A field of the request is wrong.
    pub fn invalid(param: impl Into<String>, message: impl Into<String>) -> ApiError {
        ApiError { param: Some(param.into()), ..ApiError::new(Kind::Invalid, message) }
    }

    /// The body as a whole is wrong.
    pub fn bad_request(message: impl Into<String>) -> ApiError {
        ApiError::new(Kind::Invalid, message)
    }

    /// A prompt that does not fit, in words that clients look for.
    pub fn too_long(param: &str, n_prompt: usize, n_ctx: usize) -> ApiError {
        let message = format!(
            "This model's maximum context length is {n_ctx} tokens, but the prompt has {n_prompt}: shorten it, or start the \
             server with a larger --ctx-size"
        );
        ApiError { param: Some(param.to_string()), ..ApiError::new(Kind::TooLong, message) }
    }

    /// No key, or a wrong one.
    pub fn unauthorized() -> ApiError {
        let message = "this server needs an API key: send it as `Authorization: Bearer KEY`";
        ApiError::new(Kind::Unauthorized, message)
    }

    /// A host or web page that may not use this server.
    pub fn forbidden(message: impl Into<String>) -> ApiError {
        ApiError::new(Kind::Forbidden, message)
    }

    /// There is no such thing.
    pub fn not_found(message: impl Into<String>) -> ApiError {
        ApiError::new(Kind::NotFound, message)
    }

    /// Another model is served.
    pub fn no_model(message: impl Into<String>) -> ApiError {
        ApiError { param: Some("model".to_string()), ..ApiError::new(Kind::NoModel, message) }
    }

    /// The body does not come.
    pub fn too_slow(message: impl Into<String>) -> ApiError {
        ApiError::new(Kind::TooSlow, message)
    }

    /// The body is longer than the server reads.
    pub fn too_large(message: impl Into<String>) -> ApiError {
        ApiError::new(Kind::TooLarge, message)
    }

    /// As many requests wait as may.
    pub fn full(n_waiting: usize) -> ApiError {
        ApiError::new(
            Kind::Full,
            format!("{n_waiting} requests wait already, which is the limit: try again later"),
        )
    }

    /// What another kind of model or program does.
    pub fn not_implemented(message: impl Into<String>) -> ApiError {
        ApiError::new(Kind::NotImplemented, message)
    }

    /// The server ends, or its engine has ended.
    pub fn unavailable(message: impl Into<String>) -> ApiError {
        ApiError::new(Kind::Unavailable, message)
    }

    /// The program is at fault.
    pub fn internal(message: impl Into<String>) -> ApiError {
        ApiError::new(Kind::Internal, message)
    }

    /// A prompt for which the KV cache can never have room.
    pub fn over_budget(needed: usize, budget: usize) -> ApiError {
        let message = format!(
            "the prompt needs {needed} bytes of KV cache, but the server may use {budget}: shorten it, or start the server \
             with a larger --kv-budget"
        );
        ApiError::new(Kind::TooLong, message)
    }

    /// What the client is told.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        self.kind.words().0
    }

    /// The body, also for an error that comes within a stream.
    pub fn body(&self) -> ErrorBody {
        let (_, r#type, code) = self.kind.words();
        ErrorBody {
            error: ErrorDetail { message: self.message.clone(), r#type, param: self.param.clone(), code },
        }
    }
}

impl From<RequestError> for ApiError {
    fn from(error: RequestError) -> ApiError {
        let kind = match error.kind() {
            RequestErrorKind::BadRequest => Kind::Invalid,
            RequestErrorKind::TooLong => Kind::TooLong,
            RequestErrorKind::OutOfMemory => Kind::OutOfMemory,
            RequestErrorKind::Stopped => Kind::Unavailable,
            RequestErrorKind::Internal => Kind::Internal,
        };
        ApiError::new(kind, error.to_string())
    }
}

impl From<TokenizerError> for ApiError {
    /// What a template refuses, or a text that cannot be encoded, is the request's fault.
    fn from(error: TokenizerError) -> ApiError {
        ApiError::invalid("messages", error.to_string())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status(), axum::Json(self.body())).into_response();
        if self.kind == Kind::Full {
            response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        if self.kind == Kind::Unauthorized {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        // For an interface that has words of its own.
        response.extensions_mut().insert(self);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_openais_shape() {
        let body = serde_json::to_value(ApiError::invalid("temperature", "it is -1").body()).unwrap();
        let wanted = serde_json::json!({"error": {
            "message": "it is -1", "type": "invalid_request_error", "param": "temperature", "code": null
        }});
        assert_eq!(body, wanted);
    }

    #[test]
    fn a_full_queue_says_when_to_come_back() {
        let response = ApiError::full(3).into_response();
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(response.headers()[header::RETRY_AFTER], "5");
    }

    #[test]
    fn a_prompt_that_is_too_long_names_both_numbers() {
        let error = ApiError::too_long("messages", 9000, 8192);
        assert_eq!(error.status(), StatusCode::BAD_REQUEST);
        assert!(error.message().contains("9000") && error.message().contains("8192"));
    }
}
