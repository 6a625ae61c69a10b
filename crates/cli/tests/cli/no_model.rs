//! What is given as a model and is none.

use std::fs;

use lossy_testkit::tiny_model;

use crate::program::{Home, error_line};

#[test]
fn what_is_no_model_is_refused_in_a_line_that_names_it() {
    let home = Home::new();
    let whole = fs::read(tiny_model::write(home.path())).unwrap();
    fs::create_dir(home.path().join("folder")).unwrap();
    fs::write(home.path().join("empty.gguf"), "").unwrap();
    fs::write(home.path().join("text.gguf"), "Once upon a time there was a file that was no model.").unwrap();
    fs::write(home.path().join("header.gguf"), &whole[..20]).unwrap();
    fs::write(home.path().join("half.gguf"), &whole[..whole.len() / 2]).unwrap();
    for (name, why) in [
        ("./folder", "is a directory without config.json"),
        ("empty.gguf", "the file has 0"),
        ("text.gguf", "GGUF"),
        ("header.gguf", "the file has 20"),
        ("half.gguf", &format!("the file has {}", whole.len() / 2)),
        ("./nothing.gguf", "no such file"),
    ] {
        for command in ["run", "tokenize", "bench"] {
            let mut arguments = vec![command, name];
            arguments.extend(if command == "bench" { ["-p", "1"] } else { ["-p", "x"] });
            let line = error_line(&mut home.lossy(&arguments));
            assert!(line.contains(name.trim_start_matches("./")) && line.contains(why), "{command}: {line}");
        }
    }
}
