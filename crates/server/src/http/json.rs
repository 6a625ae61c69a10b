//! A body as JSON, and what of it a handler reads.

use std::error::Error;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tower_http::timeout::TimeoutError;

use crate::error::ApiError;

/// A JSON object. What it says of the same thing twice, it says last.
pub struct Body(Value);

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Body, ApiError> {
        let bytes = Bytes::from_request(request, state).await.map_err(unread)?;
        // A parser that nests deeper than 128 levels stops with an error.
        let value: Value = serde_json::from_slice(&bytes)
            .map_err(|error| ApiError::bad_request(format!("the body is not JSON: {error}")))?;
        Body::of(value)
    }
}

/// What is said of a body that is longer than the server reads.
pub const TOO_LARGE: &str = "the body is longer than this server reads: start it with a larger --max-body";

/// Whether an error is one of time, or was caused by one.
fn is_of_time(error: &(dyn Error + 'static)) -> bool {
    error.is::<TimeoutError>() || error.source().is_some_and(is_of_time)
}

fn unread(error: BytesRejection) -> ApiError {
    if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
        return ApiError::too_large(TOO_LARGE);
    }
    if is_of_time(&error) {
        return ApiError::too_slow("the rest of the body did not come in time");
    }
    ApiError::bad_request(format!("the body cannot be read: {error}"))
}

impl Body {
    /// Of a parsed body.
    ///
    /// # Errors
    /// It is no object.
    pub fn of(value: Value) -> Result<Body, ApiError> {
        match value.is_object() {
            true => Ok(Body(value)),
            false => Err(ApiError::bad_request("the body is not a JSON object")),
        }
    }

    /// The fields that `T` has; others are left alone.
    ///
    /// # Errors
    /// A field has another type than it should: the error names it.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        from_value(&self.0, "")
    }

    /// The field `name` where it is a text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0[name].as_str()
    }

    /// Fails if a field is there that changes an answer, and is not known here. `null` and `false` change nothing.
    ///
    /// # Errors
    /// There is one; the error says what to do.
    pub fn refuse(&self, fields: &[(&str, &str)]) -> Result<(), ApiError> {
        let is_set = |name: &str| !matches!(self.0.get(name), None | Some(Value::Null | Value::Bool(false)));
        match fields.iter().find(|(name, _)| is_set(name)) {
            Some((name, advice)) => {
                Err(ApiError::invalid(*name, format!("{name} is not supported: {advice}")))
            }
            None => Ok(()),
        }
    }
}

/// A value as `T`; `place` is where in the body it stands.
///
/// # Errors
/// It is something else; the error names the place.
pub fn from_value<T: DeserializeOwned>(value: &Value, place: &str) -> Result<T, ApiError> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let path = match (place, path.as_str()) {
            (place, ".") => place.to_string(),
            ("", path) => path.to_string(),
            (place, path) => format!("{place}.{path}"),
        };
        let message = error.into_inner().to_string();
        let missing = message.strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
        let path = match missing {
            Some(field) if path.is_empty() => field.to_string(),
            Some(field) => format!("{path}.{field}"),
            None => path,
        };
        match path.is_empty() {
            true => ApiError::bad_request(message),
            false => ApiError::invalid(path.clone(), format!("{path}: {message}")),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    struct Fields {
        n: Option<u32>,
        list: Option<Vec<u32>>,
    }

    fn read(json: &str) -> Result<Fields, String> {
        Body::of(serde_json::from_str(json).unwrap())
            .unwrap()
            .read()
            .map_err(|error| serde_json::to_string(&error.body()).unwrap())
    }

    #[test]
    fn a_wrong_field_is_named_and_an_unknown_one_is_left_alone() {
        assert_eq!(read(r#"{"n": 3, "other": "x"}"#).unwrap().n, Some(3));
        assert!(read(r#"{"n": null}"#).unwrap().n.is_none());
        assert!(read(r#"{"n": "3"}"#).unwrap_err().contains(r#""param":"n""#));
        assert!(read(r#"{"n": -3}"#).unwrap_err().contains(r#""param":"n""#));
        let error = read(r#"{"list": [1, 2, "x"]}"#).unwrap_err();
        assert!(error.contains(r#""param":"list[2]""#), "{error}");
        assert!(read("{}").unwrap().list.is_none());
    }
}
