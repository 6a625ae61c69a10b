//! `lossy measure --reference-model`, on models that load in a moment.

use std::fs;

use lossy_testkit::tiny_model::{self, Changes};

use crate::program::{Home, error_line, text};

/// A model, a smaller one of it, and a text of which a window of 128 tokens can be cut.
fn home() -> Home {
    let home = Home::new();
    tiny_model::write_wide(home.path());
    home.lossy(&["quantize", "wide.gguf", "small.gguf", "q4_0"]).assert().success();
    let words: Vec<String> = (0..25).map(|i| format!("{}", i * i * 7919 + 13)).collect();
    fs::write(home.path().join("text.txt"), words.join("-")).unwrap();
    home
}

fn json(home: &Home, args: &[&str]) -> serde_json::Value {
    let output = home.lossy(&[&["measure", "small.gguf", "-o", "json"], args].concat()).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Rows of logits after every token, as `lossy logits` writes them.
fn logits(home: &Home, model: &str, ids: &str) -> Vec<Vec<f32>> {
    let args = ["logits", model, "--ids", ids, "--activations", "f32", "--kv", "f32", "-o", "logits.f32"];
    home.lossy(&args).assert().success();
    let bytes = fs::read(home.path().join("logits.f32")).unwrap();
    let values: Vec<f32> =
        bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect();
    let n_vocab = values.len() / ids.split(',').count();
    values.chunks_exact(n_vocab).map(<[f32]>::to_vec).collect()
}

fn largest(row: &[f32]) -> usize {
    (0..row.len()).fold(0, |best, at| if row[at] > row[best] { at } else { best })
}

#[test]
fn the_loss_beside_another_model_is_that_of_their_logits() {
    let home = home();
    let report = json(
        &home,
        &[
            "--reference-model",
            "wide.gguf",
            "-f",
            "text.txt",
            "-c",
            "128",
            "--tokens",
            "0",
            "--skip",
            "63",
            "--activations",
            "f32",
        ],
    );
    assert_eq!(report["reference_model"]["name"], "wide.gguf");
    let measured = &report["divergence"][0];
    assert_eq!(measured["n_windows"], 1);
    let figures = &measured["settings"][0];
    assert_eq!((figures["setting"].as_str(), figures["n_scored"].as_u64()), (Some("f32"), Some(64)));

    // The same from the logits of both files.
    let output = home.lossy(&["tokenize", "wide.gguf", "-f", "text.txt", "--no-bos"]).output().unwrap();
    let ids = text(&output.stdout).lines().filter_map(|line| line.split_whitespace().next());
    let mut ids: Vec<&str> = ids.filter(|id| id.parse::<u32>().is_ok()).take(128).collect();
    ids[0] = "1";
    let ids = ids.join(",");
    let (teacher, student) = (logits(&home, "wide.gguf", &ids), logits(&home, "small.gguf", &ids));
    let rows = || teacher.iter().zip(&student).take(127).skip(63);
    let kl = rows().map(|(p, q)| lossy_testkit::kl_divergence(p, q)).sum::<f64>() / 64.0;
    let same = rows().filter(|(p, q)| largest(p) == largest(q)).count() as f64 / 64.0;
    let found = figures["kl"]["mean"]["value"].as_f64().unwrap();
    assert!(kl > 0.001, "{kl}: the models are too alike for this test");
    assert!((found / kl - 1.0).abs() < 1e-3, "{found}, and {kl} from the logits");
    assert_eq!(figures["same_top"]["value"].as_f64().unwrap(), same);
}

#[test]
fn a_model_loses_nothing_beside_itself_and_a_cache_adds_to_its_weights() {
    let home = home();
    let common = ["--reference-model", "wide.gguf", "-c", "512", "--tokens", "500"];
    let report = json(&home, &[&common[..], &["--kv", "f16,k2v2"]].concat());
    let kl = |at: usize| report["divergence"][0]["settings"][at]["kl"]["mean"]["value"].as_f64().unwrap();
    assert!(kl(1) > kl(0) && kl(0) > 0.0, "{} and {}", kl(0), kl(1));
    let output = home
        .lossy(&["measure", "wide.gguf", "--reference-model", "wide.gguf", "-c", "512", "-o", "json"])
        .output()
        .unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["divergence"][0]["settings"][0]["kl"]["max"], 0.0);
}

#[test]
fn a_certificate_names_the_reference_and_is_not_taken_for_one_of_the_cache() {
    let home = home();
    let report =
        json(&home, &["--reference-model", "wide.gguf", "--kv", "q8", "-c", "512", "--tokens", "500"]);
    let folder = home.path().join(".cache/lossy/certificates");
    let folder = fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    let files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    let hash = report["reference_model"]["hash"].as_str().unwrap();
    let [file] = &files[..] else { panic!("{files:?}") };
    assert!(file.ends_with(format!("q8-q8-512-against-{}.json", &hash[..16])), "{}", file.display());
    let certificate: serde_json::Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    assert_eq!(certificate["reference_model"], report["reference_model"]);
    assert_ne!(certificate["model_hash"].as_str(), Some(hash));
    let run = ["run", "small.gguf", "-p", "a", "-n", "1", "--no-chat-template", "--kv", "q8"];
    let output = home.lossy(&run).output().unwrap();
    assert!(!text(&output.stderr).contains("on this model"), "{}", text(&output.stderr));
}

#[test]
fn kept_predictions_are_those_of_the_other_model() {
    let home = home();
    let common = ["-c", "256", "--tokens", "200", "--reference", "kept.reference"];
    let first = json(&home, &[&common[..], &["--reference-model", "wide.gguf"]].concat());
    let second = json(&home, &[&common[..], &["--reference-model", "wide.gguf"]].concat());
    let kl = |report: &serde_json::Value| {
        report["divergence"][0]["settings"][0]["kl"]["mean"]["value"].as_f64().unwrap()
    };
    // The vocabulary is kept whole, so only the rounding of what is kept differs.
    assert!((kl(&first) / kl(&second) - 1.0).abs() < 1e-4);
    assert!(second["divergence"][0]["reference"]["tokens_per_s"].is_null());
    let line = error_line(&mut home.lossy(&[&["measure", "small.gguf", "--kv", "q8"], &common[..]].concat()));
    assert!(line.contains("it is of another reference: its model is"), "{line}");
}

#[test]
fn models_with_other_tokens_are_refused_with_both_names() {
    let home = home();
    let changes = Changes { tokens: vec![(40, "zebra".to_string())], ..Changes::default() };
    tiny_model::write_changed(home.path(), "other.gguf", &changes);
    let line = error_line(&mut home.lossy(&[
        "measure",
        "small.gguf",
        "--reference-model",
        "other.gguf",
        "-c",
        "64",
    ]));
    assert!(line.contains("small.gguf and other.gguf have different vocabularies"), "{line}");
    assert!(line.contains("token 40 is `E` and `zebra`"), "{line}");
    let line = error_line(&mut home.lossy(&["measure", "small.gguf", "--reference-model", "none.gguf"]));
    assert!(line.contains("none.gguf"), "{line}");
    let output = home
        .lossy(&["measure", "small.gguf", "--reference-model", "wide.gguf", "--max-loss", "kl=0.1"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
}
