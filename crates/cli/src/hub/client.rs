//! HTTP to the hub: who may see the token, what is tried again, and errors in words that help.

use std::fmt;
use std::io;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use ureq::config::RedirectAuthHeaders;
use ureq::http::{Response, StatusCode, header};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body};

use super::answer;
use super::environment::{Access, HubEnvironment, host_of};

/// Longest pause that a server may ask for with `Retry-After`.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Requests for one thing, of a hub that is worth insisting on.
const MAX_TRIES: u32 = 4;

/// Why the hub did not give what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// No connection: no network, a wrong name, a proxy that refuses.
    #[error("cannot reach {host}: {reason}")]
    Unreachable {
        /// of the address
        host: String,
        /// in the words of the system
        reason: String,
    },
    /// 401 or 403.
    #[error("{what}: the hub refuses access ({status}); {}", advice(*.has_token))]
    Refused {
        /// repository or file
        what: String,
        /// as the server said it
        status: u16,
        /// a token was sent
        has_token: bool,
    },
    /// 404.
    #[error("{what}: not found on the hub")]
    NotFound {
        /// repository or file
        what: String,
    },
    /// A body in an encoding that was not asked for.
    #[error("{what}: the hub sends it with Content-Encoding {encoding}, which was not asked for")]
    Encoded {
        /// repository or file
        what: String,
        /// in the server's words
        encoding: String,
    },
    /// A text that did not come whole.
    #[error("{what}: the hub's answer cannot be read: {reason} (tried {n_tries} times)")]
    Broken {
        /// repository or file
        what: String,
        /// why
        reason: String,
        /// requests made
        n_tries: u32,
    },
    /// Any other status, after retries where they make sense.
    #[error("{what}: the hub answers {status} (tried {n_tries} times)")]
    Status {
        /// repository or file
        what: String,
        /// as the server said it
        status: StatusCode,
        /// requests made
        n_tries: u32,
    },
}

fn advice(has_token: bool) -> &'static str {
    if has_token {
        "the token of HF_TOKEN may not read it, or it does not exist"
    } else {
        "it is private, gated or does not exist; set HF_TOKEN to a token that may read it"
    }
}

/// How long to insist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// four tries, for a file that can be had nowhere else
    Retry,
    /// one try and a short wait for the connection: there is another source
    Hurry,
}

/// A connection to one hub.
pub struct Client {
    agent: Agent,
    endpoint: String,
    token: Option<String>,
    patience: Patience,
}

impl Client {
    /// A client for the hub of `environment`. Proxies come from `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`.
    ///
    /// # Errors
    /// `HF_ENDPOINT` or the token cannot be what they should be.
    pub fn new(environment: &HubEnvironment, patience: Patience) -> Result<Client> {
        let Access { endpoint, token } = environment.access()?;
        let connect = match patience {
            Patience::Retry => Duration::from_secs(20),
            Patience::Hurry => Duration::from_secs(5),
        };
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .user_agent(concat!("lossy/", env!("CARGO_PKG_VERSION")))
            // Files lie on another host, whose addresses are signed: it must not see the token.
            .redirect_auth_headers(RedirectAuthHeaders::SameHost)
            .tls_config(TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build())
            .timeout_connect(Some(connect))
            .timeout_recv_response(Some(Duration::from_secs(60)))
            .timeout_per_read(Some(Duration::from_secs(60)))
            .build();
        Ok(Client { agent: config.new_agent(), endpoint, token, patience })
    }

    fn may_retry(&self, n_tries: u32) -> bool {
        self.patience == Patience::Retry && n_tries < MAX_TRIES
    }

    /// GETs a text of at most `limit` bytes, as [`get`](Client::get) does. An answer that breaks off is asked for again.
    ///
    /// # Errors
    /// As there; or it does not come whole, is longer, or is not UTF-8.
    pub fn get_text(&self, path: &str, limit: u64, what: &dyn fmt::Display) -> Result<String, HubError> {
        let mut n_tries = 0;
        loop {
            n_tries += 1;
            let mut response = self.get(path, 0, what)?;
            match response.body_mut().with_config().limit(limit).read_to_string() {
                Ok(text) => return Ok(text),
                Err(error) if self.may_retry(n_tries) && is_passing(&error) => thread::sleep(pause(n_tries)),
                Err(error) => {
                    return Err(HubError::Broken { what: what.to_string(), reason: reason(&error), n_tries });
                }
            }
        }
    }

