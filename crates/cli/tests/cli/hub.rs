//! `pull` and `list` against a hub that makes mistakes.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use crate::mock_hub::{COMMIT, MockHub, Reply, Request, honest, listing, sha256};
use crate::program::{Home, error_line, text};

const MODEL: &[u8] = b"not a model, but nobody looks into it while it is fetched";
const FILES: &[(&str, &[u8])] =
    &[("README.md", b"x"), ("m-Q8_0.gguf", b"eight bits"), ("m-Q4_K_M.gguf", MODEL)];

fn pull(home: &Home, hub: &MockHub, model: &str) -> assert_cmd::Command {
    let mut command = home.lossy(&["pull", model]);
    command.env("HF_ENDPOINT", hub.endpoint());
    command
}

#[track_caller]
fn pulled(home: &Home, hub: &MockHub, model: &str) -> String {
    let output = pull(home, hub, model).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout).trim_end().to_string()
}

#[test]
fn a_pulled_file_lies_where_the_hugging_face_libraries_look_for_it() {
    let (home, hub) = (Home::new(), MockHub::start(honest(FILES)));
    let path = pulled(&home, &hub, "org/name");
    let folder = home.hub_cache().join("models--org--name");
    assert_eq!(path, folder.join("snapshots").join(COMMIT).join("m-Q4_K_M.gguf").display().to_string());
    assert_eq!(fs::read(&path).unwrap(), MODEL);
    let target = fs::read_link(&path).unwrap();
    assert_eq!(target, std::path::Path::new("../../blobs").join(sha256(MODEL)));
    assert_eq!(fs::read_to_string(folder.join("refs/main")).unwrap(), COMMIT);
    assert_eq!(fs::read_dir(folder.join("blobs")).unwrap().count(), 1, "no unfinished file is left");
}

#[test]
fn what_is_there_is_not_fetched_again() {
    let (home, hub) = (Home::new(), MockHub::start(honest(FILES)));
    assert_eq!(pulled(&home, &hub, "org/name:q4_k_m"), pulled(&home, &hub, "org/name"));
    assert_eq!(hub.requests_for("/resolve/").len(), 1);
}

#[test]
fn the_token_goes_to_the_hub_and_not_to_the_host_that_has_the_files() {
    let hub = MockHub::start(|request: &Request| match request.path.as_str() {
        path if path.starts_with("/api/") => Reply::body(listing(FILES)),
        path if path.starts_with("/cdn/") => Reply::part(MODEL, request),
        _ => {
            // The same port under another name is another host.
            let host = request.headers["host"].replace("127.0.0.1", "localhost");
            Reply::redirect(format!("http://{host}/cdn/file?signature=abc"))
        }
    });
    let home = Home::new();
    let output = pull(&home, &hub, "org/name").env("HF_TOKEN", "hf_secret").output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    for request in hub.requests() {
        let token = request.headers.get("authorization").map(String::as_str);
        let expected = if request.path.starts_with("/cdn/") { None } else { Some("Bearer hf_secret") };
        assert_eq!(token, expected, "{}", request.path);
    }
    assert_eq!(hub.requests_for("/cdn/").len(), 1);
    assert!(!text(&output.stderr).contains("hf_secret"));
}

#[test]
fn the_token_of_a_login_is_found() {
    let (home, hub) = (Home::new(), MockHub::start(honest(FILES)));
    fs::create_dir_all(home.path().join(".cache/huggingface")).unwrap();
    fs::write(home.path().join(".cache/huggingface/token"), "hf_file\n").unwrap();
    pulled(&home, &hub, "org/name");
    assert!(hub.requests().iter().all(|request| request.headers["authorization"] == "Bearer hf_file"));
}

#[test]
fn a_connection_that_breaks_is_resumed_where_it_broke() {
    let hub = MockHub::start(|request: &Request| {
        let mut reply = honest(FILES)(request);
        if request.path.contains("/resolve/") && request.n_before < 3 {
            reply.cut_after = Some(10);
        }
        reply
    });
    let home = Home::new();
    let path = pulled(&home, &hub, "org/name");
    assert_eq!(fs::read(path).unwrap(), MODEL);
    let starts: Vec<usize> = hub.requests_for("/resolve/").iter().map(Request::start).collect();
    assert_eq!(starts, [0, 10, 20, 30]);
}

