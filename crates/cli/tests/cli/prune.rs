//! `lossy prune`, on a model that loads in a moment.

use std::fs;

use lossy_formats::gguf::Gguf;
use lossy_testkit::tiny_model;

use crate::program::{Home, error_line, text};

fn home() -> Home {
    let home = Home::new();
    tiny_model::write_wide(home.path());
    home
}

#[test]
fn layers_and_channels_go_and_the_file_runs() {
    let home = home();
    let args = ["prune", "wide.gguf", "new.gguf", "--layers", "1", "--mlp", "50%"];
    let output = home.lossy(&args).output().unwrap();
    let told = text(&output.stderr);
    assert!(output.status.success(), "{told}");
    assert!(told.contains("goes: KL") && told.contains("MLPs of 32 channels: KL"), "{told}");
    assert!(told.contains("refitted and encoded again (F32)") && told.contains("% of the time"), "{told}");
    let new = Gguf::open(&home.path().join("new.gguf")).unwrap();
    assert_eq!(new.metadata().u32("llama.block_count"), Ok(3));
    assert_eq!(new.metadata().u32("llama.feed_forward_length"), Ok(32));
    let run = home.lossy(&["run", "new.gguf", "-p", "a", "-n", "3", "--no-chat-template"]).output().unwrap();
    assert!(run.status.success(), "{}", text(&run.stderr));
    home.lossy(&["prune", "wide.gguf", "again.gguf", "--layers", "1", "--mlp", "50%", "-t", "1"])
        .assert()
        .success();
    let [one, two] = ["new.gguf", "again.gguf"].map(|name| fs::read(home.path().join(name)).unwrap());
    assert!(one == two, "threads change no byte");
    home.lossy(&["prune", "wide.gguf", "named.gguf", "--prune-layers", "3,1"]).assert().success();
    let named = Gguf::open(&home.path().join("named.gguf")).unwrap();
    assert_eq!(named.metadata().u32("llama.block_count"), Ok(2));
}

#[test]
fn what_cannot_be_is_refused_with_the_values() {
    let home = home();
    let error = |args: &[&str]| {
        let line = error_line(&mut home.lossy(&[&["prune", "wide.gguf", "new.gguf"], args].concat()));
        assert!(!home.path().join("new.gguf").exists());
        line
    };
    let line = error(&["--layers", "4"]);
    assert!(line.contains("4 of 4 layers cannot be removed"), "{line}");
    let line = error(&["--prune-layers", "1,9"]);
    assert!(line.contains("there is no layer 9: the model has 4, from 0 to 3"), "{line}");
    let line = error(&["--prune-layers", "1,1"]);
    assert!(line.contains("layer 1 is named twice"), "{line}");
    let line = error(&["--mlp", "5%"]);
    assert!(line.contains("61 of 64 MLP channels would stay") && line.contains("multiple of 32"), "{line}");
    let line = error(&["--layers", "1", "--max-loss", "kl=0.000001"]);
    assert!(line.contains("which is more than kl=0.000001"), "{line}");
    fs::write(home.path().join("short.txt"), "Too short.").unwrap();
    let line = error(&["--layers", "1", "-f", "short.txt"]);
    assert!(line.contains("at least 2048 are needed"), "{line}");
    let line = error_line(&mut home.lossy(&["prune", "wide.gguf", "wide.gguf", "--layers", "1"]));
    assert!(line.contains("is MODEL"), "{line}");
}

#[test]
fn options_that_contradict_each_other_are_a_wrong_call() {
    let home = home();
    for args in [
        &[][..],
        &["--layers", "1", "--prune-layers", "2"],
        &["--prune-layers", "2", "--max-loss", "kl=0.1"],
        &["--mlp", "0.1"],
        &["--mlp", "100%"],
        &["--max-loss", "ppl=1.1"],
        &["--layers", "1", "--down-type", "q8_0"],
    ] {
        let output = home.lossy(&[&["prune", "wide.gguf", "new.gguf"], args].concat()).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", text(&output.stderr));
    }
}
