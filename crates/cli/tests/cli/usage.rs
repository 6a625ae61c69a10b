//! Help, versions, completions, and what is typed wrongly.

use std::fs;

use lossy_testkit::tiny_model;

use crate::program::{Home, error_line, text};

const COMMANDS: [&str; 10] =
    ["run", "pull", "list", "inspect", "tokenize", "logits", "measure", "calibrate", "bench", "completions"];

#[test]
fn every_command_explains_itself_with_an_example() {
    let home = Home::new();
    for command in COMMANDS {
        let output = home.lossy(&[command, "--help"]).output().unwrap();
        assert!(output.status.success());
        assert!(text(&output.stdout).contains(&format!("lossy {command}")), "{command}");
        assert!(text(&output.stdout).contains("Example"), "{command}");
    }
    let output = home.lossy(&["--help"]).output().unwrap();
    for command in COMMANDS {
        assert!(text(&output.stdout).contains(command), "{command}");
    }
}

#[test]
fn help_has_no_colours_when_it_is_not_on_a_terminal() {
    let output = Home::new().lossy(&["run", "--help"]).output().unwrap();
    assert!(!output.stdout.contains(&0x1b));
}

#[test]
fn the_version_says_what_was_built_and_for_which_instructions() {
    let output = Home::new().lossy(&["--version"]).output().unwrap();
    let line = text(&output.stdout);
    assert!(line.starts_with(concat!("lossy ", env!("CARGO_PKG_VERSION"), " (")), "{line}");
    assert!(line.contains("instructions: ") && line.lines().count() == 1, "{line}");
}

#[test]
fn completions_are_a_script_for_each_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = Home::new().lossy(&["completions", shell]).output().unwrap();
        assert!(output.status.success());
        assert!(text(&output.stdout).contains("cache-type-k"), "{shell}");
    }
}

/// `lossy ARGS` with `stdout`.
fn printing_to(stdout: impl Into<std::process::Stdio>, args: &[&str]) -> std::process::Output {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_lossy"));
    command.env_clear().envs(Home::new().variables()).args(args);
    command.stdout(stdout).stderr(std::process::Stdio::piped()).output().unwrap()
}

#[cfg(target_os = "linux")]
#[test]
fn output_that_cannot_be_written_is_an_error_help_too() {
    for args in
        [&["--help"][..], &["--version"], &["help", "run"], &["run", "--help"], &["completions", "bash"]]
    {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let output = printing_to(full, args);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {stderr}");
        assert!(stderr.starts_with("error: writing to standard output: No space left"), "{args:?}: {stderr}");
    }
}

#[cfg(unix)]
#[test]
fn a_reader_of_help_that_has_gone_is_no_error() {
    for args in [&["--version"][..], &["run", "--help"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = printing_to(writer, args);
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""), "{args:?}");
    }
}

/// Exit code 2, and a message with `expected` in it.
#[track_caller]
fn misused(args: &[&str], expected: &str) {
    let output = Home::new().lossy(args).output().unwrap();
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
    assert!(stderr.contains(expected), "{args:?}: {stderr}");
    assert!(output.stdout.is_empty(), "{args:?}");
}

#[test]
fn values_outside_their_range_are_refused_with_the_range() {
    misused(&["run", "-p", "x", "--temp", "-1"], "expected a number from 0 to 100");
    misused(&["run", "-p", "x", "--top-p", "1.5"], "expected a number from 0 to 1");
    misused(&["run", "-p", "x", "--min-p", "nan"], "expected a number from 0 to 1");
    misused(&["run", "-p", "x", "-n", "-2"], "-1..=2147483648");
    misused(&["run", "-p", "x", "-t", "0"], "1..=1024");
    misused(&["run", "-p", "x", "-b", "0"], "1..=1048576");
    misused(&["run", "-p", "x", "-c", "99999999999"], "0..=134217728");
    misused(&["run", "-p", "x", "--seed", "abc"], "--seed");
    misused(&["run", "-p", "x", "--logit-bias", "hello"], "expected TOKEN+BIAS");
    misused(&["run", "-p", "x", "--kv-budget", "12X"], "unknown unit `X`");
    misused(&["run", "-p", "x", "--stop", ""], "value is required");
    misused(&["run", "-p", "x", "--activations", "f64"], "[possible values: f32, q8]");
    misused(&["logits", "--ids", "1,x", "-o", "f"], "`x` is not a token id");
    misused(&["logits", "--ids", "1", "--last", "0", "-o", "f"], "--last");
    misused(&["bench", "-p", "abc"], "expected numbers such as");
    misused(&["bench", "-r", "0"], "1..=10000");
}

