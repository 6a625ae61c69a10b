//! `lossy distill`, on a model that loads in a moment.

use std::fs;

use lossy_formats::gguf::Gguf;
use lossy_testkit::tiny_model;

use crate::program::{Home, error_line, text};

/// A model, and a student of it in 4 bits.
fn home() -> Home {
    let home = Home::new();
    tiny_model::write_wide(home.path());
    home.lossy(&["quantize", "wide.gguf", "q4.gguf", "q4_0"]).assert().success();
    home
}

#[test]
fn a_student_comes_nearer_to_its_teacher_and_stays_the_file_that_it_was() {
    let home = home();
    let distill = |out: &str, more: &[&str]| {
        let args = [&["distill", "q4.gguf", out, "--teacher", "wide.gguf", "--rate", "0.01"], more].concat();
        let output = home.lossy(&args).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        (fs::read(home.path().join(out)).unwrap(), text(&output.stderr).to_string())
    };
    let (file, told) = distill("new.gguf", &["--steps", "12"]);
    assert!(
        told.contains("on the text that is held out") && told.contains(" tokens that were held out"),
        "{told}"
    );
    assert!(!told.contains("nothing was better"), "{told}");
    assert_eq!(file, distill("again.gguf", &["--steps", "12", "-t", "1"]).0, "threads change no byte");
    assert!(file != distill("other.gguf", &["--steps", "12", "--seed", "5"]).0);
    let (old, new) = (
        Gguf::open(&home.path().join("q4.gguf")).unwrap(),
        Gguf::open(&home.path().join("new.gguf")).unwrap(),
    );
    assert!(old.tensors().map(|t| (t.name, t.dtype)).eq(new.tensors().map(|t| (t.name, t.dtype))));
    let [before, after] =
        ["before", "after"].map(|key| new.metadata().f32(&format!("lossy.distill.kl_{key}")).unwrap());
    assert!(after < before, "{before} {after}");
    let run = home.lossy(&["run", "new.gguf", "-p", "a", "-n", "3", "--no-chat-template"]).output().unwrap();
    assert!(run.status.success(), "{}", text(&run.stderr));

    // A time becomes a number of steps, and that number the same file. A machine that is busy meanwhile may end before them: then
    // more time is given.
    let whole = ["0.05", "0.1", "0.2", "0.4"].into_iter().find_map(|minutes| {
        let (timed, told) = distill("timed.gguf", &["--minutes", minutes]);
        let (_, planned) = told.rsplit_once("--steps ")?;
        let n_steps = planned.split(' ').next().unwrap().to_string();
        told.contains(&format!(" of {n_steps} steps;")).then_some((timed, n_steps))
    });
    let (timed, n_steps) = whole.expect("one of four trainings goes the whole way");
    assert_eq!(timed, distill("steps.gguf", &["--steps", &n_steps]).0, "{n_steps} steps");
}

#[test]
fn what_cannot_be_is_refused_with_both_values() {
    let home = home();
    let error = |args: &[&str]| {
        let line = error_line(&mut home.lossy(&[&["distill", "q4.gguf"], args].concat()));
        assert!(!home.path().join("new.gguf").exists());
        line
    };
    let changes = tiny_model::Changes { tokens: vec![(7, "other".to_owned())], ..Default::default() };
    tiny_model::write_changed(home.path(), "other.gguf", &changes);
    let line = error(&["new.gguf", "--teacher", "other.gguf"]);
    assert!(line.contains("token 7 is `$` for the student and `other` for the teacher"), "{line}");
    let line = error(&["q4.gguf", "--teacher", "wide.gguf"]);
    assert!(line.contains("is STUDENT"), "{line}");
    let line = error(&["wide.gguf", "--teacher", "wide.gguf"]);
    assert!(line.contains("is TEACHER"), "{line}");
    fs::write(home.path().join("short.txt"), "Too short.").unwrap();
    let line = error(&["new.gguf", "--teacher", "wide.gguf", "-f", "short.txt"]);
    assert!(line.contains("at least 2048 are needed"), "{line}");
    fs::write(home.path().join("measured.txt"), &lossy_eval::BUNDLED[0].text[..30_000]).unwrap();
    let line = error(&["new.gguf", "--teacher", "wide.gguf", "-f", "measured.txt"]);
    assert!(line.contains("that losses are measured on"), "{line}");
    let both = ["distill", "q4.gguf", "new.gguf", "--teacher", "wide.gguf", "--steps", "2", "--minutes", "1"];
    assert_eq!(home.lossy(&both).output().unwrap().status.code(), Some(2));
}

#[test]
fn a_student_that_does_not_get_better_keeps_its_weights_and_that_is_told() {
    let home = home();
    let args = ["distill", "q4.gguf", "new.gguf", "--teacher", "wide.gguf", "--steps", "3", "--rate", "1"];
    let output = home.lossy(&args).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("nothing was better than STUDENT"), "{}", text(&output.stderr));
    let [old, new] = ["q4.gguf", "new.gguf"].map(|name| Gguf::open(&home.path().join(name)).unwrap());
    assert!(old.tensors().map(|t| t.bytes).eq(new.tensors().map(|t| t.bytes)));
}

#[test]
fn a_student_without_blocks_is_told_what_is_trained() {
    let home = home();
    let args = ["distill", "wide.gguf", "new.gguf", "--teacher", "wide.gguf", "--steps", "1"];
    let output = home.lossy(&args).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("only norms and biases are trained"), "{}", text(&output.stderr));
}