#[test]
fn what_an_earlier_program_left_is_resumed() {
    let (home, hub) = (Home::new(), MockHub::start(honest(FILES)));
    let blobs = home.hub_cache().join("models--org--name/blobs");
    fs::create_dir_all(&blobs).unwrap();
    fs::write(blobs.join(format!("{}.incomplete", sha256(MODEL))), &MODEL[..20]).unwrap();
    let path = pulled(&home, &hub, "org/name");
    assert_eq!(fs::read(path).unwrap(), MODEL);
    assert_eq!(hub.requests_for("/resolve/")[0].start(), 20);
}

#[test]
fn a_wrong_part_from_earlier_is_thrown_away() {
    let (home, hub) = (Home::new(), MockHub::start(honest(FILES)));
    let blobs = home.hub_cache().join("models--org--name/blobs");
    fs::create_dir_all(&blobs).unwrap();
    fs::write(blobs.join(format!("{}.incomplete", sha256(MODEL))), "something else").unwrap();
    let path = pulled(&home, &hub, "org/name");
    assert_eq!(fs::read(path).unwrap(), MODEL);
}

#[test]
fn a_hub_that_cannot_resume_sends_the_file_from_its_beginning() {
    let hub = MockHub::start(|request: &Request| {
        if request.path.starts_with("/api/") {
            return Reply::body(listing(FILES));
        }
        let mut reply = Reply::body(MODEL);
        reply.cut_after = (request.n_before == 0).then_some(10);
        reply
    });
    let path = pulled(&Home::new(), &hub, "org/name");
    assert!(path.ends_with(".gguf"));
}

#[test]
fn a_connection_that_always_breaks_ends_with_what_there_is() {
    let hub = MockHub::start(|request: &Request| {
        let mut reply = honest(FILES)(request);
        if request.path.contains("/resolve/") {
            reply.cut_after = Some(if request.n_before == 0 { 10 } else { 0 });
        }
        reply
    });
    let line = error_line(&mut pull(&Home::new(), &hub, "org/name"));
    assert!(line.contains("m-Q4_K_M.gguf") && line.contains("10 of 57 bytes"), "{line}");
}

#[test]
fn a_wrong_checksum_is_an_error_and_nothing_is_left() {
    let hub = MockHub::start(|request: &Request| match request.path.starts_with("/api/") {
        true => Reply::body(listing(FILES)),
        false => Reply::body(vec![b'x'; MODEL.len()]),
    });
    let home = Home::new();
    let line = error_line(&mut pull(&home, &hub, "org/name"));
    assert!(line.contains("checksum") && line.contains(&sha256(MODEL)), "{line}");
    let folder = home.hub_cache().join("models--org--name");
    assert_eq!(fs::read_dir(folder.join("blobs")).unwrap().count(), 0);
    assert!(!folder.join("snapshots").exists());
}

#[test]
fn more_bytes_than_announced_are_an_error() {
    let hub = MockHub::start(|request: &Request| match request.path.starts_with("/api/") {
        true => Reply::body(listing(FILES)),
        false => Reply::body(vec![b'x'; 100_000]),
    });
    let line = error_line(&mut pull(&Home::new(), &hub, "org/name"));
    assert!(line.contains("announces 57 bytes and sends more"), "{line}");
}

#[test]
fn a_refusal_names_the_token() {
    for status in [401, 403] {
        let hub = MockHub::start(move |_: &Request| Reply::status(status));
        let line = error_line(&mut pull(&Home::new(), &hub, "org/name"));
        assert!(line.contains("org/name") && line.contains("set HF_TOKEN"), "{line}");
        let line = error_line(pull(&Home::new(), &hub, "org/name").env("HF_TOKEN", "hf_x"));
        assert!(line.contains("the token of HF_TOKEN may not read it"), "{line}");
        assert_eq!(hub.requests().len(), 2, "a refusal is not tried again");
    }
}

#[test]
fn a_repository_that_is_not_there_is_not_tried_again() {
    let hub = MockHub::start(|_: &Request| Reply::status(404));
    let line = error_line(&mut pull(&Home::new(), &hub, "org/name"));
    assert!(line.contains("org/name: not found on the hub"), "{line}");
    assert_eq!(hub.requests().len(), 1);
}

#[test]
fn an_overloaded_hub_is_tried_again() {
    let hub = MockHub::start(|request: &Request| match request.n_before {
        0 => Reply::status(429).header("retry-after", 0),
        1 => Reply::status(503),
        _ => honest(FILES)(request),
    });
    pulled(&Home::new(), &hub, "org/name");
}

