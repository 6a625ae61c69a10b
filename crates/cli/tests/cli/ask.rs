//! `lossy ask` on a real model, SmolLM2-135M-Instruct.

use std::fs;

use lossy_testkit::TestModel;
use serde_json::Value;

use crate::program::{Home, error_line, text};

const TEXT: &str = "The ferry leaves Dover at nine in the morning and reaches Calais before eleven.";
const QUESTIONS: &str = "type,name,instructions,choices,levels\n\
                         predicate,late,The ferry is late.,,\n\
                         choice,port,Where does it leave?,Dover=in England|Calais,\n\
                         score,,How long is it?,,short|long\n";

fn home() -> Home {
    let home = Home::new();
    fs::write(home.path().join("text.txt"), TEXT).unwrap();
    fs::write(home.path().join("questions.csv"), QUESTIONS).unwrap();
    home
}

fn ask(home: &Home, args: &[&str]) -> assert_cmd::Command {
    let model = TestModel::SmolLm2.path().display().to_string();
    home.lossy(&[&["ask", &model, "-f", "text.txt", "--no-stdin"], args].concat())
}

fn answers(home: &Home, args: &[&str]) -> Vec<Value> {
    let output = ask(home, &[args, &["--format", "json"]].concat()).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    told["answers"].as_array().unwrap().clone()
}

#[test]
fn answers_are_those_of_each_question_alone_and_the_probabilities_of_the_next_token() {
    let home = home();
    for kv in ["f16", "k2v2"] {
        let together = answers(&home, &["--questions", "questions.csv", "--kv", kv]);
        assert_eq!(together.len(), 3);
        let lines: Vec<&str> = QUESTIONS.lines().collect();
        for (line, answer) in lines[1..].iter().zip(&together) {
            fs::write(home.path().join("one.csv"), format!("{}\n{line}\n", lines[0])).unwrap();
            assert_eq!(answers(&home, &["--questions", "one.csv", "--kv", kv]), std::slice::from_ref(answer));
        }
    }
    // The same prompt, spelled by hand, through another command.
    let system = "You are a helpful AI assistant named SmolLM, trained by Hugging Face";
    let prompt = format!(
        "<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{TEXT}<|im_end|>\n<|im_start|>user\n\
         Is this true of the above? The ferry is late.\nAnswer with Yes or No.<|im_end|>\n<|im_start|>assistant\n"
    );
    let model = TestModel::SmolLm2.path().display().to_string();
    let args = ["logits", &model, "-p", &prompt, "--no-bos", "--last", "1", "-o", "logits.f32", "--no-stdin"];
    let output = home.lossy(&args).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let bytes = fs::read(home.path().join("logits.f32")).unwrap();
    let logits: Vec<f64> =
        bytes.chunks_exact(4).map(|four| f64::from(f32::from_le_bytes(four.try_into().unwrap()))).collect();
    let tokenizer = lossy_engine::ModelSource::open(&TestModel::SmolLm2.path()).unwrap().tokenizer().unwrap();
    let plain = lossy_tokenizer::EncodeOptions { add_special: false, parse_special: false };
    let probability = |word: &str| {
        let ids = tokenizer.encode(word, plain).unwrap();
        assert_eq!(ids.len(), 1);
        logits[ids[0] as usize].exp() / logits.iter().map(|logit| logit.exp()).sum::<f64>()
    };
    let (yes, no) = (probability("Yes"), probability("No"));
    let answer = &answers(&home, &["--questions", "questions.csv", "--kv", "f16"])[0];
    let close = |found: &Value, wanted: f64| (found.as_f64().unwrap() - wanted).abs() < 1e-5;
    assert!(close(&answer["probability"], yes / (yes + no)), "{answer}, not {}", yes / (yes + no));
    assert!(close(&answer["allowed_mass"], yes + no), "{answer}, not {}", yes + no);
}

#[test]
fn answers_go_to_a_file_whose_name_says_the_form() {
    let home = home();
    for (name, begins) in [("answers.csv", "name,instructions,type,answer"), ("answers.json", "{\n")] {
        let output = ask(&home, &["--questions", "questions.csv", "-o", name]).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert_eq!(text(&output.stdout), "");
        let written = fs::read_to_string(home.path().join(name)).unwrap();
        assert!(written.starts_with(begins), "{written}");
        assert!(written.contains("late") && written.contains("Dover"), "{written}");
    }
}

#[test]
fn what_is_wrong_is_told_before_the_model_is_loaded() {
    let home = home();
    let error = |args: &[&str]| {
        let model = ["ask", "no-such-model.gguf", "-f", "text.txt", "--no-stdin"];
        error_line(&mut home.lossy(&[&model[..], args].concat()))
    };
    assert!(error(&["--questions", "text.txt"]).contains("not `.txt`"));
    assert!(error(&["--questions", "none.csv"]).contains("none.csv"));
    fs::write(home.path().join("empty.csv"), "type,instructions\n").unwrap();
    assert!(error(&["--questions", "empty.csv"]).contains("no questions"));
    fs::write(home.path().join("wrong.json"), r#"[{"type": "guess"}]"#).unwrap();
    assert!(error(&["--questions", "wrong.json"]).contains("questions[0].type is `guess`"));
    assert!(error(&["--questions", "questions.csv", "-o", "x.txt"]).contains("--format"));
    let model = ["ask", "no-such-model.gguf", "-f", "text.txt", "--no-stdin", "--questions", "questions.csv"];
    let output = home.lossy(&[&model[..], &["--exact-prefill"]].concat()).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "two options that do not go together");
    assert!(text(&output.stderr).contains("--exact-prefill"), "{}", text(&output.stderr));
}
