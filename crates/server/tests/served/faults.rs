//! Clients that behave badly, and a server that ends.

use std::io::{Read, Write};
use std::time::Duration;

use lossy_server::Limits;
use serde_json::json;

use super::client::read;
use super::start::Wanted;

const LONG: &str = r#"{"messages": [{"role": "user", "content": "Count."}], "max_tokens": 900, "ignore_eos": true, "stream": true}"#;

#[test]
fn clients_that_leave_at_any_time_stop_the_work() {
    let server = Wanted::default().start();
    for bytes in [0, 1, 200, 3000] {
        let mut stream = server.send("POST", "/v1/chat/completions", "", LONG);
        let mut seen = 0;
        let mut buffer = [0; 256];
        while seen < bytes {
            seen += stream.read(&mut buffer).unwrap();
        }
        drop(stream);
        server.wait_until_idle();
    }
    let whole =
        r#"{"messages": [{"role": "user", "content": "Count."}], "max_tokens": 900, "ignore_eos": true}"#;
    let stream = server.send("POST", "/v1/chat/completions", "", whole);
    std::thread::sleep(Duration::from_millis(200));
    drop(stream);
    server.wait_until_idle();
    assert!(server.metric("vllm:generation_tokens_total") < 1500.0);
}

#[test]
fn half_a_request_and_nonsense_hold_nobody_up() {
    let limits = Limits { patience: Duration::from_millis(300), ..Limits::default() };
    let server = Wanted { limits, ..Wanted::default() }.start();
    let halves: Vec<_> = (0..20)
        .map(|index| {
            let mut stream = server.connect();
            let text = if index % 2 == 0 {
                "POST /v1/chat/com"
            } else {
                "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900\r\n\r\n{\"mess"
            };
            stream.write_all(text.as_bytes()).unwrap();
            stream
        })
        .collect();
    for nonsense in ["\0\0\0\0\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n"] {
        server.connect().write_all(nonsense.as_bytes()).unwrap();
    }
    assert_eq!(server.get("/health").status, 200);
    for mut half in halves {
        let mut rest = Vec::new();
        // Ends with an error's answer or with nothing, but ends.
        let _ = half.read_to_end(&mut rest);
    }
}

#[test]
fn hostile_json_is_an_error() {
    let server = Wanted::default().start();
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let nested = format!("{}1{}", r#"{"a":"#.repeat(500), "}".repeat(500));
    let deep_object = format!(r#"{{"messages": {nested}}}"#);
    let many = format!(r#"{{"messages": [{}]}}"#, vec!["{}"; 10_000].join(","));
    let bodies = [
        "",
        "null",
        "3",
        "[]",
        "{",
        r#"{"messages""#,
        "\"\\ud800\"",
        &deep,
        &deep_object,
        &many,
        r#"{"messages": 1e999}"#,
    ];
    for path in ["/v1/chat/completions", "/v1/completions", "/tokenize", "/detokenize", "/apply-template"] {
        for body in bodies {
            let answer = server.request("POST", path, "", body);
            assert_eq!(answer.status, 400, "{path}: {}", &body[..body.len().min(60)]);
        }
    }
    let mut stream = server.connect();
    stream.write_all(b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 3\r\n\r\n\"\xff\"").unwrap();
    assert_eq!(read(stream).status, 400);
}

#[test]
fn a_server_that_is_asked_to_end_finishes_what_runs_and_refuses_the_rest() {
    let mut server = Wanted::default().start();
    let body =
        r#"{"messages": [{"role": "user", "content": "Count."}], "max_tokens": 300, "ignore_eos": true}"#;
    let running = server.send("POST", "/v1/chat/completions", "", body);
    while server.metric("vllm:num_requests_running") == 0.0 {
        std::thread::sleep(Duration::from_millis(5));
    }
    server.ask_to_end();
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(server.get("/health").status, 503, "nobody new is let in");
    let refused = server.request("POST", "/v1/chat/completions", "", body);
    assert_eq!(refused.status, 503, "{}", refused.body);
    let answer = read(running);
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["usage"]["completion_tokens"], 300);
    server.join();
}

#[test]
fn a_server_whose_time_is_over_ends_with_answers_unfinished() {
    let mut server = Wanted { drain: Duration::from_millis(200), ..Wanted::default() }.start();
    let _running = server.send("POST", "/v1/chat/completions", "", LONG);
    while server.metric("vllm:num_requests_running") == 0.0 {
        std::thread::sleep(Duration::from_millis(5));
    }
    server.join();
}

#[test]
fn two_hundred_clients_at_once_are_answered() {
    let server = Wanted { kv: vec!["k2v2"], ..Wanted::default() }.start();
    let request = |index: usize| {
        json!({"messages": [{"role": "user", "content": format!("Say {index}.")}], "max_tokens": 3})
            .to_string()
    };
    let streams: Vec<_> =
        (0..200).map(|index| server.send("POST", "/v1/chat/completions", "", &request(index))).collect();
    let statuses: Vec<u16> = streams.into_iter().map(|stream| read(stream).status).collect();
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    server.wait_until_idle();
}
