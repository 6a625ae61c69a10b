//! What a KV scheme costs: said at its first use, kept, and found again by a run that has a budget.
//!
//! With SmolLM2-135M-Instruct where the figures matter; with a toy that reads a window in a moment where it matters what
//! becomes of them.

use std::fs;
use std::path::PathBuf;

use lossy_testkit::{TestModel, tiny_model};
use serde_json::Value;

use crate::program::{Home, error_line, text};

/// A home with a model in it, or beside it.
struct Case {
    home: Home,
    model: String,
}

impl Case {
    fn toy() -> Case {
        let home = Home::new();
        let model = tiny_model::write_wide(home.path()).display().to_string();
        Case { home, model }
    }

    fn smollm2() -> Case {
        Case { home: Home::new(), model: TestModel::SmolLm2.path().display().to_string() }
    }

    /// What `lossy run` of one token in a context of 512 says on standard error, without the counts.
    #[track_caller]
    fn run(&self, args: &[&str]) -> String {
        self.run_in("512", args)
    }

    #[track_caller]
    fn run_in(&self, n_ctx: &str, args: &[&str]) -> String {
        let args = [&["run", &self.model, "-p", "Hi", "-n", "1", "-c", n_ctx], args].concat();
        let output = self.home.lossy(&args).output().unwrap();
        let stderr = text(&output.stderr);
        assert!(output.status.success(), "{stderr}");
        let is_counts = |line: &&str| !line.starts_with("prompt ") && !line.contains("no chat template");
        stderr.lines().filter(is_counts).collect::<Vec<_>>().join("\n")
    }

    #[track_caller]
    fn measure(&self, args: &[&str]) -> (Value, String) {
        let args = [&["measure", &self.model, "-o", "json"], args].concat();
        let output = self.home.lossy(&args).output().unwrap();
        let stderr = text(&output.stderr).to_string();
        assert!(output.status.success(), "{stderr}");
        (serde_json::from_slice(&output.stdout).expect("JSON"), stderr)
    }

    fn certificates(&self) -> Vec<(PathBuf, Value)> {
        let folders = fs::read_dir(self.home.path().join(".cache/lossy/certificates"));
        let files =
            folders.into_iter().flatten().flat_map(|folder| fs::read_dir(folder.unwrap().path()).unwrap());
        let read = |path: PathBuf| {
            let value = serde_json::from_slice(&fs::read(&path).unwrap()).expect("JSON");
            (path, value)
        };
        files.map(|file| read(file.unwrap().path())).collect()
    }

    /// Changes every certificate.
    fn change(&self, change: impl Fn(&mut Value)) {
        for (path, mut certificate) in self.certificates() {
            change(&mut certificate);
            fs::write(path, certificate.to_string()).unwrap();
        }
    }
}

#[test]
fn a_scheme_is_measured_at_its_first_use_and_known_from_then_on() {
    let case = Case::smollm2();
    let run = |args: &[&str]| case.run_in("300", args);
    assert_eq!(run(&["--kv", "q8"]), "", "measured without a terminal");
    assert_eq!(run(&["--kv", "f16", "--probe", "always"]), "", "an exact cache costs nothing");
    let line = run(&["--kv", "q8", "--probe", "always"]);
    assert!(line.starts_with("q8 on this model: KL 0.00"), "{line}");
    assert!(line.ends_with(" %, 1.9× smaller than f16 (measured at 300 tokens)"), "{line}");
    let [(_, certificate)] = &case.certificates()[..] else { panic!("one certificate") };
    assert_eq!(certificate["setting"], "q8");
    let command = certificate["command"].as_str().unwrap();
    assert!(command.contains("--probe always") && !command.contains("Hi"), "the prompt is kept: {command}");
    assert_eq!(run(&["--kv", "q8"]), line);
    assert_eq!(run(&["--kv", "q8", "--probe", "never"]), "");
    assert_eq!(run(&["--kv", "q8", "--probe", "always", "-q"]), "");
    // It says nothing about a longer context.
    assert_eq!(case.run(&["--kv", "q8"]), "");
}

