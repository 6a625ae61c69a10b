//! A client of few words: HTTP/1.1 over a socket of its own, so that tests see what is really sent.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

use super::start::Server;

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: String,
    pub body: String,
}

impl Answer {
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The error's message and the field that it names.
    #[track_caller]
    pub fn error(&self) -> (String, String) {
        let error = &self.json()["error"];
        let text = |name: &str| error[name].as_str().unwrap_or_default().to_string();
        (text("message"), text("param"))
    }

    /// The values of a stream, without its end.
    #[track_caller]
    pub fn chunks(&self) -> Vec<Value> {
        let mut values: Vec<&str> = self.body.split("\n\n").filter(|piece| !piece.is_empty()).collect();
        assert_eq!(values.pop(), Some("data: [DONE]"), "{}", self.body);
        let json =
            |piece: &str| serde_json::from_str(piece.strip_prefix("data: ").expect("data")).expect("JSON");
        values.into_iter().map(json).collect()
    }
}

impl Server {
    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        stream
    }

    /// Sends a request whose answer is read later.
    pub fn send(&self, method: &str, path: &str, headers: &str, body: &str) -> TcpStream {
        let mut stream = self.connect();
        let host = if headers.to_ascii_lowercase().contains("host:") { "" } else { "Host: localhost\r\n" };
        let length = body.len();
        let text = format!(
            "{method} {path} HTTP/1.1\r\n{host}Connection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
        );
        stream.write_all(text.as_bytes()).unwrap();
        stream
    }

    pub fn request(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        read(self.send(method, path, headers, body))
    }

    pub fn get(&self, path: &str) -> Answer {
        self.request("GET", path, "", "")
    }

    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.request("POST", path, "Content-Type: application/json\r\n", &body.to_string())
    }

    #[track_caller]
    pub fn ok(&self, path: &str, body: &Value) -> Value {
        let answer = self.post(path, body);
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()
    }

    #[track_caller]
    pub fn chat(&self, body: &Value) -> Value {
        self.ok("/v1/chat/completions", body)
    }

    /// A figure of `/metrics`.
    #[track_caller]
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").body;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name} is not in\n{text}")).parse().unwrap()
    }

    /// Waits until nothing runs and nothing waits.
    #[track_caller]
    pub fn wait_until_idle(&self) {
        for _ in 0..600 {
            let n = self.metric("vllm:num_requests_running") + self.metric("vllm:num_requests_waiting");
            if n == 0.0 {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("something still runs");
    }
}

/// Reads an answer to its end.
pub fn read(stream: TcpStream) -> Answer {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while reader.read_line(&mut head).unwrap() > 0 && !head.ends_with("\r\n\r\n") {}
    let status = head.split(' ').nth(1).unwrap_or("0").parse().unwrap();
    let headers = head.to_ascii_lowercase();
    let mut body = Vec::new();
    if headers.contains("transfer-encoding: chunked") {
        loop {
            let mut size = String::new();
            reader.read_line(&mut size).unwrap();
            let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
            let mut chunk = vec![0; size + 2];
            reader.read_exact(&mut chunk).unwrap();
            body.extend_from_slice(&chunk[..size]);
            if size == 0 {
                break;
            }
        }
    } else {
        reader.read_to_end(&mut body).unwrap();
    }
    Answer { status, headers, body: String::from_utf8(body).unwrap() }
}
