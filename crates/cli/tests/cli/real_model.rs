//! The commands on a real model, SmolLM2-135M-Instruct.

use std::fs;
use std::io::Read;
use std::process::{Child, Command, Stdio};

use lossy_testkit::{TestModel, cache_home, kl_divergence};

use crate::program::{Home, error_line, text};

const QUESTION: &str = "What is the capital of France?";

fn model() -> String {
    TestModel::SmolLm2.path().display().to_string()
}

/// `lossy run` of the model with these arguments, without chance and without the line of counts.
fn run(home: &Home, args: &[&str]) -> assert_cmd::Command {
    let mut command = home.lossy(&["run", &model(), "-q", "--temp", "0"]);
    command.args(args);
    command
}

#[track_caller]
fn answer(command: &mut assert_cmd::Command) -> String {
    let output = command.output().expect("the program starts");
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "");
    text(&output.stdout).to_string()
}

#[test]
fn a_prompt_is_the_same_as_an_option_a_file_or_standard_input() {
    let home = Home::new();
    fs::write(home.path().join("question.txt"), QUESTION).unwrap();
    let option = answer(&mut run(&home, &["-p", QUESTION, "-n", "8"]));
    assert!(option.trim().len() > 1 && option.ends_with('\n'), "{option:?}");
    assert_eq!(answer(&mut run(&home, &["-f", "question.txt", "-n", "8"])), option);
    assert_eq!(answer(run(&home, &["-n", "8"]).write_stdin(QUESTION)), option);
    assert_eq!(answer(run(&home, &["-f", "-", "-n", "8"]).write_stdin(QUESTION)), option);
}

#[test]
fn the_text_does_not_depend_on_the_number_of_threads() {
    let home = Home::new();
    let text = |threads| answer(&mut run(&home, &["-p", QUESTION, "-n", "32", "-t", threads]));
    assert_eq!(text("1"), text("2"));
}

#[test]
fn a_prompt_longer_than_the_context_is_refused_with_both_numbers() {
    let home = Home::new();
    let line = error_line(&mut run(
        &home,
        &["--no-chat-template", "-p", "one two three four", "-n", "1", "-c", "3"],
    ));
    assert!(line.contains("the prompt has 4 tokens, but the context holds 3"), "{line}");
}

#[test]
fn a_file_that_is_not_utf8_is_refused_with_the_position() {
    let home = Home::new();
    fs::write(home.path().join("bad.txt"), b"ab\xffc").unwrap();
    let line = error_line(&mut run(&home, &["-f", "bad.txt", "-n", "1"]));
    assert_eq!(line, "error: bad.txt is not UTF-8: byte 2 is 0xff");
}

#[test]
fn two_bit_keys_and_values_give_text() {
    let home = Home::new();
    let mut command = run(&home, &["-p", QUESTION, "-n", "8", "--kv", "k2v2"]);
    // Calibrating takes seconds: it is kept where a user's own is.
    let output = command.env("XDG_CACHE_HOME", cache_home()).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).trim().len() > 1);
}

#[test]
fn logits_are_those_of_the_reference() {
    let home = Home::new();
    let golden = TestModel::SmolLm2.golden().swap_remove(0);
    let ids = golden.ids.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    let args = ["logits", &model(), "--ids", &ids, "--last", "1", "--activations", "f32", "-o", "logits.f32"];
    home.lossy(&args).assert().success();
    let bytes = fs::read(home.path().join("logits.f32")).unwrap();
    let (floats, []) = bytes.as_chunks::<4>() else { panic!("{} bytes are no floats", bytes.len()) };
    let logits: Vec<f32> = floats.iter().map(|&float| f32::from_le_bytes(float)).collect();
    let divergence = kl_divergence(&golden.last_logits, &logits);
    assert!(divergence < 1e-6, "{divergence}");
}

