//! Commands that make a smaller model, under a limit on memory: never is the model in memory as float32.
//!
//! The limit is on what is allocated (`RLIMIT_DATA`): mapped files do not count, nor does what is reserved and cannot be written.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use lossy_testkit::deep_model;

use crate::program::{Home, text};

const N_LAYERS: usize = 120;

/// Runs `lossy ARGS` with so many bytes for data.
fn limited(home: &Home, bytes: u64, args: &[&str]) -> Output {
    Command::new("sh")
        .args(["-c", "ulimit -d \"$0\" && exec \"$@\"", &(bytes / 1024).to_string()])
        .arg(env!("CARGO_BIN_EXE_lossy"))
        .args(args)
        .env_clear()
        .envs(home.variables())
        .current_dir(home.path())
        .output()
        .unwrap()
}

/// `0.7 GiB` or `44.1 MiB` in the line of a dry run, as bytes.
fn estimated(home: &Home, args: &[&str]) -> u64 {
    let dry = home.lossy(&[args, &["--dry-run"]].concat()).output().unwrap();
    let line = text(&dry.stdout).lines().find(|line| line.starts_with("estimated from")).unwrap();
    let mut words = line.split("up to ").nth(1).unwrap().split(' ');
    let number: f64 = words.next().unwrap().parse().unwrap();
    let unit = match words.next().unwrap() {
        "KiB" => 1024.0,
        "MiB" => 1024.0 * 1024.0,
        "GiB" => 1024.0 * 1024.0 * 1024.0,
        unit => panic!("{unit} in {line}"),
    };
    (number * unit) as u64
}

fn len(path: &Path) -> u64 {
    fs::metadata(path).unwrap().len()
}

/// Runs a command that makes `small.gguf` with what its dry run says, a quarter more, and both files; and that this is a limit.
fn check(command: &[&str]) {
    let home = Home::new();
    let model = deep_model::write(home.path(), N_LAYERS);
    // Characters of the tiny vocabulary: each is a token.
    fs::write(home.path().join("text.txt"), "Abc, de fgh 12345 ij.".repeat(98)).unwrap();
    let args = [command, &["-t", "2"]].concat();
    let estimated = estimated(&home, &args);
    // What a process of this program has before it does anything.
    let least =
        (1..).map(|n| n * (1 << 20)).find(|&bytes| limited(&home, bytes, &["--version"]).status.success());
    let least = least.unwrap();
    let limit = least + estimated * 5 / 4 + 2 * len(&model);
    let in_float32 = deep_model::bytes_in_float32(N_LAYERS);
    println!("limit {limit}, of it {least} empty, {estimated} estimated; {in_float32} in float32");
    assert!(limit < in_float32, "the model is too small for this test");
    let output = limited(&home, limit, &args);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let small = home.path().join("small.gguf");
    assert!(len(&small) < len(&model));
    fs::remove_file(small).unwrap();
    // With a third of it there is no file, and a message.
    let output = limited(&home, least + estimated / 3, &args);
    assert!(!output.status.success() && !output.stderr.is_empty());
    assert!(!home.path().join("small.gguf").exists());
}

#[test]
fn quantize_with_feedback_never_has_the_model_in_float32() {
    check(&["quantize", "deep.gguf", "small.gguf", "q2_k", "--pure", "--feedback", "-f", "text.txt"]);
}

#[test]
fn quantize_never_has_the_model_in_float32() {
    check(&["quantize", "deep.gguf", "small.gguf", "q2_k", "--pure"]);
}
