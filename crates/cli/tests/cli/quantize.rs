//! `lossy quantize`, on a model that loads in a moment.

use std::fs;

use lossy_formats::gguf::Gguf;
use lossy_testkit::tiny_model;

use crate::program::{Home, error_line, text};

fn home() -> Home {
    let home = Home::new();
    tiny_model::write(home.path());
    home
}

#[test]
fn a_new_file_runs_and_says_what_it_is() {
    let home = home();
    let output = home.lossy(&["quantize", "tiny.gguf", "new.gguf", "Q8_0"]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("bits a weight"), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "");
    let new = Gguf::open(&home.path().join("new.gguf")).unwrap();
    assert_eq!(new.metadata().u32("general.file_type"), Ok(7));
    assert!(new.metadata().str("general.quantized_by").unwrap().starts_with("lossy "));
    assert!(new.tensors().any(|tensor| tensor.dtype.name() == "Q8_0"));
    let run = home.lossy(&["run", "new.gguf", "-p", "a", "-n", "3", "--no-chat-template"]).output().unwrap();
    assert!(run.status.success(), "{}", text(&run.stderr));
}

#[test]
fn a_dry_run_tells_every_tensor_and_writes_nothing() {
    let home = home();
    let output = home.lossy(&["quantize", "tiny.gguf", "new.gguf", "q4_k_m", "--dry-run"]).output().unwrap();
    let told = text(&output.stdout);
    assert!(
        output.status.success() && told.contains("instead of Q4_K") && told.contains("bits a weight"),
        "{told}"
    );
    assert!(!home.path().join("new.gguf").exists());
    assert!(told.contains("estimated from shapes"), "{told}");
    let size = told.lines().find(|line| line.contains("bits a weight")).unwrap();
    let told_bytes = size.split('(').next_back().unwrap().split(' ').next().unwrap().replace(',', "");
    home.lossy(&["quantize", "tiny.gguf", "new.gguf", "q4_k_m"]).assert().success();
    assert_eq!(fs::metadata(home.path().join("new.gguf")).unwrap().len().to_string(), told_bytes);
    let line = error_line(&mut home.lossy(&["quantize", "tiny.gguf", "new.gguf", "q4_k_m", "--no-fallback"]));
    assert!(line.contains("not whole blocks of 256"), "{line}");
}

#[test]
fn the_model_is_never_replaced_by_itself() {
    let home = home();
    let model = home.path().join("tiny.gguf");
    let before = fs::read(&model).unwrap();
    fs::hard_link(&model, home.path().join("twin.gguf")).unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink(&model, home.path().join("link.gguf")).unwrap();
    let outs =
        if cfg!(unix) { &["tiny.gguf", "./tiny.gguf", "twin.gguf", "link.gguf"][..] } else { &["tiny.gguf"] };
    for out in outs {
        let line = error_line(&mut home.lossy(&["quantize", "tiny.gguf", out, "q4_0"]));
        assert!(line.contains("is MODEL"), "{out}: {line}");
    }
    assert_eq!(fs::read(&model).unwrap(), before);
}

#[test]
fn what_cannot_be_is_refused_with_what_would_work() {
    let home = home();
    let refused = |args: &[&str]| {
        let output = home.lossy(&[&["quantize", "tiny.gguf"], args].concat()).output().unwrap();
        assert!(!output.status.success(), "{args:?}");
        assert!(!home.path().join("new.gguf").exists());
        text(&output.stderr).to_string()
    };
    let told = refused(&["new.gguf", "q4km"]);
    assert!(told.contains("do you mean q4_k_m?"), "{told}");
    let told = refused(&["new.gguf", "q4_0", "--tensor-type", "nothing=q8_0"]);
    assert!(told.contains("`nothing` matches no tensor"), "{told}");
    let told = refused(&["nowhere/new.gguf", "q4_0"]);
    assert!(told.contains("there is no directory nowhere"), "{told}");
    let told = refused(&["new.gguf", "q4_0", "--imatrix", "tiny.gguf"]);
    assert!(told.contains("it is no imatrix"), "{told}");
}

/// A model with a context of 1,024 tokens, which the windows of statistics fit into.
fn wide() -> Home {
    let home = Home::new();
    tiny_model::write_wide(home.path());
    home
}

#[test]
fn importances_are_made_of_the_bundled_text_and_used() {
    let home = wide();
    let output = home.lossy(&["imatrix", "wide.gguf", "-o", "wide.imatrix.gguf"]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("importances of 28 matrices"), "{}", text(&output.stderr));
    let file = Gguf::open(&home.path().join("wide.imatrix.gguf")).unwrap();
    assert_eq!(file.metadata().str("general.type"), Ok("imatrix"));
    assert_eq!(file.tensors().count(), 2 * 28);
    let quantize = |out: &str, more: &[&str]| {
        home.lossy(&[&["quantize", "wide.gguf", out, "q4_0"], more].concat()).assert().success();
        fs::read(home.path().join(out)).unwrap()
    };
    let plain = quantize("plain.gguf", &[]);
    let weighted = quantize("weighted.gguf", &["--imatrix", "wide.imatrix.gguf"]);
    let fed_back = quantize("fed-back.gguf", &["--feedback"]);
    assert!(plain != weighted && weighted != fed_back && plain != fed_back);
    assert_eq!(fed_back, quantize("again.gguf", &["--feedback", "-t", "1"]), "threads change no byte");
    let metadata = |name: &str| Gguf::open(&home.path().join(name)).unwrap();
    assert_eq!(metadata("fed-back.gguf").metadata().bool("lossy.quantize.feedback"), Ok(true));
    assert_eq!(metadata("weighted.gguf").metadata().u32("quantize.imatrix.entries_count"), Ok(28));
}

#[test]
fn a_text_that_makes_no_statistics_is_refused() {
    let home = wide();
    let error = |args: &[&str]| error_line(&mut home.lossy(args));
    fs::write(home.path().join("short.txt"), "Too short.").unwrap();
    let imatrix = ["imatrix", "wide.gguf", "-o", "out.gguf", "-f"];
    let line = error(&[&imatrix[..], &["short.txt"]].concat());
    assert!(line.contains("at least 2048 are needed"), "{line}");
    fs::write(home.path().join("measured.txt"), &lossy_eval::BUNDLED[0].text[..30_000]).unwrap();
    let line = error(&[&imatrix[..], &["measured.txt"]].concat());
    assert!(line.contains("measured.txt") && line.contains("that losses are measured on"), "{line}");
    let line = error(&[&imatrix[..], &["none.txt"]].concat());
    assert!(line.contains("none.txt"), "{line}");
    assert!(!home.path().join("out.gguf").exists());
    let output =
        home.lossy(&["quantize", "wide.gguf", "out.gguf", "q4_0", "-f", "short.txt"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "-f without --feedback");
}
