//! A model that has no chat template.

use crate::program::{Home, error_line, text};
use crate::tiny_model;

#[test]
fn its_prompt_is_continued_as_bare_text_with_a_note() {
    let home = Home::new();
    let model = tiny_model::write(home.path());
    let model = model.to_str().unwrap();
    let output = home.lossy(&["run", model, "-p", "Hello", "-n", "4", "--temp", "0", "-q"]).output().unwrap();
    assert!(output.status.success());
    assert_eq!(text(&output.stderr), format!("{model} has no chat template: continuing the bare text\n"));
    let bare = home
        .lossy(&["run", model, "-p", "Hello", "-n", "4", "--temp", "0", "-q", "--no-chat-template"])
        .output()
        .unwrap();
    assert_eq!(bare.stdout, output.stdout);
    assert_eq!(text(&bare.stderr), "");
}

#[test]
fn a_system_message_needs_a_template() {
    let home = Home::new();
    let model = tiny_model::write(home.path());
    let line = error_line(&mut home.lossy(&["run", model.to_str().unwrap(), "-p", "x", "-sys", "Be brief."]));
    assert!(line.ends_with("has no chat template, which --system needs"), "{line}");
}
