//! `lossy measure`, with SmolLM2-135M-Instruct.

use std::fs;
#[cfg(target_os = "linux")]
use std::process::{Command, Stdio};

use lossy_testkit::TestModel;

use crate::program::{Home, error_line, text};

fn model() -> String {
    TestModel::SmolLm2.path().display().to_string()
}

/// As the program prints it with `-o json`.
fn report(home: &Home, args: &[&str]) -> serde_json::Value {
    let model = model();
    let args: Vec<&str> = ["measure", &model, "-o", "json"].into_iter().chain(args.iter().copied()).collect();
    let output = home.lossy(&args).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn the_exact_cache_costs_nothing_and_another_something() {
    let home = Home::new();
    let report = report(&home, &["--kv", "f16,q8", "-c", "128", "--tokens", "20"]);
    assert_eq!(report["is_complete"], true);
    let measured = &report["divergence"][0];
    let settings = measured["settings"].as_array().unwrap();
    let names: Vec<&str> = settings.iter().map(|setting| setting["setting"].as_str().unwrap()).collect();
    assert_eq!(names, ["f16", "q8"]);
    assert_eq!(settings[0]["kl"]["max"], 0.0);
    assert_eq!(settings[0]["same_top"]["value"], 1.0);
    assert_eq!(settings[0]["n_scored"], 20);
    assert!(settings[1]["bits_per_value"].as_f64().unwrap() < 10.0);
    assert_eq!(measured["texts"][0], "bundled prose");
}

#[test]
fn questions_are_asked_of_the_reference_and_the_setting() {
    let home = Home::new();
    let report = report(&home, &["--kv", "f16", "--task", "passkey", "--lengths", "200", "--samples", "1"]);
    let rows = report["tasks"].as_array().unwrap();
    assert_eq!(rows.len(), 2);
    for row in rows {
        assert_eq!((row["task"].as_str(), row["n_cases"].as_u64()), (Some("passkey"), Some(1)));
        assert_eq!(row["log_prob_change"]["value"], 0.0);
    }
    assert!(rows[0]["log_prob_per_token"]["value"].as_f64().unwrap() > -1.0, "{}", rows[0]);
}

#[test]
fn without_a_setting_questions_are_asked_of_the_model_alone() {
    let home = Home::new();
    let report = report(&home, &["--task", "passkey", "--lengths", "200", "--samples", "1"]);
    let rows = report["tasks"].as_array().unwrap();
    assert_eq!((rows.len(), rows[0]["setting"].as_str()), (1, Some("f16")));
}

#[test]
fn the_reference_can_have_positions_of_its_own() {
    let home = Home::new();
    let map = "self-extend:group=2,window=128";
    let kl = |args: &[&str]| {
        let common = ["--positions", map, "-c", "300", "--tokens", "20"];
        let report = report(&home, &[args, &common].concat());
        let measured = &report["divergence"][0];
        let names = [&measured["reference"], &measured["settings"][0]].map(|row| row["setting"].to_string());
        (names, measured["settings"][0]["kl"]["max"].as_f64().unwrap())
    };
    let (names, largest) = kl(&[]);
    assert_eq!(names, ["\"f16\"".to_string(), format!("\"f16 {map}\"")]);
    assert!(largest > 0.0);
    let (names, largest) = kl(&["--reference-positions", map]);
    assert_eq!(names, [format!("\"f16 {map}\""), format!("\"f16 {map}\"")]);
    assert_eq!(largest, 0.0);
    let certificates = home.path().join(".cache/lossy/certificates");
    report(&home, &["--kv", "q8", "--reference-positions", map, "-c", "300", "--tokens", "20"]);
    assert!(!certificates.exists(), "a certificate is of the positions that run would choose");
}

#[test]
fn a_page_has_all_that_it_needs() {
    let home = Home::new();
    let page = home.path().join("report.html");
    let (model, name) = (model(), page.display().to_string());
    let output = home
        .lossy(&["measure", &model, "--kv", "q8,kivi2", "-c", "384", "--tokens", "60", "-o", &name])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("| q8 |"), "{}", text(&output.stdout));
    let page = fs::read_to_string(page).unwrap();
    assert!(page.starts_with("<!doctype html>") && page.contains("<svg") && page.contains("kivi2"));
    assert!(!page.contains("http"), "it loads something");
}

