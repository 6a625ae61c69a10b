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

#[test]
fn a_template_with_a_mistake_stops_only_what_needs_it() {
    let home = Home::new();
    let model = tiny_model::write_with_template(home.path(), Some("{% for m in messages %}"));
    let model = model.to_str().unwrap();
    home.lossy(&["run", model, "--no-chat-template", "-p", "hi", "-n", "1"]).assert().success();
    home.lossy(&["bench", model, "-p", "8", "-n", "1", "-r", "1"]).assert().success();
    home.lossy(&["run", model, "--chat-template", "chatml", "-p", "hi", "-n", "1"]).assert().success();
    let line = error_line(&mut home.lossy(&["run", model, "-p", "hi", "-n", "1"]));
    assert!(line.contains("chat template, line 1: the block of line 1 has no `endfor`"), "{line}");
    let empty = tiny_model::write_with_template(home.path(), Some(" \n"));
    let output = home.lossy(&["run", empty.to_str().unwrap(), "-p", "hi", "-n", "1"]).output().unwrap();
    assert!(text(&output.stderr).contains("has no chat template: continuing the bare text"));
}

#[test]
fn another_template_and_its_variables_come_from_the_command_line() {
    let home = Home::new();
    let model = tiny_model::write(home.path());
    let model = model.to_str().unwrap();
    let file = home.path().join("short.jinja");
    std::fs::write(&file, "{{ raise_exception('thinking is ' ~ enable_thinking ~ messages[0].content) }}")
        .unwrap();
    let file = file.to_str().unwrap();
    let run = |more: &[&str]| {
        let args = [&["run", model, "-n", "1", "--chat-template", file], more].concat();
        error_line(&mut home.lossy(&args))
    };
    let line = run(&["-p", r"a\tb", "--chat-template-kwargs", r#"{"enable_thinking": false}"#]);
    assert!(line.ends_with(r"line 1: thinking is Falsea\tb"), "{line}");
    let line = run(&["-p", r"a\tb\x21", "-e"]);
    // The tab is there, and shown so that it cannot move the cursor.
    assert!(line.ends_with(r"thinking is a\u{9}b!"), "{line}");
    let line = run(&["-p", r"a\tb", "-e", "--no-escape"]);
    assert!(line.ends_with(r"thinking is a\tb"), "{line}");
    let line = error_line(&mut home.lossy(&["run", model, "-p", "x", "--chat-template", "nonsense"]));
    assert!(line.contains("--chat-template nonsense: neither one of chatml, gemma, "), "{line}");
    for args in [["--chat-template-kwargs", "[1]"], ["--chat-template-kwargs", r#"{"messages": 1}"#]] {
        home.lossy(&["run", model, "-p", "x", args[0], args[1]]).assert().code(2);
    }
    home.lossy(&["run", model, "-e", "-p", r"\q"]).assert().code(2);
}