    /// GETs `path` (absolute, encoded) of the hub, from byte `start` on. `what` names it in errors. Connection errors,
    /// 429 and 5xx are tried again. A status of 200, 206 or 416 is returned.
    pub fn get(&self, path: &str, start: u64, what: &dyn fmt::Display) -> Result<Response<Body>, HubError> {
        let mut n_tries = 0;
        loop {
            n_tries += 1;
            let may_retry = self.may_retry(n_tries);
            let pause = pause(n_tries);
            let response = match self.request(path, start) {
                Ok(response) => response,
                Err(error) if may_retry && is_passing(&error) => {
                    thread::sleep(pause);
                    continue;
                }
                Err(error) => return Err(self.unreachable(&error)),
            };
            let status = response.status();
            match status.as_u16() {
                200 | 206 | 416 => return plain(response, what),
                401 | 403 => {
                    let has_token = self.token.is_some();
                    return Err(HubError::Refused {
                        what: what.to_string(),
                        status: status.as_u16(),
                        has_token,
                    });
                }
                404 => return Err(HubError::NotFound { what: what.to_string() }),
                429 | 500..=599 if may_retry => {
                    thread::sleep(retry_after(&response).unwrap_or(pause).min(LONGEST_PAUSE));
                }
                _ => return Err(HubError::Status { what: what.to_string(), status, n_tries }),
            }
        }
    }

    fn request(&self, path: &str, start: u64) -> Result<Response<Body>, ureq::Error> {
        let mut request = self.agent.get(format!("{}{path}", self.endpoint));
        // What is resumed and hashed is the file itself.
        request = request.header(header::ACCEPT_ENCODING, "identity");
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if start > 0 {
            request = request.header(header::RANGE, format!("bytes={start}-"));
        }
        request.call()
    }

    /// The host of the hub, for messages.
    pub fn host(&self) -> &str {
        host_of(&self.endpoint).unwrap_or(&self.endpoint)
    }

    fn unreachable(&self, error: &ureq::Error) -> HubError {
        HubError::Unreachable { host: self.host().to_string(), reason: reason(error) }
    }
}

/// Twice as long each time.
fn pause(n_tries: u32) -> Duration {
    Duration::from_millis(250 << n_tries)
}

/// An answer whose body is the bytes themselves.
fn plain(response: Response<Body>, what: &dyn fmt::Display) -> Result<Response<Body>, HubError> {
    match response.headers().get(header::CONTENT_ENCODING) {
        Some(encoding) if !encoding.as_bytes().eq_ignore_ascii_case(b"identity") => Err(HubError::Encoded {
            what: what.to_string(),
            encoding: String::from_utf8_lossy(encoding.as_bytes()).into_owned(),
        }),
        _ => Ok(response),
    }
}

fn reason(error: &ureq::Error) -> String {
    match error {
        ureq::Error::HostNotFound => "no such host".to_string(),
        ureq::Error::Io(error) => error.to_string(),
        other => other.to_string(),
    }
}

/// A second try may go better.
fn is_passing(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::Io(error) => {
            !matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData)
        }
        ureq::Error::Timeout(_) | ureq::Error::ConnectionFailed => true,
        _ => false,
    }
}

fn retry_after(response: &Response<Body>) -> Option<Duration> {
    answer::retry_after(response.headers().get(header::RETRY_AFTER)?.to_str().ok()?)
}

/// Encodes a path of a repository for an address; slashes stay.
pub fn encode_path(path: &str) -> String {
    let mut encoded = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
                encoded.push(byte.into())
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_encoded_but_for_its_slashes() {
        assert_eq!(encode_path("a b/ü?#.gguf"), "a%20b/%C3%BC%3F%23.gguf");
    }
}