#[test]
fn caches_that_do_not_exist_are_refused_with_those_that_do() {
    misused(&["run", "-p", "x", "--kv", "nonsense"], "unknown KV scheme `nonsense`; there are f16, f32, q8");
    misused(
        &["run", "-p", "x", "-ctk", "q4_0"],
        "KV scheme `q4_0` is a llama.cpp cache type that lossy does not have",
    );
    misused(
        &["run", "-p", "x", "-ctk", "f16", "-ctv", "f32"],
        "give f16 for both, or a mixture such as k4v2",
    );
}

#[test]
fn combinations_that_cannot_work_are_refused() {
    misused(&[], "Usage");
    misused(&["frobnicate"], "unrecognized subcommand");
    misused(&["run", "--frobnicate"], "unexpected argument");
    misused(&["run", "a.gguf", "-m", "b.gguf"], "cannot be used with");
    misused(&["run", "-m", "a.gguf", "-hf", "a/b"], "cannot be used with");
    misused(&["run", "-p", "x", "--no-chat-template", "-sys", "y"], "cannot be used with");
    misused(&["logits", "-p", "x", "--ids", "1", "-o", "f"], "cannot be used with");
    misused(&["logits", "-p", "x"], "--output");
    misused(&["bench", "-p", "0", "-n", "0"], "nothing to measure");
    misused(&["pull"], "MODEL");
}

#[test]
fn arguments_that_are_not_utf8_are_refused() {
    use std::os::unix::ffi::OsStrExt;
    let bad = std::ffi::OsStr::from_bytes(b"a\xff");
    let output = Home::new().lossy(&["run", "-p"]).arg(bad).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
}

#[test]
fn standard_input_is_left_alone_when_that_is_asked_for() {
    let home = Home::new();
    let model = tiny_model::write(home.path()).display().to_string();
    let ids = |args: &[&str], stdin: &str| {
        let mut command = home.lossy(&[&["tokenize", &model, "--ids"], args].concat());
        command.write_stdin(stdin).output().unwrap()
    };
    let prompt = ids(&["-p", "hi", "--no-stdin"], "");
    assert!(prompt.status.success(), "{}", text(&prompt.stderr));
    assert_eq!(ids(&["-p", "hi", "--no-stdin"], "more").stdout, prompt.stdout);
    assert_ne!(ids(&["-p", "hi"], "more").stdout, prompt.stdout);
    for (args, expected) in
        [(&["--no-stdin"][..], "leaves -p and -f"), (&["--no-stdin", "-f", "-"], "forbids it")]
    {
        let output = ids(args, "more");
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains(expected), "{}", text(&output.stderr));
    }
}

#[test]
fn a_byte_order_mark_is_not_a_part_of_a_prompt() {
    let home = Home::new();
    let model = tiny_model::write(home.path()).display().to_string();
    fs::write(home.path().join("plain.txt"), "hi").unwrap();
    fs::write(home.path().join("marked.txt"), "\u{feff}hi").unwrap();
    fs::write(home.path().join("wide.txt"), b"\xff\xfeh\0i\0").unwrap();
    let ids = |file: &str| home.lossy(&["tokenize", &model, "--ids", "-f", file]).output().unwrap();
    assert!(!ids("plain.txt").stdout.is_empty());
    assert_eq!(ids("marked.txt").stdout, ids("plain.txt").stdout);
    let line = error_line(&mut home.lossy(&["tokenize", &model, "-f", "wide.txt"]));
    assert!(line.contains("wide.txt is UTF-16") && line.contains("save it as UTF-8"), "{line}");
}
