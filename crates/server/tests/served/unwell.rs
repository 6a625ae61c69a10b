//! A model that computes no numbers, a disk that goes away, a socket in the file system.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use lossy_server::Address;
use lossy_testkit::tiny_model::{self, POISON};
use serde_json::{Value, json};

use super::client::read;
use super::start::{Server, Wanted};

/// A text that goes on, greedily, and never says [`POISON`].
fn completion(prompt: &str, n: usize) -> Value {
    let poison = POISON.1.to_string();
    json!({
        "prompt": prompt, "max_tokens": n, "ignore_eos": true, "temperature": 0, "logprobs": 1,
        "logit_bias": {poison: -100}
    })
}

fn choice(server: &Server, body: &Value) -> Value {
    server.ok("/v1/completions", body)["choices"][0].clone()
}

#[test]
fn a_prompt_that_the_model_computes_no_numbers_of_fails_alone() {
    let folder = tempfile::tempdir().unwrap();
    let model = tiny_model::write_poisoned(folder.path());
    let poison = POISON.0;
    for kv in ["f16", "k2v2"] {
        let wanted = Wanted { model: model.clone(), kv: vec![kv], n_ctx: 1024, ..Wanted::default() };
        let server = wanted.start();
        let well: Vec<Value> = (0..3).map(|index| completion(&format!("abc{index}"), 700)).collect();
        let expected: Vec<Value> = well.iter().map(|body| choice(&server, body)).collect();
        let (server, answers) = while_they_run(server, &well, |server| {
            // Read beside those that decode, and together with a prompt that is well.
            for prompt in [format!("x{poison}"), format!("{}{poison}", "y".repeat(300))] {
                let beside = server.send("POST", "/v1/completions", "", &completion("zzz", 4).to_string());
                let failed = server.post("/v1/completions", &completion(&prompt, 4));
                assert_eq!(failed.status, 500, "{kv}: {}", failed.body);
                let (message, _) = failed.error();
                assert!(message.contains("no numbers (NaN or infinite)"), "{message}");
                assert_eq!(read(beside).status, 200, "{kv}");
            }
        });
        assert_eq!(answers, expected, "{kv}: the answers of others have changed");
        server.wait_until_idle();
        assert_eq!(choice(&server, &well[0]), expected[0], "{kv}: it is well afterwards");
    }
}

/// Runs `meanwhile` while these requests decode; their answers.
fn while_they_run(server: Server, bodies: &[Value], meanwhile: impl FnOnce(&Server)) -> (Server, Vec<Value>) {
    let sent = bodies.iter().map(|body| server.send("POST", "/v1/completions", "", &body.to_string()));
    let sent: Vec<TcpStream> = sent.collect();
    while server.metric("vllm:num_requests_running") < bodies.len() as f64 {
        std::thread::sleep(Duration::from_millis(1));
    }
    meanwhile(&server);
    let answers = sent.into_iter().map(|stream| read(stream).json()["choices"][0].clone()).collect();
    (server, answers)
}

#[test]
fn a_disk_that_goes_away_costs_nobody_an_answer() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("cache");
    let wanted = Wanted { directory: Some(directory.clone()), kv: vec!["k2v2"], ..Wanted::default() };
    let server = wanted.start();
    let text = |index: usize| {
        let prompt: String = (0..600).map(|word| format!("w{} ", word * 7919 % 1000 + index)).collect();
        completion(&prompt, 8)
    };
    let before = choice(&server, &text(0));
    server.wait_until_idle();
    // A file where the directory was: nothing below it can be read or written any more.
    std::fs::remove_dir_all(&directory).unwrap();
    std::fs::write(&directory, "no directory").unwrap();
    for index in 1..4 {
        choice(&server, &text(index));
    }
    assert_eq!(choice(&server, &text(0)), before);
    assert_eq!(
        server.request("DELETE", "/cache", "", "").status / 100,
        5,
        "what cannot be erased is an error"
    );
    assert_eq!(choice(&server, &text(0)), before);
}

/// An answer over a Unix socket.
fn ask(path: &PathBuf, request: &str) -> String {
    let mut stream = UnixStream::connect(path).expect("somebody listens");
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn a_unix_socket_is_its_owners_alone_and_is_gone_in_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lossy.sock");
    // What a server that was killed has left behind.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let model = tiny_model::write_wide(folder.path());
    let wanted = Wanted { model, address: Address::Unix(path.clone()), n_ctx: 256, ..Wanted::default() };
    let mut server = wanted.start();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let body = completion("abc", 4).to_string();
    let head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";
    let answer = ask(&path, &format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()));
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("\"completion_tokens\":4"), "{answer}");
    server.join();
    assert!(!path.exists(), "the socket is still there");
}