#[test]
fn a_budget_is_met_by_the_cheapest_scheme_within_it() {
    let case = Case::toy();
    let line = case.run(&["--max-loss", "kl=5"]);
    let (measuring, found) = line.split_once('\n').expect(&line);
    assert_eq!(measuring, "measuring what k2v2 costs on this model (once)");
    assert!(found.starts_with("k2v2 on this model: ") && found.ends_with(", within kl=5"), "{found}");
    assert_eq!(case.run(&["--max-loss", "kl=5"]), found);
    assert_eq!(case.run(&["--max-loss", "kl=5", "-q"]), "");
    // Dearer ones are measured where that one does not do, and then a mixture might do better.
    let kl = case.certificates()[0].1["loss"]["kl"]["value"].as_f64().unwrap();
    let line = case.run(&["--max-loss", &format!("kl={}", kl / 2.0)]);
    assert!(line.starts_with("measuring what k3v2 costs") && !line.contains("measuring what k2v2"), "{line}");
    assert!(line.contains(", within kl=") && line.contains("also tries mixtures of two schemes"), "{line}");
    let line = case.run(&["--max-loss", "kl=1e-12"]);
    assert!(
        line.contains("no KV scheme stays within kl=0.000000000001 on this model: the cache is f16"),
        "{line}"
    );
    let line = case.run_in("100", &["--max-loss", "kl=5"]);
    assert_eq!(line, "100 tokens are too few to measure a KV scheme on: the cache is f16");
}

#[test]
fn a_search_finds_a_mixture_and_a_run_within_the_same_budget_uses_it() {
    let case = Case::toy();
    let measure = ["-c", "768", "--tokens", "500"];
    let (report, _) = case.measure(&[&["--kv", "k2v2,k3v2"], &measure[..]].concat());
    let settings = report["divergence"][0]["settings"].as_array().unwrap();
    let loss = |setting: &Value| {
        let se =
            setting["kl"]["mean"]["se"].as_f64().unwrap().max(setting["kl_blocked_se"].as_f64().unwrap());
        setting["kl"]["mean"]["value"].as_f64().unwrap() + se
    };
    let (cheap, dear) = (loss(&settings[0]), loss(&settings[1]));
    assert!(cheap > 1.2 * dear, "{cheap} and {dear}: nothing lies between");
    let budget = format!("kl={:.6}", dear + 0.6 * (cheap - dear));
    let (report, note) = case.measure(&[&["--max-loss", &budget], &measure[..]].concat());
    let setting = report["choice"]["setting"].as_str().unwrap();
    assert!(setting.starts_with("k2v2:layers=") && setting.ends_with(":k3v2"), "{setting}");
    assert!(note.contains(&format!("the certificate of {setting}")), "{note}");
    assert_eq!(report["choice"]["sensitivity"]["layers"].as_array().unwrap().len(), 4);
    let line = case.run(&["--max-loss", &budget]);
    assert!(line.starts_with(&format!("{setting} on this model: ")), "{line}");
    assert!(line.ends_with(&format!("(measured at 768 tokens), within {budget}")), "{line}");
    // A mixture that is named has a line of its own.
    let named = ["--kv", "k2v2:layers=1+2:k4v4", "--probe", "always"];
    let line = case.run(&named);
    assert!(line.contains("k2v2:layers=1+2:k4v4 on this model: "), "{line}");
}

#[test]
fn a_certificate_of_another_version_model_kind_of_activations_or_shorter_context_is_not_used() {
    let mut case = Case::toy();
    let budget = ["--max-loss", "kl=5"];
    let is_measured = |case: &Case, args: &[&str]| {
        let line = case.run(&[&budget[..], args].concat());
        assert!(line.contains("k2v2 on this model: "), "{line}");
        line.contains("measuring what k2v2 costs")
    };
    assert!(is_measured(&case, &[]));
    assert!(!is_measured(&case, &[]));
    assert!(is_measured(&case, &["--activations", "f32"]));
    case.change(|certificate| certificate["version"] = "0.0.0".into());
    assert!(is_measured(&case, &[]), "of another version");
    assert!(!is_measured(&case, &[]));
    case.change(|certificate| certificate["n_ctx"] = 300.into());
    assert!(is_measured(&case, &[]), "in a shorter context");
    case.change(|certificate| certificate["loss"]["kl"]["value"] = "none".into());
    assert!(is_measured(&case, &[]), "damaged");
    // A file in which one bit of the last weight is another one.
    let mut bytes = fs::read(&case.model).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    case.model = case.home.path().join("patched.gguf").display().to_string();
    fs::write(&case.model, bytes).unwrap();
    assert!(is_measured(&case, &[]), "of another model");
}