#[test]
fn a_hub_that_stays_broken_is_given_up() {
    let hub = MockHub::start(|_: &Request| Reply::status(500).header("retry-after", 0));
    let line = error_line(&mut pull(&Home::new(), &hub, "org/name"));
    assert!(line.contains("500") && line.contains("tried 4 times"), "{line}");
    assert_eq!(hub.requests().len(), 4);
}

#[test]
fn file_names_that_leave_their_folder_are_refused() {
    for name in ["../../../evil.gguf", "/tmp/evil.gguf", "a/../../evil.gguf", "..\\evil.gguf"] {
        let hub = MockHub::start(move |_: &Request| Reply::body(listing(&[(name, MODEL)])));
        let home = Home::new();
        let line = error_line(&mut pull(&home, &hub, "org/name"));
        assert!(line.contains("a file is named"), "{line}");
        assert!(!home.hub_cache().join("models--org--name").exists());
    }
}

#[test]
fn an_answer_that_is_not_json_is_an_error() {
    let hub = MockHub::start(|_: &Request| Reply::body("<html>log in to the airport's network</html>"));
    let line = error_line(&mut pull(&Home::new(), &hub, "org/name"));
    assert!(line.contains("org/name: its list of files is not as expected"), "{line}");
}

#[test]
fn a_hub_that_cannot_be_reached_is_named() {
    let line = error_line(&mut Home::new().lossy(&["pull", "org/name"]));
    assert!(line.contains("cannot reach 127.0.0.1:9"), "{line}");
}

#[test]
fn a_proxy_is_used() {
    let proxy = MockHub::start(|_: &Request| Reply::status(404));
    let home = Home::new();
    let mut command = home.lossy(&["pull", "org/name"]);
    command.env("HF_ENDPOINT", "http://hub.invalid").env("HTTP_PROXY", proxy.endpoint());
    error_line(&mut command);
    let asked = proxy.requests().first().expect("the proxy was asked").path.clone();
    assert!(asked.contains("hub.invalid"), "{asked}");
}

#[test]
fn an_unknown_quantization_lists_those_there_are() {
    let hub = MockHub::start(honest(FILES));
    let line = error_line(&mut pull(&Home::new(), &hub, "org/name:Q2_K"));
    assert!(line.contains("no `Q2_K`") && line.contains("Q4_K_M, Q8_0"), "{line}");
}

#[test]
fn a_split_model_comes_whole() {
    const SPLIT: &[(&str, &[u8])] =
        &[("Q4_0/m-00002-of-00002.gguf", b"second part"), ("Q4_0/m-00001-of-00002.gguf", b"first part")];
    let (home, hub) = (Home::new(), MockHub::start(honest(SPLIT)));
    let path = pulled(&home, &hub, "org/name:Q4_0");
    assert!(path.ends_with("Q4_0/m-00001-of-00002.gguf"), "{path}");
    assert_eq!(fs::read_to_string(path.replace("00001-of", "00002-of")).unwrap(), "second part");
}

#[test]
fn a_repository_without_gguf_becomes_a_directory() {
    const FILES: &[(&str, &[u8])] = &[
        ("config.json", b"{}"),
        ("model.safetensors", b"weights"),
        ("tokenizer.json", b"{}"),
        ("onnx/model.onnx", b"no"),
        ("consolidated.safetensors", b"no"),
    ];
    let (home, hub) = (Home::new(), MockHub::start(honest(FILES)));
    let path = pulled(&home, &hub, "org/name");
    let mut names: Vec<_> = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["config.json", "model.safetensors", "tokenizer.json"]);
}

