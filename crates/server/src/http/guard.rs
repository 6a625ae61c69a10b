//! Who may ask: hosts, web pages, and keys.
//!
//! A server on this machine is reached by every web page that its user opens, unless it looks at two headers. `Host` is the
//! name that the browser thinks it speaks to: with another name than this machine's, somebody has pointed their own name here
//! (DNS rebinding). `Origin` is the page that asks.

use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use subtle::ConstantTimeEq;

use crate::error::ApiError;
use crate::options::{Access, Address};

/// Who may use a server.
#[derive(Clone, Debug)]
pub struct Guard {
    access: Access,
    is_local: bool,
}

/// Who asks: the key that was sent, where keys are needed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// empty where no key is needed
    pub key: Vec<u8>,
}

/// Paths that answer without a key: whoever watches over a server has none.
const OPEN: [&str; 3] = ["/health", "/v1/health", "/version"];

impl Guard {
    /// For a server at an address.
    pub fn new(access: Access, address: &Address) -> Guard {
        Guard { access, is_local: address.is_local() }
    }

    /// Lets a request pass, or says why not.
    ///
    /// # Errors
    /// Its host or page may not use this server, or it has no key that is known.
    pub fn check(&self, path: &str, headers: &HeaderMap) -> Result<Caller, ApiError> {
        self.check_page(headers)?;
        if self.access.keys.is_empty() || OPEN.contains(&path) {
            return Ok(Caller::default());
        }
        let sent = sent_key(headers).ok_or_else(ApiError::unauthorized)?;
        // All keys are compared, and each in the same time whatever it has in common with the one that was sent.
        let is_known =
            self.access.keys.iter().fold(0u8, |known, key| known | sent.ct_eq(key.as_bytes()).unwrap_u8());
        match is_known {
            1 => Ok(Caller { key: sent.to_vec() }),
            _ => Err(ApiError::unauthorized()),
        }
    }

    /// Whether a browser that asks so was sent by this server's own page, or by one that may ask.
    ///
    /// # Errors
    /// Its host or page may not use this server.
    pub fn check_page(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        self.check_host(headers)?;
        self.check_origin(headers)
    }

    fn check_host(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        if !self.is_local && self.access.hosts.is_empty() {
            return Ok(());
        }
        // A client that speaks HTTP/1.0, or over a Unix socket, may name no host; a browser always does.
        let Some(host) = headers.get(header::HOST) else { return Ok(()) };
        let host = String::from_utf8_lossy(host.as_bytes());
        let is_known =
            is_this_machine(&host) || self.access.hosts.iter().any(|known| same_host(known, &host));
        if is_known && headers.get_all(header::HOST).iter().count() == 1 {
            return Ok(());
        }
        let message =
            format!("this server does not answer for host `{host}`: start it with --allowed-hosts {host}");
        Err(ApiError::forbidden(message))
    }

    fn check_origin(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
        if self.is_allowed(origin, headers) {
            return Ok(());
        }
        let origin = String::from_utf8_lossy(origin.as_bytes()).into_owned();
        let message =
            format!("web pages of `{origin}` may not use this server: start it with --cors-origins {origin}");
        Err(ApiError::forbidden(message))
    }

    fn is_allowed(&self, origin: &HeaderValue, headers: &HeaderMap) -> bool {
        let Ok(origin) = origin.to_str() else { return false };
        if self.access.origins.iter().any(|known| known == "*" || known.trim_end_matches('/') == origin) {
            return true;
        }
        let Some((_, host)) = origin.split_once("://") else { return false };
        let own = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        // The page that this server itself serves; where it is local, those of other local servers are foreign all the same.
        own == Some(host)
    }

    /// The answer to a browser that asks whether a page may ask, and what it reads of every other answer.
    pub fn allow_page(&self, method: &Method, request: &HeaderMap, response: &mut Response) {
        let Some(origin) = request.get(header::ORIGIN) else { return };
        if !self.is_allowed(origin, request) {
            return;
        }
        if *method == Method::OPTIONS {
            *response = StatusCode::NO_CONTENT.into_response();
        }
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(header::VARY, HeaderValue::from_static("origin"));
        if *method == Method::OPTIONS {
            let any = HeaderValue::from_static("*");
            let wanted = request.get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned();
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted.unwrap_or(any));
            headers.insert(
                header::ACCESS_CONTROL_ALLOW_METHODS,
                HeaderValue::from_static("GET, POST, DELETE, OPTIONS"),
            );
            headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
        }
    }
}