#[test]
fn what_was_not_measured_as_a_run_would_be_leaves_no_certificate_that_it_uses() {
    let case = Case::toy();
    fs::write(case.home.path().join("own.txt"), ('!'..='l').collect::<String>().repeat(40)).unwrap();
    case.measure(&["--kv", "k2v2", "-c", "512", "--calibrate", "own.txt"]);
    // Nothing of a cache whose residual is longer than the text has been coded.
    let (report, _) = case.measure(&["--kv", "kivi2:residual_length=1024", "-c", "512"]);
    assert_eq!(report["divergence"][0]["settings"][0]["kl"]["max"], 0.0);
    assert!(case.certificates().is_empty(), "{:?}", case.certificates());
    // Other positions have a certificate of their own.
    case.measure(&["--kv", "k2v2", "--positions", "linear", "-c", "512"]);
    assert_eq!(case.certificates()[0].1["setting"], "k2v2 linear");
    assert!(case.run(&["--max-loss", "kl=5"]).starts_with("measuring what k2v2 costs"));
}

#[cfg(unix)]
#[test]
fn a_cache_directory_that_cannot_be_written_is_said_and_no_error() {
    let case = Case::toy();
    // Where a file is, nobody makes a folder: not even root, who may write everywhere.
    fs::write(case.home.path().join(".cache"), "").unwrap();
    let line = case.run(&["--max-loss", "kl=5"]);
    assert!(line.contains("what was measured could not be saved: "), "{line}");
    assert!(line.contains("the calibration could not be saved"), "{line}");
    assert!(line.contains("k2v2 on this model: "), "{line}");
}

#[test]
fn a_kept_reference_that_is_damaged_or_foreign_is_an_error_and_stays_as_it_is() {
    let case = Case::toy();
    let measure = ["--kv", "q8", "-c", "256", "--tokens", "40", "--reference", "kept"];
    let (first, note) = case.measure(&measure);
    assert!(note.contains("kept: the reference, 40 predictions"), "{note}");
    let (second, _) = case.measure(&measure);
    let of_reference = |report: &Value| report["divergence"][0]["reference"].clone();
    assert!(of_reference(&first)["tokens_per_s"].is_number());
    assert!(of_reference(&second)["tokens_per_s"].is_null(), "it was run again");
    let path = case.home.path().join("kept");
    let good = fs::read(&path).unwrap();
    let error = |bytes: &[u8], args: &[&str]| {
        fs::write(&path, bytes).unwrap();
        let args = [&["measure", &case.model], args].concat();
        let line = error_line(&mut case.home.lossy(&args));
        assert_eq!(fs::read(&path).unwrap(), bytes);
        line
    };
    let mut changed = good.clone();
    changed[good.len() / 2] ^= 1;
    for bytes in [&changed, &good[..good.len() - 1], &good[..50]] {
        assert!(error(bytes, &measure).contains("it is damaged: "));
    }
    let foreign = error(b"a text of somebody", &measure);
    assert!(foreign.ends_with("it does not begin with LOSSYREF; name another file"), "{foreign}");
    let line = error(&good, &[&measure[..], &["--activations", "f32"]].concat());
    assert!(line.contains("its setting is f16 linear, but f32 linear is measured"), "{line}");
    fs::write(case.home.path().join("own.txt"), "a text of my own ".repeat(40)).unwrap();
    let line = error(&good, &[&measure[..], &["-f", "own.txt"]].concat());
    assert!(line.contains("it is of another reference: its text is"), "{line}");
    let mut model = fs::read(&case.model).unwrap();
    *model.last_mut().unwrap() ^= 1;
    fs::write(&case.model, model).unwrap();
    assert!(error(&good, &measure).contains("it is of another reference: its model is"));
}
