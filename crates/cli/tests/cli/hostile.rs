//! Nothing that stands in a file, comes from a hub or is in a name reaches the terminal as a command to it.

use std::fs;

use assert_cmd::Command;
use lossy_formats::gguf::Value;
use lossy_testkit::tiny_model::{self, Changes};

use crate::mock_hub::{COMMIT, MockHub, Reply, Request, listing};
use crate::program::Home;

/// Clears the screen, sets the title, overwrites the line, turns the text around, hides in a C1 sequence and in nothing.
const HOSTILE: &str =
    "evil\x1b[2J\x1b]0;title\x07\rover\u{202e}txt\u{2066}\u{9b}31m\u{85}\u{2028}\u{200b}\x7f";

/// The characters of [`HOSTILE`] that nobody may see raw.
fn raw(text: &str) -> Option<char> {
    text.chars()
        .find(|c| (c.is_control() && !matches!(c, '\n' | '\t')) || HOSTILE.contains(*c) && !c.is_ascii())
}

/// What the program prints on both streams has none of them; returns it.
#[track_caller]
fn assert_tame(what: &str, command: &mut Command) -> String {
    let output = command.output().expect("the program starts");
    let stdout = assert_text_tame(what, "stdout", &output.stdout);
    let stderr = assert_text_tame(what, "stderr", &output.stderr);
    assert_ne!(output.status.code(), None, "{what}: ended by a signal");
    stdout + &stderr
}

/// The same for standard error alone.
#[track_caller]
fn assert_stderr_tame(what: &str, command: &mut Command) -> String {
    assert_text_tame(what, "stderr", &command.output().expect("the program starts").stderr)
}

#[track_caller]
fn assert_text_tame(what: &str, stream: &str, bytes: &[u8]) -> String {
    let text = std::str::from_utf8(bytes).expect("the program prints UTF-8");
    assert_eq!(raw(text), None, "{what}, {stream}: {text:?}");
    text.to_string()
}

/// All commands that read a model.
const COMMANDS: &[&[&str]] = &[
    &["inspect", "MODEL"],
    &["inspect", "MODEL", "--tensors"],
    &["inspect", "MODEL", "--json"],
    &["tokenize", "MODEL", "-p", "hi"],
    &["tokenize", "MODEL", "--ids", "-p", "hi"],
    &["run", "MODEL", "-p", "hi", "-n", "2", "--probe", "never", "--logprobs", "3"],
    &["run", "MODEL", "-p", "hi", "-n", "2", "--probe", "never", "--no-chat-template", "--verbose"],
    &["run", "MODEL", "-p", "hi", "-n", "1", "--probe", "never", "--system", "be kind"],
    &["logits", "MODEL", "-p", "hi", "-o", "out.f32"],
    &["measure", "MODEL", "-f", "text.txt", "-c", "32", "--kv", "f32"],
    &["measure", "MODEL", "-f", "text.txt", "-c", "32", "--kv", "f32", "-o", "json"],
    &["measure", "MODEL", "-f", "text.txt", "-c", "32", "--kv", "f32", "-o", "md"],
    &["calibrate", "MODEL"],
    &["bench", "MODEL", "-p", "8", "-n", "0", "-r", "1"],
    &["bench", "MODEL", "-p", "8", "-n", "0", "-r", "1", "-o", "csv"],
    &["bench", "MODEL", "-p", "8", "-n", "0", "-r", "1", "-o", "json"],
];

#[track_caller]
fn assert_all_commands_tame(what: &str, changes: &Changes, name: &str) -> String {
    let home = Home::new();
    fs::write(home.path().join("text.txt"), "some words ".repeat(40)).unwrap();
    let path = tiny_model::write_changed(home.path(), name, changes);
    let path = path.display().to_string();
    let mut all = String::new();
    for command in COMMANDS {
        let args: Vec<&str> = command.iter().map(|arg| if *arg == "MODEL" { &path } else { *arg }).collect();
        // What a model says goes into a pipe as it is; chat.rs has the terminal.
        let says_tokens = command[0] == "run" && !changes.tokens.is_empty();
        let tame = if says_tokens { assert_stderr_tame } else { assert_tame };
        all += &tame(&format!("{what}, {args:?}"), &mut home.lossy(&args));
    }
    all
}

fn with_key(key: &str, value: impl Into<Value>) -> Changes {
    Changes { keys: vec![(key.to_string(), value.into())], ..Changes::default() }
}

#[test]
fn texts_of_a_model_file_are_shown_escaped_by_every_command() {
    let shown = assert_all_commands_tame("name", &with_key("general.name", HOSTILE), "m.gguf");
    assert!(shown.contains("evil\\u{1b}[2J\\u{1b}]0;title\\u{7}\\u{d}over\\u{202e}txt"), "{shown}");
    for key in [
        "general.architecture",
        "llama.rope.scaling.type",
        "tokenizer.ggml.pre",
        "tokenizer.ggml.model",
        "general.license",
        HOSTILE,
    ] {
        assert_all_commands_tame(key, &with_key(key, HOSTILE), "m.gguf");
    }
}

#[test]
fn a_template_its_error_and_a_system_message_are_shown_escaped() {
    for template in [
        HOSTILE.to_string(),
        format!("{{{{ raise_exception('{HOSTILE}') }}}}"),
        format!("{{% if {HOSTILE} %}}"),
        format!("{{{{ messages | {} }}}}", "nosuch\x1b[2J"),
    ] {
        assert_all_commands_tame(
            &template,
            &with_key("tokenizer.chat_template", template.as_str()),
            "m.gguf",
        );
    }
}

