//! KV schemes and prompt caches, with SmolLM2-135M-Instruct.

use std::fs;

use lossy_testkit::TestModel;

use crate::program::{Home, text};

fn model() -> String {
    TestModel::SmolLm2.path().display().to_string()
}

#[test]
fn a_prompt_cache_is_used_again_and_refuses_another_scheme() {
    let home = Home::new();
    let cache = home.path().join("prompt.kv");
    let document = "The quick brown fox jumps over the lazy dog. ".repeat(40);
    let run = |scheme: &str, question: &str| {
        let prompt = format!("{document}{question}");
        let model = model();
        home.lossy(&[
            "run",
            &model,
            "--kv",
            scheme,
            "-n",
            "4",
            "--temp",
            "0",
            "-p",
            &prompt,
            "--prompt-cache",
        ])
        .arg(&cache)
        .output()
        .unwrap()
    };
    let first = run("q8", "Who jumps?");
    assert!(first.status.success(), "{}", text(&first.stderr));
    assert!(!text(&first.stderr).contains("cached"), "{}", text(&first.stderr));
    let second = run("q8", "Over whom?");
    assert!(text(&second.stderr).contains("cached"), "{}", text(&second.stderr));
    let other = run("f16", "Who jumps?");
    assert_eq!(other.status.code(), Some(1));
    assert!(text(&other.stderr).contains("in the scheme q8, but f16 is in use"), "{}", text(&other.stderr));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(&cache).unwrap().permissions().mode() & 0o777, 0o600);
    }
    // One byte in the middle is not as it was written.
    let mut bytes = fs::read(&cache).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&cache, bytes).unwrap();
    let damaged = run("q8", "Who jumps?");
    assert_eq!(damaged.status.code(), Some(1));
    assert!(text(&damaged.stderr).contains("checksum"), "{}", text(&damaged.stderr));
}

#[test]
fn a_scheme_that_does_not_exist_is_a_usage_error_that_lists_those_that_do() {
    let home = Home::new();
    let output = home.lossy(&["run", &model(), "--kv", "k9v9", "-p", "x"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("k2v2"), "{}", text(&output.stderr));
    let output = home.lossy(&["run", &model(), "-ctk", "q4_0", "-p", "x"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("k4v4"), "{}", text(&output.stderr));
}

#[test]
fn a_calibration_on_own_text_is_kept_and_found_again() {
    let home = Home::new();
    let model = model();
    let text_of = |output: std::process::Output| {
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stderr).to_string()
    };
    fs::write(home.path().join("own.txt"), "Case 17: fever of 39.2 since Monday, no rash.\n".repeat(30))
        .unwrap();
    let calibrate = || home.lossy(&["calibrate", &model, "--calibrate", "own.txt"]).output().unwrap();
    let first = text_of(calibrate());
    assert!(first.contains("is calibrated on") && first.contains("own.txt"), "{first}");
    let second = text_of(calibrate());
    assert!(second.contains("was calibrated on own.txt before"), "{second}");
    let run = ["run", &model, "--kv", "k2v2", "--calibrate", "own.txt", "-p", "Hi", "-n", "1", "--temp", "0"];
    text_of(home.lossy(&run).output().unwrap());

    fs::write(home.path().join("short.txt"), "Too little.").unwrap();
    let short = home.lossy(&["calibrate", &model, "--calibrate", "short.txt"]).output().unwrap();
    assert_eq!(short.status.code(), Some(1));
    assert!(text(&short.stderr).contains("at least 256 are needed"), "{}", text(&short.stderr));
    let missing = home.lossy(&["calibrate", &model, "--calibrate", "missing.txt"]).output().unwrap();
    assert!(text(&missing.stderr).contains("--calibrate missing.txt: "), "{}", text(&missing.stderr));
}