/// The key of `Authorization: Bearer` or `x-api-key`.
fn sent_key(headers: &HeaderMap) -> Option<&[u8]> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| {
        let (scheme, key) = value.as_bytes().split_at_checked(7)?;
        scheme.eq_ignore_ascii_case(b"bearer ").then_some(key)
    });
    bearer.or_else(|| headers.get("x-api-key").map(HeaderValue::as_bytes)).map(<[u8]>::trim_ascii)
}

/// Whether a `Host` names the machine that it is read on.
fn is_this_machine(host: &str) -> bool {
    let name = without_port(host);
    let is_loopback =
        |name: &str| name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    name.eq_ignore_ascii_case("localhost") || is_loopback(name.trim_start_matches('[').trim_end_matches(']'))
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) && !name.ends_with(':') => {
            name
        }
        _ => host,
    }
}

/// A name without a port stands for every port.
fn same_host(known: &str, host: &str) -> bool {
    known == "*" || known.eq_ignore_ascii_case(host) || known.eq_ignore_ascii_case(without_port(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(header::HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    fn guard(access: Access, address: &str) -> Guard {
        Guard::new(access, &Address::Tcp(address.parse().unwrap()))
    }

    fn host(guard: &Guard, host: &str) -> bool {
        guard.check("/v1/models", &headers(&[(header::HOST, host)])).is_ok()
    }

    #[test]
    fn a_local_server_answers_for_local_names_only() {
        let local = guard(Access::default(), "127.0.0.1:8080");
        for known in ["localhost:8080", "127.0.0.1", "127.0.0.1:8080", "[::1]:8080", "LOCALHOST"] {
            assert!(host(&local, known), "{known}");
        }
        for foreign in ["evil.example", "localhost.evil.example:8080", "10.0.0.1", "[::2]:80", "127.0.0.1.x"]
        {
            assert!(!host(&local, foreign), "{foreign}");
        }
        let named = guard(Access { hosts: vec!["box.lan".into()], ..Access::default() }, "127.0.0.1:8080");
        assert!(host(&named, "box.lan:8080") && host(&named, "BOX.lan") && !host(&named, "other.lan"));
        assert!(host(&guard(Access::default(), "0.0.0.0:80"), "anything.example"));
    }

    #[test]
    fn no_page_elsewhere_may_use_a_local_server() {
        let local = guard(Access::default(), "127.0.0.1:8080");
        let asks = |guard: &Guard, origin: &str| {
            let headers = headers(&[(header::HOST, "localhost:8080"), (header::ORIGIN, origin)]);
            guard.check("/v1/models", &headers).is_ok()
        };
        assert!(asks(&local, "http://localhost:8080"));
        for foreign in ["https://evil.example", "null", "http://localhost:3000", "http://localhost:8080.evil"]
        {
            assert!(!asks(&local, foreign), "{foreign}");
        }
        let access = Access { origins: vec!["https://app.example/".into()], ..Access::default() };
        let open = guard(access, "127.0.0.1:8080");
        assert!(asks(&open, "https://app.example") && !asks(&open, "http://app.example"));
    }

    #[test]
    fn a_browser_is_told_what_a_page_may_do() {
        let access = Access { origins: vec!["https://app.example".into()], ..Access::default() };
        let guard = guard(access, "127.0.0.1:8080");
        let request = headers(&[(header::HOST, "localhost"), (header::ORIGIN, "https://app.example")]);
        let mut response = StatusCode::METHOD_NOT_ALLOWED.into_response();
        guard.allow_page(&Method::OPTIONS, &request, &mut response);
        assert_eq!(response.status(), StatusCode::NO_CONTENT);
        assert_eq!(response.headers()[header::ACCESS_CONTROL_ALLOW_ORIGIN], "https://app.example");
    }

    #[test]
    fn a_key_is_needed_where_there_are_keys() {
        let access = Access { keys: vec!["one".into(), "two".into()], ..Access::default() };
        let guard = guard(access, "127.0.0.1:8080");
        let asks = |pairs: &[(header::HeaderName, &str)]| guard.check("/v1/models", &headers(pairs));
        assert_eq!(asks(&[(header::AUTHORIZATION, "Bearer two")]).unwrap().key, b"two");
        assert_eq!(asks(&[(header::AUTHORIZATION, "bearer one")]).unwrap().key, b"one");
        let anthropic = header::HeaderName::from_static("x-api-key");
        assert_eq!(asks(&[(anthropic, "one")]).unwrap().key, b"one");
        for wrong in ["Bearer on", "Bearer one1", "Bearer ", "Basic one", "é"] {
            assert_eq!(asks(&[(header::AUTHORIZATION, wrong)]).unwrap_err().status(), 401, "{wrong}");
        }
        assert_eq!(asks(&[]).unwrap_err().status(), 401);
        assert!(guard.check("/health", &HeaderMap::new()).is_ok());
    }
}
