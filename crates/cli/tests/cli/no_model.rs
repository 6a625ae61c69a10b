//! What is given as a model and is none.

use std::fs;

use lossy_testkit::tiny_model;

use crate::program::{Home, error_line, text};

#[test]
fn what_is_no_model_is_refused_in_a_line_that_names_it() {
    let home = Home::new();
    let whole = fs::read(tiny_model::write(home.path())).unwrap();
    fs::create_dir(home.path().join("folder")).unwrap();
    for (folder, files) in
        [("files", ["a.gguf", "b.gguf"]), ("model", ["model.safetensors", "tokenizer.json"])]
    {
        fs::create_dir(home.path().join(folder)).unwrap();
        files.iter().for_each(|file| fs::write(home.path().join(folder).join(file), "").unwrap());
    }
    fs::write(home.path().join("empty.gguf"), "").unwrap();
    fs::write(home.path().join("text.gguf"), "Once upon a time there was a file that was no model.").unwrap();
    fs::write(home.path().join("header.gguf"), &whole[..20]).unwrap();
    fs::write(home.path().join("half.gguf"), &whole[..whole.len() / 2]).unwrap();
    for (name, why) in [
        ("./folder", "is a directory without config.json, so it is no Hugging Face model"),
        ("./files", "is a directory without config.json: give a GGUF file in it (a.gguf, b.gguf)"),
        ("model/model.safetensors", "is one file of a Hugging Face model: give the directory, model"),
        ("model/tokenizer.json", "give the directory, model"),
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

#[test]
fn what_lies_in_the_place_of_a_model_is_named() {
    let home = Home::new();
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 4966157032\n";
    fs::write(home.path().join("pointer.gguf"), pointer).unwrap();
    fs::write(home.path().join("page.gguf"), "<!DOCTYPE html><html></html>").unwrap();
    fs::create_dir(home.path().join("clone")).unwrap();
    fs::write(home.path().join("clone/config.json"), "{}").unwrap();
    fs::write(home.path().join("clone/model.safetensors"), pointer).unwrap();
    for (name, why) in [
        ("pointer.gguf", "Git LFS pointer to a file of 4966157032 bytes"),
        ("page.gguf", "web page"),
        ("./clone", "clone/model.safetensors: is a Git LFS pointer"),
        ("clone/model.safetensors", "give the directory, clone"),
        ("clone/config.json", "give the directory, clone"),
    ] {
        let line = error_line(&mut home.lossy(&["run", name, "-p", "x"]));
        assert!(line.contains(why), "{name}: {line}");
    }
}

#[test]
fn a_model_with_more_than_is_read_is_refused_unless_asked_for() {
    let home = Home::new();
    let path = tiny_model::write_with(home.path(), |file| file.set("llama.unheard_of", 3u32));
    let name = path.to_str().unwrap();
    for command in
        [&["run", name, "-p", "x", "-n", "1"][..], &["bench", name, "-p", "1", "-n", "1", "-r", "1"]]
    {
        let line = error_line(&mut home.lossy(command));
        assert!(line.contains("llama.unheard_of = 3") && line.contains("--ignore-unread"), "{line}");
        let output = home.lossy(&[command, &["--ignore-unread"]].concat()).output().unwrap();
        let stderr = text(&output.stderr);
        assert!(output.status.success(), "{stderr}");
        assert_eq!(stderr.matches("warning: not read").count(), 1, "{stderr}");
        assert!(stderr.contains("llama.unheard_of = 3"), "{stderr}");
    }
}
