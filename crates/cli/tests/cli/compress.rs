//! `lossy compress`, on a model that loads in a moment.

use std::fs;
use std::time::{Duration, Instant};

use lossy_formats::gguf::Gguf;
use lossy_testkit::tiny_model;

use crate::program::{Home, error_line, text};

fn home() -> Home {
    let home = Home::new();
    tiny_model::write_wide(home.path());
    home
}

fn compress(home: &Home, out: &str, args: &[&str]) {
    let output = home.lossy(&[&["compress", "wide.gguf", "-o", out], args].concat()).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(!home.path().join(format!("{out}.partial")).exists());
}

fn json(home: &Home, name: &str) -> serde_json::Value {
    serde_json::from_slice(&fs::read(home.path().join(name)).unwrap()).expect("JSON")
}

#[test]
fn a_file_within_bits_loses_what_measure_says_and_less_than_one_type() {
    let home = home();
    compress(&home, "small.gguf", &["--max-bits", "6", "--kv", "k2v2"]);
    let said = json(&home, "small.gguf.json");
    assert!(said["bits_per_weight"].as_f64().unwrap() <= 6.0, "{}", said["bits_per_weight"]);
    assert_eq!(said["bytes"], fs::metadata(home.path().join("small.gguf")).unwrap().len());
    let command = said["report"]["command"].as_str().unwrap();
    assert_eq!(command, "lossy measure small.gguf --reference-model wide.gguf --kv f16,k2v2");
    let args: Vec<&str> = command.split(' ').skip(1).chain(["-o", "json"]).collect();
    let measured: serde_json::Value =
        serde_json::from_slice(&home.lossy(&args).output().unwrap().stdout).expect("JSON");
    for at in [0, 1] {
        let figures = |report: &serde_json::Value| {
            let figures = &report["divergence"][0]["settings"][at];
            [&figures["setting"], &figures["kl"], &figures["same_top"], &figures["ppl_ratio"]]
                .map(Clone::clone)
        };
        assert_eq!(figures(&said["report"]), figures(&measured));
        assert_eq!(said["certificates"][at]["model_hash"], measured["model_hash"]);
        assert_eq!(said["certificates"][at]["reference_model"], measured["reference_model"]);
    }
    assert_eq!(
        said["certificates"][0]["loss"]["kl"]["value"],
        measured["divergence"][0]["settings"][0]["kl"]["mean"]["value"]
    );

    // Of one type for all there is none of fewer bits that loses less.
    home.lossy(&["quantize", "wide.gguf", "one.gguf", "q5_1", "--pure", "--feedback"]).assert().success();
    let kl = |file: &str| {
        let args = ["measure", file, "--reference-model", "wide.gguf", "-o", "json"];
        let report: serde_json::Value =
            serde_json::from_slice(&home.lossy(&args).output().unwrap().stdout).unwrap();
        report["divergence"][0]["settings"][0]["kl"]["mean"]["value"].as_f64().unwrap()
    };
    let one = Gguf::open(&home.path().join("one.gguf")).unwrap();
    assert!(one.file_bytes() >= said["bytes"].as_u64().unwrap());
    assert!(kl("small.gguf") < kl("one.gguf"), "{} and {}", kl("small.gguf"), kl("one.gguf"));

    let ratio = said["scale"].as_f64().unwrap();
    assert!((1.0 / 1.5..1.5).contains(&ratio), "measured is {ratio} of what was predicted");
    let card = fs::read_to_string(home.path().join("small.gguf.md")).unwrap();
    for part in [
        "Mean    KLD:",
        "99.0%   KLD:",
        "Same top p:",
        "| attn_q |",
        "--max-bits 6",
        "The cache alone",
        "## What other sizes",
    ] {
        assert!(card.contains(part), "{part}: {card}");
    }
    let new = Gguf::open(&home.path().join("small.gguf")).unwrap();
    assert_eq!(new.metadata().bool("lossy.quantize.feedback"), Ok(true));
    assert_eq!(new.metadata().str("lossy.quantize.recipe"), Ok("planned"));
    let run =
        home.lossy(&["run", "small.gguf", "-p", "a", "-n", "3", "--no-chat-template"]).output().unwrap();
    assert!(run.status.success(), "{}", text(&run.stderr));
}