#[test]
fn two_pulls_at_once_fetch_a_file_once() {
    let hub = MockHub::start(|request: &Request| {
        if request.path.contains("/resolve/") {
            std::thread::sleep(Duration::from_millis(700));
        }
        honest(FILES)(request)
    });
    let home = Home::new();
    let start = || {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_lossy"));
        command.env_clear().envs(home.variables()).env("HF_ENDPOINT", hub.endpoint());
        command.args(["pull", "org/name"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let outputs = [start(), start()].map(|child| child.wait_with_output().unwrap());
    assert!(outputs.iter().all(|output| output.status.success()));
    assert_eq!(outputs[0].stdout, outputs[1].stdout);
    assert_eq!(hub.requests_for("/resolve/").len(), 1);
}

#[test]
fn offline_only_the_disk_is_asked() {
    let (home, hub) = (Home::new(), MockHub::start(honest(FILES)));
    pulled(&home, &hub, "org/name");
    let n_requests = hub.requests().len();
    for (args, expected) in [
        (["pull", "org/name"], "HF_HUB_OFFLINE is set"),
        (["inspect", "org/other"], "org/other is not on this machine"),
        (["inspect", "org/name:Q8_0"], "no `Q8_0` among its GGUF files"),
        // Found, and then not a model.
        (["inspect", "org/name"], "m-Q4_K_M.gguf"),
    ] {
        let mut command = home.lossy(&args);
        command.env("HF_ENDPOINT", hub.endpoint()).env("HF_HUB_OFFLINE", "1");
        let line = error_line(&mut command);
        assert!(line.contains(expected), "{line}");
    }
    assert_eq!(hub.requests().len(), n_requests);
}

#[test]
fn a_listed_model_can_be_asked_for_by_its_name() {
    let (home, hub) = (Home::new(), MockHub::start(honest(FILES)));
    let path = pulled(&home, &hub, "org/name:Q8_0");
    let output = home.lossy(&["list", "--json"]).output().unwrap();
    let models: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let expected = serde_json::json!([{"name": "org/name:Q8_0", "quant": "Q8_0", "bytes": 10, "path": path}]);
    assert_eq!(models, expected);
    let output = home.lossy(&["list"]).output().unwrap();
    assert!(text(&output.stdout).contains("org/name:Q8_0  Q8_0"), "{}", text(&output.stdout));
}

#[test]
fn an_empty_machine_lists_nothing_and_says_what_to_do() {
    let home = Home::new();
    let output = home.lossy(&["list"]).output().unwrap();
    assert!(output.status.success());
    assert!(output.stdout.is_empty() && text(&output.stderr).contains("lossy pull smollm2"));
    let output = home.lossy(&["list", "--json"]).output().unwrap();
    assert_eq!(text(&output.stdout).trim(), "[]");
}

/// What a hub answers to a request for a file of [`FILES`], and what is said of it in the end.
type BadAnswer = (fn(&Request) -> Reply, &'static str);

const LFS_POINTER: &str = "version https://git-lfs.github.com/spec/v1\noid sha256:0000\nsize 57\n";

/// Answers that never bring the file, however often they come.
const BAD_ANSWERS: &[BadAnswer] = &[
    (|_| Reply::body("<html>please sign in</html>"), "an HTML page came instead of the file"),
    (|_| Reply::body(format!("<!DOCTYPE html>{}", " ".repeat(42))), "an HTML page came instead of the file"),
    (|_| Reply::body(LFS_POINTER), "a Git LFS pointer came instead of the file"),
    (|_| Reply::body("short"), "announces 57 bytes and sends 5"),
    (|_| Reply::body(""), "unexpected end of file (5 tries; 0 of 57 bytes"),
    (|_| Reply::body(vec![b'x'; 58]), "announces 57 bytes and sends more"),
    (
        |_| Reply::body(MODEL).header("content-encoding", "gzip"),
        "Content-Encoding gzip, which was not asked for",
    ),
    (|request| cut(Reply::part(MODEL, request), 1), "the connection broke"),
    (|request| cut(Reply::part(MODEL, request), 0), "the connection broke"),
    (|request| cut(Reply::body(MODEL), 1 + request.n_before), "the connection broke"),
    (|_| cut(Reply::body(MODEL), 56), "the connection broke"),
    (|_| range("bytes 5-56/57"), "asked for byte 0 and answers with `bytes 5-56/57`"),
    (|_| range("bytes 0-56/1000"), "announces 57 bytes and sends 1000"),
    (|_| range("nonsense"), "answers with `nonsense`"),
    (|_| Reply::status(206), "status 206 and no range"),
    (|_| Reply::status(416), "status 416 and no range"),
    (|_| Reply::status(204), "answers 204"),
    (|_| Reply::body(vec![b'x'; 57]), "its checksum is"),
    (|request| Reply::redirect(format!("http://{}/again/resolve", request.headers["host"])), "cannot reach"),
];

fn cut(mut reply: Reply, bytes: usize) -> Reply {
    reply.cut_after = Some(bytes);
    reply
}

fn range(text: &str) -> Reply {
    Reply { status: 206, ..Reply::body(MODEL) }.header("content-range", text)
}

#[test]
fn whatever_a_hub_answers_there_is_an_end_and_a_reason() {
    std::thread::scope(|scope| {
        for &(answer, expected) in BAD_ANSWERS {
            scope.spawn(move || {
                let hub = MockHub::start(move |request: &Request| match request.path.starts_with("/api/") {
                    true => Reply::body(listing(FILES)),
                    false => answer(request),
                });
                let home = Home::new();
                let line = error_line(&mut pull(&home, &hub, "org/name"));
                assert!(line.contains("m-Q4_K_M.gguf") && line.contains(expected), "{expected}: {line}");
                let n_requests = hub.requests().len();
                assert!(n_requests <= 20, "{expected}: {n_requests} requests");
                assert!(!home.hub_cache().join("models--org--name/snapshots").exists(), "{expected}");
            });
        }
    });
}

#[test]
fn a_page_in_between_does_not_cost_what_was_there() {
    let hub = MockHub::start(|request: &Request| match request.n_before {
        _ if request.path.starts_with("/api/") => Reply::body(listing(FILES)),
        0 => cut(Reply::body(MODEL), 40),
        1 => Reply::body("<html>busy</html>"),
        _ => Reply::part(MODEL, request),
    });
    let home = Home::new();
    assert_eq!(fs::read(pulled(&home, &hub, "org/name")).unwrap(), MODEL);
    let starts: Vec<usize> = hub.requests_for("/resolve/").iter().map(Request::start).collect();
    assert_eq!(starts, [0, 40, 40]);
}

#[test]
fn a_hub_that_cannot_resume_and_says_so_wrongly_is_asked_for_the_whole() {
    let hub =
        MockHub::start(|request: &Request| match (request.path.starts_with("/api/"), request.start()) {
            (true, _) => Reply::body(listing(FILES)),
            (false, 0) if request.n_before == 0 => cut(Reply::body(MODEL), 40),
            (false, 0) => Reply::body(MODEL),
            (false, _) => Reply::status(416),
        });
    let home = Home::new();
    assert_eq!(fs::read(pulled(&home, &hub, "org/name")).unwrap(), MODEL);
}

#[test]
fn lists_that_come_badly_have_an_end_and_a_reason() {
    let short = || cut(Reply::body(listing(FILES)), 20);
    let answers: [BadAnswer; 5] = [
        (|_| Reply::body("<html>please sign in</html>"), "an HTML page"),
        (|_| Reply::body("{}"), "missing field `sha`"),
        (|_| Reply::body(b"\xff\xfe".to_vec()), "cannot be read"),
        (|_| Reply::body("x").header("content-encoding", "br"), "Content-Encoding br"),
        (|_| Reply::body(r#"{"sha": "main", "siblings": []}"#), "`main` is not a commit"),
    ];
    for (answer, expected) in answers {
        let hub = MockHub::start(move |request: &Request| answer(request));
        let line = error_line(&mut pull(&Home::new(), &hub, "org/name"));
        assert!(line.contains("org/name") && line.contains(expected), "{expected}: {line}");
        assert_eq!(hub.requests().len(), 1, "{expected}");
    }
    let hub = MockHub::start(move |_: &Request| short());
    let line = error_line(&mut pull(&Home::new(), &hub, "org/name"));
    assert!(line.contains("the hub's answer cannot be read") && line.contains("tried 4 times"), "{line}");
    assert_eq!(hub.requests().len(), 4);
}

#[test]
fn files_that_nobody_asks_for_need_neither_size_nor_checksum() {
    let siblings = |described: bool| {
        let mut answer: serde_json::Value = serde_json::from_str(&listing(FILES)).unwrap();
        let files = answer["siblings"].as_array_mut().unwrap();
        files[0] = serde_json::json!({"rfilename": "README.md"});
        files.push(serde_json::json!({"rfilename": "picture: a.png", "size": "big"}));
        if !described {
            files[2].as_object_mut().unwrap().remove("lfs");
            files[2]["blobId"] = serde_json::Value::Null;
        }
        answer.to_string()
    };
    let hub = MockHub::start(move |request: &Request| match request.path.starts_with("/api/") {
        true => Reply::body(siblings(!request.path.contains("unknown"))),
        false => honest(FILES)(request),
    });
    let home = Home::new();
    assert_eq!(fs::read(pulled(&home, &hub, "org/name")).unwrap(), MODEL);
    let line = error_line(&mut pull(&Home::new(), &hub, "org/unknown"));
    assert!(line.contains("the hub states no checksum of m-Q4_K_M.gguf"), "{line}");
}

#[test]
fn an_endpoint_without_a_scheme_and_a_token_of_two_lines_are_named_when_they_are_needed() {
    let home = Home::new();
    let line = error_line(home.lossy(&["pull", "org/name"]).env("HF_ENDPOINT", "hf-mirror.com"));
    assert!(
        line.contains("HF_ENDPOINT is `hf-mirror.com`") && line.contains("https://hf-mirror.com"),
        "{line}"
    );
    let hub = MockHub::start(honest(FILES));
    let line = error_line(pull(&home, &hub, "org/name").env("HF_TOKEN", "hf_one\nhf_two"));
    assert!(line.contains("HF_TOKEN: character 7") && !line.contains("hf_one"), "{line}");
    assert_eq!(hub.requests().len(), 0);
    // What is on the disk needs neither.
    fs::write(home.path().join("x.gguf"), "no").unwrap();
    let mut command = home.lossy(&["inspect", "x.gguf"]);
    let line = error_line(command.env("HF_ENDPOINT", "hf-mirror.com").env("HF_TOKEN", "hf_one\nhf_two"));
    assert!(line.contains("x.gguf") && !line.contains("HF_"), "{line}");
}

#[test]
fn a_model_is_found_under_every_address_that_it_has() {
    let (home, hub) = (Home::new(), MockHub::start(honest(FILES)));
    let path = pulled(&home, &hub, "org/name:Q8_0");
    let url = format!("{}/org/name/blob/main/m-Q8_0.gguf", hub.endpoint());
    for name in [
        "hf.co/org/name:Q8_0",
        "hf://org/name/m-Q8_0.gguf",
        "https://huggingface.co/org/name/resolve/main/m-Q8_0.gguf?download=true",
        &url,
    ] {
        assert_eq!(pulled(&home, &hub, name), path, "{name}");
    }
    assert_eq!(hub.requests_for("/resolve/").len(), 1);
    let line = error_line(&mut pull(&home, &hub, "https://example.com/m.gguf"));
    assert!(line.contains("is no address of the Hugging Face hub"), "{line}");
}

#[test]
fn a_revision_is_asked_for_and_found_again() {
    let (home, hub) = (Home::new(), MockHub::start(honest(FILES)));
    let path = pulled(&home, &hub, "org/name@refs/pr/1:Q8_0");
    assert_eq!(hub.requests()[0].path, "/api/models/org/name/revision/refs%2Fpr%2F1?blobs=true");
    let folder = home.hub_cache().join("models--org--name");
    assert_eq!(fs::read_to_string(folder.join("refs/refs/pr/1")).unwrap(), COMMIT);
    assert!(!folder.join("refs/main").exists());
    let n_requests = hub.requests().len();
    for name in ["org/name@refs/pr/1:Q8_0".to_string(), format!("org/name@{COMMIT}:Q8_0")] {
        let mut command = home.lossy(&["inspect", &name]);
        let line = error_line(command.env("HF_HUB_OFFLINE", "1"));
        assert!(line.contains(&path), "{name}: {line}");
    }
    let line = error_line(home.lossy(&["inspect", "org/name:Q8_0"]).env("HF_HUB_OFFLINE", "1"));
    assert!(line.contains("org/name is not on this machine"), "{line}");
    assert_eq!(hub.requests().len(), n_requests);
}

#[test]
fn a_damaged_file_is_named_when_it_is_used_and_mended_when_it_is_pulled() {
    let (home, hub) = (Home::new(), MockHub::start(honest(FILES)));
    let path = pulled(&home, &hub, "org/name");
    let blob = fs::canonicalize(&path).unwrap();
    let mut other = MODEL.to_vec();
    other[30] ^= 1;
    for content in [&MODEL[..20], &other, b""] {
        fs::write(&blob, content).unwrap();
        let mut command = home.lossy(&["inspect", "org/name"]);
        let line = error_line(command.env("HF_ENDPOINT", hub.endpoint()));
        assert!(
            line.ends_with("the file is damaged: `lossy pull org/name:m-Q4_K_M.gguf` fetches it again"),
            "{line}"
        );
        let output = pull(&home, &hub, "org/name:m-Q4_K_M.gguf").output().unwrap();
        assert!(
            output.status.success() && text(&output.stderr).contains("is damaged"),
            "{}",
            text(&output.stderr)
        );
        assert_eq!(fs::read(&path).unwrap(), MODEL);
    }
}
