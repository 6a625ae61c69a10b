//! A hub of a few lines: HTTP/1.1 on a local port, one connection per request, with the mistakes that a test asks for.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use sha2::{Digest, Sha256};

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What a client asked.
#[derive(Clone, Debug)]
pub struct Request {
    pub path: String,
    /// names in lower case
    pub headers: BTreeMap<String, String>,
    /// how many requests for this path came before
    pub n_before: usize,
}

impl Request {
    /// First byte of a `Range` header.
    pub fn start(&self) -> usize {
        let range = self.headers.get("range").and_then(|range| range.strip_prefix("bytes="));
        range.map_or(0, |range| range.trim_end_matches('-').parse().expect("an open range"))
    }
}

/// What the hub answers.
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// closes the connection after that many bytes of the body
    pub cut_after: Option<usize>,
}

impl Reply {
    pub fn status(status: u16) -> Reply {
        Reply { status, headers: Vec::new(), body: Vec::new(), cut_after: None }
    }

    pub fn body(body: impl Into<Vec<u8>>) -> Reply {
        Reply { body: body.into(), ..Reply::status(200) }
    }

    pub fn redirect(target: String) -> Reply {
        Reply::status(302).header("location", target)
    }

    pub fn header(mut self, name: &str, value: impl ToString) -> Reply {
        self.headers.push((name.to_string(), value.to_string()));
        self
    }

    /// The part of `content` that the request asks for.
    pub fn part(content: &[u8], request: &Request) -> Reply {
        match request.start() {
            0 => Reply::body(content),
            start => {
                let range = format!("bytes {start}-{}/{}", content.len() - 1, content.len());
                let mut reply = Reply::body(&content[start..]).header("content-range", range);
                reply.status = 206;
                reply
            }
        }
    }
}

type Answer = dyn Fn(&Request) -> Reply + Send + Sync;

pub struct MockHub {
    pub port: u16,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl MockHub {
    /// Starts a hub that answers with `answer`, until the test's process ends.
    pub fn start(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> MockHub {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (answer, log): (Arc<Answer>, _) = (Arc::new(answer), requests.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answer, log) = (answer.clone(), log.clone());
                // A client that goes away is not the hub's problem.
                thread::spawn(move || serve(&stream, &*answer, &log).ok());
            }
        });
        MockHub { port, requests }
    }

    /// For `HF_ENDPOINT`.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("no test panicked here").clone()
    }

    /// Requests for paths with `part` in them.
    pub fn requests_for(&self, part: &str) -> Vec<Request> {
        self.requests().into_iter().filter(|request| request.path.contains(part)).collect()
    }
}

fn serve(stream: &TcpStream, answer: &Answer, log: &Mutex<Vec<Request>>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    let path = first.split(' ').nth(1).unwrap_or_default().to_string();
    let mut headers = BTreeMap::new();
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_string());
    }
    let request = {
        let mut log = log.lock().expect("no test panicked here");
        let n_before = log.iter().filter(|earlier| earlier.path == path).count();
        let request = Request { path, headers, n_before };
        log.push(request.clone());
        request
    };
    let reply = answer(&request);
    let mut stream = stream;
    write!(
        stream,
        "HTTP/1.1 {} X\r\ncontent-length: {}\r\nconnection: close\r\n",
        reply.status,
        reply.body.len()
    )?;
    for (name, value) in &reply.headers {
        write!(stream, "{name}: {value}\r\n")?;
    }
    stream.write_all(b"\r\n")?;
    let end = reply.cut_after.unwrap_or(reply.body.len()).min(reply.body.len());
    stream.write_all(&reply.body[..end])?;
    stream.flush()
}

/// The answer of the hub's API for a repository with these files, all of them large (SHA-256).
pub fn listing(files: &[(&str, &[u8])]) -> String {
    let siblings: Vec<_> = files
        .iter()
        .map(|(name, content)| {
            let lfs =
                serde_json::json!({"sha256": sha256(content), "size": content.len(), "pointerSize": 130});
            serde_json::json!({"rfilename": name, "size": content.len(), "blobId": COMMIT, "lfs": lfs})
        })
        .collect();
    serde_json::json!({"sha": COMMIT, "siblings": siblings}).to_string()
}

/// A hub with one repository that makes no mistakes.
pub fn honest(files: &'static [(&'static str, &'static [u8])]) -> impl Fn(&Request) -> Reply + Send + Sync {
    move |request| {
        if request.path.starts_with("/api/models/") {
            return Reply::body(listing(files));
        }
        let file =
            files.iter().find(|(name, _)| request.path.ends_with(&format!("/resolve/{COMMIT}/{name}")));
        file.map_or_else(|| Reply::status(404), |(_, content)| Reply::part(content, request))
    }
}

pub fn sha256(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}