#[test]
fn a_picture_needs_two_settings_that_lose_something_and_no_task() {
    let home = Home::new();
    let picture = home.path().join("curve.svg");
    let (model, name) = (model(), picture.display().to_string());
    let run = |args: &[&str]| {
        let common = ["measure", &model, "-c", "384", "-o", &name];
        home.lossy(&[&common, args].concat()).output().unwrap()
    };
    let output = run(&["--kv", "q8,kivi2", "--tokens", "60"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let drawn = fs::read_to_string(&picture).unwrap();
    assert!(drawn.starts_with("<svg xmlns=") && drawn.trim_end().ends_with("</svg>"), "{drawn}");
    assert!(drawn.contains(">q8</text>") && drawn.contains(">kivi2</text>"), "{drawn}");
    fs::remove_file(&picture).unwrap();

    let output = run(&["--kv", "q8", "--tokens", "60"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("| q8 |"), "{}", text(&output.stdout));
    assert!(text(&output.stderr).contains("fewer than two settings"), "{}", text(&output.stderr));
    let output = run(&["--kv", "q8", "--task", "passkey"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("no tasks"), "{}", text(&output.stderr));
    assert!(!picture.exists());
}

#[test]
fn a_budget_names_a_setting_and_leaves_a_certificate() {
    let home = Home::new();
    let broken = "k2v2:calibration=none";
    let settings = format!("q8,{broken}");
    let report = report(&home, &["--kv", &settings, "--max-loss", "kl=0.05", "-c", "512", "--tokens", "128"]);
    assert_eq!(report["choice"]["setting"], "q8");
    let folder = home.path().join(".cache/lossy/certificates");
    let folder = fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    let certificate = fs::read(folder.join("q8-q8-512.json")).unwrap();
    let certificate: serde_json::Value = serde_json::from_slice(&certificate).unwrap();
    assert_eq!(certificate["budget"], "kl=0.05");
    assert_eq!(certificate["model_hash"], report["model_hash"]);
    assert_eq!(certificate["text_hash"], report["divergence"][0]["text_hash"]);

    // What is known is said, and used, without a measurement; loudly where it is bad.
    let stderr = |args: &[&str], probe: &str| {
        let model = model();
        let args = [&["run", &model, "-p", "Hi", "-n", "1"], args].concat();
        let output = home.lossy(&args).env("LOSSY_PROBE", probe).output().unwrap();
        text(&output.stderr).to_string()
    };
    assert!(stderr(&["--kv", "q8"], "auto").contains("q8 on this model: KL 0.0"));
    assert!(!stderr(&["--kv", "q8"], "never").contains("on this model"));
    assert!(!stderr(&["--kv", "kivi4"], "auto").contains("on this model"), "measured without a terminal");
    let line = stderr(&["--kv", broken], "auto");
    assert!(line.starts_with(&format!("WARNING: {broken} on this model: KL 0.")), "{line}");
    let line = stderr(&["--max-loss", "kl=0.05"], "never");
    assert!(line.contains("q8 on this model") && line.contains(", within kl=0.05"), "{line}");
}

#[test]
fn a_reference_that_was_kept_serves_other_settings_and_no_other_text() {
    let home = Home::new();
    let (model, file) = (model(), home.path().join("kept.reference").display().to_string());
    let measure = ["--kv", "q8", "-c", "256", "--tokens", "40", "--reference", &file];
    let first = report(&home, &measure);
    let second = report(&home, &measure);
    assert!(first["divergence"][0]["reference"]["tokens_per_s"].is_number());
    assert!(second["divergence"][0]["reference"]["tokens_per_s"].is_null());
    let figures = |report: &serde_json::Value| report["divergence"][0]["settings"][0].clone();
    let (first, second) = (figures(&first), figures(&second));
    for exact in ["ppl", "ppl_reference", "same_top", "delta_p"] {
        assert_eq!(first[exact], second[exact], "{exact}");
    }
    let number = |value: &serde_json::Value| value.as_f64().unwrap();
    let error = number(&first["kl"]["mean"]["value"]) - number(&second["kl"]["mean"]["value"]);
    let stated = number(&second["kl_kept_se"]);
    assert!(stated > 0.0 && error.abs() < 5.0 * stated + 1e-7, "{error} of {stated}");
    assert!(number(&second["kl_at_least"]) <= number(&first["kl"]["mean"]["value"]) + 1e-7);
    assert_eq!(number(&first["kl_kept_se"]), 0.0);
    let line =
        error_line(&mut home.lossy(&["measure", &model, "--kv", "q8", "-c", "96", "--reference", &file]));
    assert!(line.contains("its context length is 256, but 96 is measured"), "{line}");
}

/// Until the program has a handler for the signal.
#[cfg(target_os = "linux")]
fn wait_for_handler(id: u32, signal: u32) {
    for _ in 0..600 {
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let caught = caught.and_then(|caught| u64::from_str_radix(caught.trim(), 16).ok()).unwrap_or(0);
        if caught & (1 << (signal - 1)) != 0 {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    panic!("no handler");
}

#[cfg(target_os = "linux")]
#[test]
fn ctrl_c_and_termination_keep_what_was_measured() {
    for (signal, code) in [(2, 130), (15, 143)] {
        let home = Home::new();
        let child = Command::new(env!("CARGO_BIN_EXE_lossy"))
            .env_clear()
            .envs(home.variables())
            .args([
                "measure",
                &model(),
                "--kv",
                "f16",
                "-c",
                "128",
                "-b",
                "32",
                "--tokens",
                "0",
                "-o",
                "json",
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        wait_for_handler(child.id(), signal);
        let kill =
            Command::new("sh").args(["-c", &format!("kill -{signal} {}", child.id())]).status().unwrap();
        assert!(kill.success());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(report["is_complete"], false);
    }
}

#[test]
fn what_cannot_be_measured_is_said_in_a_line() {
    let home = Home::new();
    let model = model();
    let short = home.path().join("short.txt");
    fs::write(&short, "too short").unwrap();
    let file = short.display().to_string();
    let line = error_line(&mut home.lossy(&["measure", &model, "--kv", "f16", "-c", "64", "-f", &file]));
    assert!(line.contains("tokens, but a window has 64"), "{line}");
    for (option, name) in [("--kv", "q8,x9"), ("--positions", "x9"), ("--max-loss", "top=95")] {
        let output = home.lossy(&["measure", &model, option, name]).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains(&format!("'{option}")), "{}", text(&output.stderr));
    }
    let line = error_line(&mut home.lossy(&[
        "measure",
        &model,
        "--kv",
        "f16",
        "--task",
        "passkey",
        "--lengths",
        "30",
    ]));
    assert!(line.contains("needs more than 30 tokens"), "{line}");
}
