//! Models without a chat template, or with one that does not take everything.

use lossy_testkit::tiny_model;

use crate::program::{Home, error_line, text};

#[test]
fn a_prompt_without_a_template_is_continued_as_bare_text_with_a_note() {
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

#[test]
fn a_system_message_that_the_template_drops_is_an_error() {
    let home = Home::new();
    let template = "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}";
    let model = tiny_model::write_with_template(home.path(), Some(template));
    let model = model.to_str().unwrap();
    home.lossy(&["run", model, "-p", "x", "-n", "1"]).assert().success();
    let line = error_line(&mut home.lossy(&["run", model, "-p", "x", "-n", "1", "-sys", "Be brief."]));
    assert!(line.contains("no place for a system message"), "{line}");
}