#[test]
fn a_loss_is_kept_with_fewer_bytes_for_more_of_it() {
    let home = home();
    let mut last = u64::MAX;
    for (out, kl) in [("good.gguf", 0.004), ("bad.gguf", 0.04)] {
        compress(&home, out, &["--max-loss", &format!("kl={kl}")]);
        let said = json(&home, &format!("{out}.json"));
        let loss = &said["certificates"][0]["loss"]["kl"];
        let [found, se] = ["value", "se"].map(|name| loss[name].as_f64().unwrap());
        assert!(found + se <= kl && found > 0.5 * kl, "{found} ± {se} of {kl}");
        let n_bytes = said["bytes"].as_u64().unwrap();
        assert!(n_bytes < last);
        last = n_bytes;
    }
}

#[test]
fn a_size_is_kept_at_any_number_of_threads() {
    let home = home();
    compress(&home, "two.gguf", &["--max-size", "90K", "-t", "2"]);
    compress(&home, "one.gguf", &["--max-size", "90K", "-t", "1"]);
    let [two, one] = ["two.gguf", "one.gguf"].map(|name| fs::read(home.path().join(name)).unwrap());
    assert!(two.len() <= 90 << 10 && two.len() > 85 << 10, "{}", two.len());
    assert!(two == one, "threads change bytes");
}

#[test]
fn a_killed_run_goes_on_with_the_same_bytes() {
    let home = home();
    let args = ["compress", "wide.gguf", "--max-size", "90K", "-o"];
    compress(&home, "whole.gguf", &args[2..4]);
    let mut child = home.spawn(&[&args[..], &["small.gguf"]].concat());
    let partial = home.path().join("small.gguf.partial");
    let start = Instant::now();
    while !partial.join("prices.0.json").exists() {
        assert!(start.elapsed() < Duration::from_secs(100), "no layer was finished");
        std::thread::sleep(Duration::from_millis(1));
    }
    // SIGKILL.
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success());
    assert!(!home.path().join("small.gguf").exists());
    assert!(!partial.join("prices.ends.json").exists(), "it was killed too late for this test");

    let line = error_line(&mut home.lossy(&[&args[..], &["small.gguf"]].concat()));
    assert!(line.contains("small.gguf.partial is left of an earlier run: --resume"), "{line}");
    fs::write(home.path().join("other.txt"), "A b c d. ".repeat(3000)).unwrap();
    let other = [&args[..], &["small.gguf", "--resume", "-f", "other.txt"]].concat();
    let line = error_line(&mut home.lossy(&other));
    assert!(line.contains("its calibration text is"), "{line}");
    compress(&home, "small.gguf", &["--max-size", "90K", "--resume"]);
    let [whole, small] = ["whole.gguf", "small.gguf"].map(|name| fs::read(home.path().join(name)).unwrap());
    assert!(whole == small, "a resumed run gives other bytes");
}

#[test]
fn a_speed_is_measured_beside_a_size_and_told() {
    let home = home();
    compress(&home, "plain.gguf", &["--max-size", "90K"]);
    compress(&home, "fast.gguf", &["--max-size", "90K", "--min-speed", "0.5"]);
    let [plain, fast] = ["plain.gguf", "fast.gguf"].map(|name| fs::read(home.path().join(name)).unwrap());
    assert!(plain == fast, "a speed that every file has changes bytes");
    let speed = &json(&home, "fast.gguf.json")["speed"];
    assert_eq!(speed["wanted"], 0.5);
    for name in ["measured", "of_original", "of_smallest"] {
        assert!(speed[name].as_f64().unwrap() > 0.5, "{speed}");
    }
    assert!(speed["gone"].is_null() && json(&home, "plain.gguf.json")["speed"].is_null());
    let card = fs::read_to_string(home.path().join("fast.gguf.md")).unwrap();
    assert!(card.contains("## Speed") && card.contains("No layer was left out"), "{card}");

    // What no machine reaches and what MODEL has are refused, and nothing is left of it.
    for (wanted, part) in
        [("0.5", "MODEL is as fast as --min-speed 0.5 already: it decodes"), ("1e9", "is out of reach")]
    {
        let args = ["compress", "wide.gguf", "-o", "x.gguf", "--min-speed", wanted];
        let line = error_line(&mut home.lossy(&args));
        assert!(line.contains(part), "{line}");
        assert!(!home.path().join("x.gguf.partial").exists());
    }
}