#[test]
fn the_ids_of_a_text_are_those_of_the_reference() {
    let home = Home::new();
    for golden in TestModel::SmolLm2.golden() {
        let output = home.lossy(&["tokenize", &model(), "--ids", "-p", &golden.text]).output().unwrap();
        let ids: Vec<u32> = serde_json::from_slice(&output.stdout).expect("a list of numbers");
        assert_eq!(ids, golden.ids, "{}", golden.name);
    }
}

#[test]
fn bench_prints_a_json_list_with_one_object_for_each_test() {
    let home = Home::new();
    let args = ["bench", &model(), "-p", "8", "-n", "2", "-r", "2", "-t", "1", "-o", "json"];
    let output = home.lossy(&args).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let rows: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).expect("JSON");
    let names: Vec<&str> = rows.iter().map(|row| row["test"].as_str().unwrap()).collect();
    assert_eq!(names, ["pp8", "tg2"]);
    for row in &rows {
        assert_eq!(row["n_threads"], 1);
        assert_eq!(row["samples_ts"].as_array().unwrap().len(), 2);
        assert!(row["avg_ts"].as_f64().unwrap() > 0.0, "{row}");
    }
}

#[test]
fn bench_fills_a_depth_with_copies_and_says_so() {
    let home = Home::new();
    let args = ["bench", &model(), "-p", "0", "-n", "1", "-d", "128,2500", "-r", "1", "--no-warmup"];
    let args = [&args[..], &["--depth-fill", "copies", "-o", "json", "--kv", "q8,kivi2"]].concat();
    let output = home.lossy(&args).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let rows: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).expect("JSON");
    let names: Vec<&str> = rows.iter().map(|row| row["test"].as_str().unwrap()).collect();
    assert_eq!(names, ["tg1 @ d128", "tg1 @ d128", "tg1 @ d2500", "tg1 @ d2500"]);
    for row in &rows {
        assert_eq!(row["depth_fill"], "copies");
        // Pages of 128 tokens, of which the last one at least is as it is: f16, 23,040 bytes a token.
        let n_pages = row["n_depth"].as_u64().unwrap() / 128;
        let kv_bytes = row["kv_bytes"].as_u64().unwrap();
        let (bits, n_exact) = if row["type_k"] == "q8" { (17, 1) } else { (6, 2) };
        assert_eq!(kv_bytes, 128 * 23_040 * n_pages * bits / 32 + n_exact * 128 * 23_040, "{row}");
    }
}

#[test]
fn inspect_knows_the_shapes_and_the_memory() {
    let home = Home::new();
    let output = home.lossy(&["inspect", &model()]).output().unwrap();
    let shown = text(&output.stdout);
    assert!(shown.contains("9 query, 3 key/value, 64 channels each"), "{shown}");
    // Two of 30 layers · 3 heads · 64 channels · 2 bytes.
    assert!(shown.contains("23,040 bytes per token (f16)"), "{shown}");
    let output = home.lossy(&["inspect", &model(), "--json"]).output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["kv_bytes_per_token"]["f16"], 23_040);
}

/// A long answer whose first bytes have come.
fn long_answer(home: &Home) -> (Child, Vec<u8>) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_lossy"))
        .env_clear()
        .envs(home.variables())
        .args(["run", &model(), "-p", "Tell me a story.", "-n", "8000", "--ignore-eos", "--seed", "1"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut first = vec![0; 8];
    child.stdout.as_mut().unwrap().read_exact(&mut first).expect("an answer");
    (child, first)
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_an_answer_with_what_was_said_so_far() {
    let home = Home::new();
    let (child, mut said) = long_answer(&home);
    let kill = Command::new("sh").args(["-c", &format!("kill -INT {}", child.id())]).status().unwrap();
    assert!(kill.success());
    let output = child.wait_with_output().unwrap();
    said.extend(&output.stdout);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    assert!(text(&said).ends_with('\n'), "{}", text(&said));
    assert!(stderr.contains("generated") && !stderr.contains("error"), "{stderr}");
}

#[test]
fn a_reader_that_has_enough_ends_the_program_without_an_error() {
    let home = Home::new();
    let (mut child, _) = long_answer(&home);
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(!text(&output.stderr).contains("error"), "{}", text(&output.stderr));
}
