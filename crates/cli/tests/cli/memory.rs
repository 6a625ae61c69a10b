//! `lossy compress` under a limit on memory: never the model in float32.

use std::fs;
use std::process::Command;

use lossy_testkit::tiny_model;

use crate::program::{Home, text};

/// Runs `lossy ARGS` with so many bytes of address space, which mapped files and stacks count in.
fn limited(home: &Home, bytes: u64, args: &[&str]) -> std::process::Output {
    Command::new("sh")
        .args(["-c", "ulimit -v \"$0\" && exec \"$@\"", &(bytes / 1024).to_string()])
        .arg(env!("CARGO_BIN_EXE_lossy"))
        .args(args)
        .env_clear()
        .envs(home.variables())
        // Else every thread reserves 64 MiB or more that it never writes to.
        .env("MALLOC_ARENA_MAX", "1")
        .current_dir(home.path())
        .output()
        .unwrap()
}

/// `0.7 GiB` or `44.1 MiB` in a line, as bytes.
fn told(line: &str) -> u64 {
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

#[test]
fn a_model_that_is_larger_in_float32_than_all_memory_is_compressed() {
    const N_LAYERS: usize = 120;
    let home = Home::new();
    let model = tiny_model::write_deep(home.path(), N_LAYERS);
    // Characters of the tiny vocabulary: each a token.
    fs::write(home.path().join("text.txt"), "Abc, de fgh 12345 ij.".repeat(110)).unwrap();
    let args = ["compress", "deep.gguf", "-o", "small.gguf", "--max-bits", "3", "-f", "text.txt", "-t", "2"];
    let dry = home.lossy(&[&args[..], &["--dry-run"]].concat()).output().unwrap();
    let estimated = told(text(&dry.stdout).lines().find(|line| line.starts_with("estimated from")).unwrap());
    // What a process of this program has before it does anything: code, stacks, tables.
    let least =
        (1..).map(|n| n * (8 << 20)).find(|&bytes| limited(&home, bytes, &["--version"]).status.success());
    let least = least.unwrap();
    let in_float32 = 4 * 753_664 * N_LAYERS as u64;
    let limit = least + fs::metadata(&model).unwrap().len() + estimated;
    println!("limit {limit}, of it {least} empty, {estimated} estimated; {in_float32} in float32");
    assert!(limit < in_float32, "the model is too small for this test");
    let output = limited(&home, limit, &args);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(home.path().join("small.gguf").exists());
    // The limit is one: with half of it there is no file, and a message.
    let output = limited(
        &home,
        limit / 2,
        &["compress", "deep.gguf", "-o", "other.gguf", "--max-bits", "3", "-t", "2"],
    );
    assert!(!output.status.success() && !output.stderr.is_empty());
    assert!(!home.path().join("other.gguf").exists());
}