/// What is the same as without a command of one's own: plan, then distill.
#[test]
fn training_is_what_distill_would_do_and_is_told() {
    let home = home();
    compress(&home, "plain.gguf", &["--max-bits", "5"]);
    compress(&home, "trained.gguf", &["--max-bits", "5", "--steps", "12"]);
    home.lossy(&["distill", "plain.gguf", "again.gguf", "--teacher", "wide.gguf", "--steps", "12"])
        .assert()
        .success();
    let [plain, trained, again] =
        ["plain.gguf", "trained.gguf", "again.gguf"].map(|name| fs::read(home.path().join(name)).unwrap());
    assert!(trained == again && trained != plain);
    let said = json(&home, "trained.gguf.json");
    let training = &said["training"];
    assert_eq!((training["is_kept"].as_bool(), training["n_steps"].as_u64()), (Some(true), Some(12)));
    let kl = |name: &str| training[name].as_f64().unwrap();
    assert!(kl("held_out_after") < kl("held_out_before") && kl("measured_after") < kl("measured_before"));
    // Before is what the file without training loses, after is the certificate's.
    let without = json(&home, "plain.gguf.json");
    assert_eq!(kl("measured_before"), without["certificates"][0]["loss"]["kl"]["value"].as_f64().unwrap());
    assert_eq!(kl("measured_after"), said["certificates"][0]["loss"]["kl"]["value"].as_f64().unwrap());
    assert!(without["training"].is_null() && without["bytes"].as_u64() <= said["bytes"].as_u64());
    let card = fs::read_to_string(home.path().join("trained.gguf.md")).unwrap();
    assert!(
        card.contains("scales of blocks were trained to predict what wide.gguf predicts, 12 steps"),
        "{card}"
    );
    let new = Gguf::open(&home.path().join("trained.gguf")).unwrap();
    assert_eq!(new.metadata().str("lossy.distill.train"), Ok("scales"));
}

#[test]
fn a_run_that_is_killed_in_training_goes_on_with_the_same_bytes() {
    let home = home();
    let args = ["compress", "wide.gguf", "--max-size", "90K", "--steps", "40", "-o"];
    compress(&home, "whole.gguf", &args[2..6]);
    let partial = home.path().join("small.gguf.partial");
    // A state is kept before the first step and every ten steps, each in the place of the last.
    let state = || {
        let files = fs::read_dir(&partial).into_iter().flatten().flatten();
        let mut states = files.map(|entry| entry.path()).filter(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("training."))
        });
        states.next().and_then(|path| fs::read(path).ok())
    };
    let mut child = home.spawn(&[&args[..], &["small.gguf"]].concat());
    let start = Instant::now();
    let mut first = None;
    let is_later =
        |first: &Option<Vec<u8>>| first.is_some() && state().is_some_and(|now| Some(now) != *first);
    while !is_later(&first) {
        assert!(start.elapsed() < Duration::from_secs(200), "no ten steps were done");
        first = first.or_else(state);
        std::thread::sleep(Duration::from_millis(1));
    }
    // SIGKILL.
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success() && !home.path().join("small.gguf").exists());
    let resume = [&["compress", "wide.gguf", "-o", "small.gguf"], &args[2..6], &["--resume"]].concat();
    let output = home.lossy(&resume).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("training goes on behind step "), "{}", text(&output.stderr));
    let [whole, small] = ["whole.gguf", "small.gguf"].map(|name| fs::read(home.path().join(name)).unwrap());
    assert!(whole == small, "a resumed run gives other bytes");
}

