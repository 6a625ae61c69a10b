//! Contexts beyond the trained one, with SmolLM2-135M-Instruct, which was trained for 8,192 tokens.

use std::fs;

use lossy_testkit::TestModel;

use crate::program::{Home, error_line, text};

fn model() -> String {
    TestModel::SmolLm2.path().display().to_string()
}

/// Logits after `prompt`, byte for byte.
fn logits(home: &Home, prompt: &str, args: &[&str]) -> Vec<u8> {
    let mut command = home.lossy(&["logits", &model(), "-p", prompt, "-o", "out.f32"]);
    let output = command.args(args).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    fs::read(home.path().join("out.f32")).unwrap()
}

#[test]
fn a_prompt_that_fits_the_trained_context_has_the_same_bits_in_a_longer_one() {
    let home = Home::new();
    let prompt = "A patient of 34 years has had fever since Monday. ".repeat(20);
    let plain = logits(&home, &prompt, &[]);
    assert_eq!(logits(&home, &prompt, &["-c", "65536"]), plain);
    assert_eq!(logits(&home, &prompt, &["-c", "32768", "-gan", "8"]), plain);
    assert_ne!(logits(&home, &prompt, &["-c", "32768", "--rope-scaling", "yarn"]), plain);
}

#[test]
fn a_map_changes_what_the_model_sees_beyond_its_window() {
    let home = Home::new();
    let prompt = "A patient of 34 years has had fever since Monday. ".repeat(60);
    let plain = logits(&home, &prompt, &[]);
    let grouped = logits(&home, &prompt, &["-gan", "4", "-gaw", "128"]);
    let adaptive = logits(&home, &prompt, &["--positions", "adaptive:window=128,reach=512,exact=512"]);
    assert!(grouped != plain && adaptive != plain && grouped != adaptive);
}

#[test]
fn the_program_says_which_map_is_in_force_and_how_far_it_reaches() {
    let home = Home::new();
    let model = model();
    let output = home.lossy(&["run", &model, "-c", "30000", "-p", "Hello", "-n", "1"]).output().unwrap();
    let notes = text(&output.stderr);
    assert!(notes.contains("30,000 tokens on a model trained for 8,192: positions adaptive:"), "{notes}");
    let output = home.lossy(&["inspect", &model, "-c", "30000", "--json"]).output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let positions = &report["positions"];
    assert!(positions["map"].as_str().unwrap().starts_with("adaptive:"), "{positions}");
    assert!(positions["longest_ctx"].as_u64().unwrap() > 8 * 8192, "{positions}");
}

#[test]
fn what_no_map_reaches_is_an_error_with_both_numbers() {
    let home = Home::new();
    let model = model();
    let run = |args: &[&str]| {
        let mut command = home.lossy(&["run", &model, "-p", "Hello", "-n", "1"]);
        error_line(command.args(args))
    };
    let line = run(&["-c", "65536", "-gan", "4", "-gaw", "1024"]);
    assert!(line.contains("reach 29696 tokens") && line.contains("the context is 65536"), "{line}");
    let line = run(&["-c", "10000", "--positions", "linear"]);
    assert!(line.contains("reach 8192 tokens") && line.contains("the context is 10000"), "{line}");
    let line = run(&["-c", "100000000"]);
    assert!(line.contains("the context is 100000000"), "{line}");
}

#[test]
fn windows_and_groups_that_do_not_go_together_are_usage_errors() {
    let home = Home::new();
    for (args, wanted) in [
        (["-gan", "8", "-gaw", "1000"], "such as 1024"),
        (["-gan", "100", "-gaw", "1024"], "2 to 64"),
        (["--positions", "self-extend:group=3,window=128", "-c", "9000"], "such as 384"),
        (["--positions", "rope", "-c", "9000"], "self-extend"),
        (["--positions", "linear", "--rope-scaling", "yarn"], "cannot be used with"),
    ] {
        let output = home.lossy(&["run", "-p", "Hello"]).args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(text(&output.stderr).contains(wanted), "{args:?}: {}", text(&output.stderr));
    }
}

#[test]
fn measure_compares_maps() {
    let home = Home::new();
    let output = home
        .lossy(&[
            "measure",
            &model(),
            "--positions",
            "linear,adaptive:window=128,reach=512,exact=512",
            "-c",
            "768",
        ])
        .args(["--tokens", "128", "--skip", "640", "-o", "json"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let settings = report["divergence"][0]["settings"].as_array().unwrap();
    assert_eq!(settings.len(), 2);
    assert_eq!(settings[0]["setting"], "f16 linear");
    assert_eq!(settings[1]["setting"], "f16 adaptive:window=128,reach=512,exact=512");
    let kl = |index: usize| settings[index]["kl"]["mean"]["value"].as_f64().unwrap();
    assert_eq!(kl(0), 0.0, "the reference has linear positions");
    assert!(kl(1) > 1e-6 && kl(1) < 1.0, "{}", kl(1));
}