#[test]
fn tokens_tensors_and_the_name_of_the_file_are_shown_escaped() {
    let changes =
        Changes { tokens: vec![(5, HOSTILE.to_string()), (6, "\x1b[1A".to_string())], ..Changes::default() };
    assert_all_commands_tame("tokens", &changes, "m.gguf");
    let changes = Changes { extra_tensor: Some(HOSTILE.to_string()), ..Changes::default() };
    assert_all_commands_tame("tensors", &changes, "m.gguf");
    let changes = Changes { renamed_tensor: Some(HOSTILE.to_string()), ..Changes::default() };
    assert_all_commands_tame("a tensor that is missing", &changes, "m.gguf");
    assert_all_commands_tame("file name", &Changes::default(), &format!("{HOSTILE}.gguf"));
}

#[test]
fn names_that_are_typed_come_back_escaped() {
    let home = Home::new();
    let missing = format!("{HOSTILE}.gguf");
    for args in [
        &["run", &missing, "-p", "hi"][..],
        &["run", HOSTILE],
        &["pull", HOSTILE],
        &["inspect", HOSTILE, HOSTILE],
        &[HOSTILE],
        &["run", "--kv", HOSTILE],
        &["run", "--positions", HOSTILE],
        &["run", "-f", HOSTILE],
        &["measure", "--max-loss", HOSTILE],
    ] {
        assert_tame(&format!("{args:?}"), &mut home.lossy(args));
    }
    assert_tame("LOSSY_KV", home.lossy(&["run"]).env("LOSSY_KV", HOSTILE));
    assert_tame("HF_ENDPOINT", home.lossy(&["pull", "a/b"]).env("HF_ENDPOINT", HOSTILE));
    assert_tame("HF_HOME", home.lossy(&["list"]).env("HF_HOME", format!("/nowhere/{HOSTILE}")));
}

type Answer = Box<dyn Fn(&Request) -> Reply + Send + Sync>;

#[test]
fn whatever_a_hub_says_is_shown_escaped() {
    let file = format!("{}.gguf", HOSTILE.replace(|c: char| c.is_control(), ""));
    let answers: Vec<Answer> = vec![
        Box::new(|_| Reply::body(HOSTILE)),
        Box::new(|_| Reply::body(serde_json::json!({"sha": HOSTILE, "siblings": []}).to_string())),
        Box::new(|_| Reply::body(listing(&[(&format!("{HOSTILE}.gguf"), b"x")]))),
        Box::new(|_| Reply::status(200).header("content-encoding", "evil\u{9b}31m")),
        Box::new(|_| Reply::redirect("http://\u{202e}evil.invalid/".to_string())),
        Box::new(move |request| match request.path.starts_with("/api/") {
            true => Reply::body(listing(&[(&file, b"content")])),
            false => Reply::body("content"),
        }),
        Box::new(|request| match request.path.starts_with("/api/") {
            true => Reply::body(listing(&[("m.gguf", b"content")])),
            false => Reply { status: 206, ..Reply::body("x") }.header("content-range", "evil\u{9b}\u{202e}"),
        }),
    ];
    for (index, answer) in answers.into_iter().enumerate() {
        let hub = MockHub::start(answer);
        let home = Home::new();
        let endpoint = hub.endpoint();
        assert_tame(
            &format!("answer {index}"),
            home.lossy(&["pull", "org/name"]).env("HF_ENDPOINT", &endpoint),
        );
        assert_tame(&format!("list {index}"), &mut home.lossy(&["list"]));
        assert_tame(&format!("list as JSON {index}"), &mut home.lossy(&["list", "--json"]));
    }
    let snapshot = Home::new();
    let folder = snapshot.hub_cache().join("models--org--name/snapshots").join(COMMIT);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(format!("{}-Q8_0.gguf", HOSTILE)), "x").unwrap();
    fs::create_dir_all(snapshot.hub_cache().join("models--org--name/refs")).unwrap();
    fs::write(snapshot.hub_cache().join("models--org--name/refs/main"), COMMIT).unwrap();
    let shown = assert_tame("a file of the cache", &mut snapshot.lossy(&["list"]));
    assert!(shown.contains("evil\\u{1b}"), "{shown}");
    assert_tame("a file of the cache", &mut snapshot.lossy(&["list", "--json"]));
}

#[test]
fn a_report_as_a_page_has_no_hidden_characters() {
    let home = Home::new();
    fs::write(home.path().join("text.txt"), "some words ".repeat(40)).unwrap();
    let path = tiny_model::write_changed(home.path(), &format!("{HOSTILE}.gguf"), &Changes::default());
    let path = path.display().to_string();
    let args = ["measure", &path, "-f", "text.txt", "-c", "32", "--kv", "f32", "-o", "report.html"];
    let shown = assert_tame("measure", &mut home.lossy(&args));
    assert!(shown.contains("report.html: the report"), "{shown}");
    let page = fs::read_to_string(home.path().join("report.html")).unwrap();
    assert_eq!(raw(&page), None);
    assert!(page.contains("evil\\u{1b}[2J"), "the model's name is in it");
}