#[test]
fn a_dry_run_says_between_which_sizes_a_file_can_be() {
    let home = home();
    let args = ["compress", "wide.gguf", "-o", "small.gguf", "--max-bits", "6", "--dry-run"];
    let output = home.lossy(&args).output().unwrap();
    let told = text(&output.stdout);
    assert!(output.status.success() && told.contains("smallest types: "), "{told}");
    let [least, own] = ["smallest types: ", "own types: "].map(|what| {
        let line = told.split(what).nth(1).unwrap();
        line.split(['(', ' ']).nth(3).unwrap().replace(',', "").parse::<u64>().unwrap()
    });
    assert!(least < own, "{told}");
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1, "something was written");
    // The figure is the one that a budget may have.
    let size = |n: u64| n.to_string();
    let refused = ["compress", "wide.gguf", "-o", "small.gguf", "--max-size"];
    let line = error_line(&mut home.lossy(&[&refused[..], &[&size(least - 1)]].concat()));
    assert!(line.contains("is below the smallest types: with them the file has"), "{line}");
    compress(&home, "small.gguf", &["--max-size", &size(least)]);
    assert_eq!(fs::metadata(home.path().join("small.gguf")).unwrap().len(), least);
    let line = error_line(&mut home.lossy(&[&refused[..], &[&size(own)]].concat()));
    assert!(line.contains("MODEL is within --max-size"), "{line}");
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_written() {
    let home = home();
    let model = fs::read(home.path().join("wide.gguf")).unwrap();
    let refused = |args: &[&str]| {
        let line = error_line(&mut home.lossy(&[&["compress", "wide.gguf", "-o"], args].concat()));
        assert_eq!(
            fs::read_dir(home.path())
                .unwrap()
                .filter(|e| e.as_ref().unwrap().path().extension().is_some_and(|e| e == "partial"))
                .count(),
            0
        );
        line
    };
    assert!(refused(&["wide.gguf", "--max-bits", "6"]).contains("is MODEL"));
    assert!(refused(&["nowhere/x.gguf", "--max-bits", "6"]).contains("nowhere"));
    let line = refused(&["x.gguf", "--max-bits", "2"]);
    assert!(line.contains("--max-bits 2 is below the smallest types: with them a weight has"), "{line}");
    fs::write(home.path().join("short.txt"), "Too short.").unwrap();
    let line = refused(&["x.gguf", "--max-bits", "6", "-f", "short.txt"]);
    assert!(line.contains("at least 2048 are needed"), "{line}");
    fs::write(home.path().join("measured.txt"), &lossy_eval::BUNDLED[0].text[..30_000]).unwrap();
    let line = refused(&["x.gguf", "--max-bits", "6", "-f", "measured.txt"]);
    assert!(line.contains("that losses are measured on"), "{line}");
    fs::create_dir(home.path().join("x.gguf.partial")).unwrap();
    fs::write(home.path().join("x.gguf.partial/mine"), "mine").unwrap();
    let line = error_line(&mut home.lossy(&["compress", "wide.gguf", "-o", "x.gguf", "--max-bits", "6"]));
    assert!(line.contains("x.gguf.partial is in the way"), "{line}");
    assert!(home.path().join("x.gguf.partial/mine").exists());
    for args in [
        &["x.gguf"][..],
        &["x.gguf", "--max-loss", "top=0.9"],
        &["x.gguf", "--max-loss", "kl=0"],
        &["x.gguf", "--max-bits", "6", "--max-size", "1M"],
        &["x.gguf", "--max-loss", "kl=1", "--max-size", "1M"],
        &["x.gguf", "--min-speed", "0"],
    ] {
        let output = home.lossy(&[&["compress", "wide.gguf", "-o"], args].concat()).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", text(&output.stderr));
    }
    assert!(!home.path().join("x.gguf").exists());
    assert!(model == fs::read(home.path().join("wide.gguf")).unwrap());
}
