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
    assert!(
        text(&other.stderr).contains("its KV scheme is q8, but f16 is in use"),
        "{}",
        text(&other.stderr)
    );
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
    let own = "Case 17: fever of 39.2 since Monday, no rash; amoxicillin 500 mg three times a day for a week.\n\
               Case 18: the pain began on the left, after a long walk home in the rain, and was worse at night.\n\
               Case 19: blood pressure 145 over 95, pulse 72; to be seen again in June with a list of all drugs.\n\
               Case 20: a cut over the right eye, closed with four stitches under local anaesthesia; they come out on Friday.\n";
    fs::write(home.path().join("own.txt"), own.repeat(10)).unwrap();
    let calibrate = || home.lossy(&["calibrate", &model, "--calibrate", "own.txt"]).output().unwrap();
    let first = text_of(calibrate());
    assert!(first.contains("is calibrated on") && first.contains("own.txt"), "{first}");
    let second = text_of(calibrate());
    assert!(second.contains("was calibrated on own.txt before"), "{second}");
    let run = ["run", &model, "--kv", "k2v2", "--calibrate", "own.txt", "-p", "Hi", "-n", "1", "--temp", "0"];
    text_of(home.lossy(&run).output().unwrap());

    let refused = |content: &[u8], why: &str| {
        fs::write(home.path().join("bad.txt"), content).unwrap();
        let output = home.lossy(&["calibrate", &model, "--calibrate", "bad.txt"]).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains(why), "{why}: {}", text(&output.stderr));
    };
    refused(b"", "0 tokens, but at least 256");
    refused(b"x", "1 tokens, but at least 256");
    refused(&[0xFF, 0xFE, 0, 0, 1, 2, 3], "UTF-8");
    refused(&[0; 4000], "different tokens, but at least 64");
    refused("word ".repeat(600).as_bytes(), "different tokens, but at least 64");
    let missing = home.lossy(&["calibrate", &model, "--calibrate", "missing.txt"]).output().unwrap();
    assert!(text(&missing.stderr).contains("--calibrate missing.txt: "), "{}", text(&missing.stderr));
}
