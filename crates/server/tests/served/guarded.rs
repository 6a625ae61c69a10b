//! Who may ask.

use lossy_server::{Access, Limits};
use serde_json::json;

use super::start::Wanted;

const HELLO: &str = r#"{"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}"#;

#[test]
fn no_web_page_elsewhere_reaches_a_local_server() {
    let server = Wanted::default().start();
    let status = |headers: &str| server.request("POST", "/v1/chat/completions", headers, HELLO).status;
    assert_eq!(status(""), 200);
    assert_eq!(status("Host: evil.example\r\n"), 403);
    assert_eq!(status("Origin: https://evil.example\r\n"), 403);
    assert_eq!(status("Origin: null\r\n"), 403);
    assert_eq!(
        server
            .request(
                "OPTIONS",
                "/v1/chat/completions",
                "Origin: https://evil.example\r\nAccess-Control-Request-Method: POST\r\n",
                ""
            )
            .status,
        403
    );
}

#[test]
fn a_page_that_is_named_may_ask_and_a_key_is_needed() {
    let access = Access {
        keys: vec!["secret".into()],
        origins: vec!["https://app.example".into()],
        ..Access::default()
    };
    let server = Wanted { access, ..Wanted::default() }.start();
    let question = "Origin: https://app.example\r\nAccess-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: authorization\r\n";
    let answer = server.request("OPTIONS", "/v1/chat/completions", question, "");
    assert_eq!(answer.status, 204);
    assert!(
        answer.headers.contains("access-control-allow-origin: https://app.example"),
        "{}",
        answer.headers
    );
    let ask = |headers: &str| server.request("POST", "/v1/chat/completions", headers, HELLO);
    assert_eq!(ask("").status, 401);
    assert_eq!(ask("Authorization: Bearer wrong\r\n").status, 401);
    assert_eq!(ask("Authorization: Bearer secret\r\n").status, 200);
    assert_eq!(ask("X-Api-Key: secret\r\n").status, 200);
    assert_eq!(server.get("/health").status, 200);
    assert_eq!(server.get("/metrics").status, 401);
    let allowed = ask("Authorization: Bearer secret\r\nOrigin: https://app.example\r\n");
    assert!(allowed.headers.contains("access-control-allow-origin: https://app.example"));
}

#[test]
fn a_body_that_is_too_long_is_not_read() {
    let limits = Limits { body: 1000, ..Limits::default() };
    let server = Wanted { limits, ..Wanted::default() }.start();
    let body = json!({"messages": [{"role": "user", "content": "x".repeat(2000)}]}).to_string();
    let answer = server.request("POST", "/v1/chat/completions", "", &body);
    assert_eq!(answer.status, 413, "{}", answer.body);
}

#[test]
fn a_queue_that_is_full_says_when_to_come_back() {
    let limits = Limits { parallel: 1, waiting: 2, ..Limits::default() };
    let server = Wanted { limits, ..Wanted::default() }.start();
    let body = r#"{"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 600, "ignore_eos": true}"#;
    let streams: Vec<_> = (0..12).map(|_| server.send("POST", "/v1/chat/completions", "", body)).collect();
    let answers: Vec<_> = streams.into_iter().map(super::client::read).collect();
    let n_refused = answers.iter().filter(|answer| answer.status == 429).count();
    let n_answered = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!(n_refused + n_answered, 12);
    assert!(n_refused >= 6 && n_answered >= 2, "{n_refused} refused, {n_answered} answered");
    let refused = answers.iter().find(|answer| answer.status == 429).unwrap();
    assert!(refused.headers.contains("retry-after: 5"), "{}", refused.headers);
}

#[test]
fn metrics_can_be_switched_off() {
    let server = Wanted { metrics: false, ..Wanted::default() }.start();
    assert_eq!(server.get("/metrics").status, 404);
}
