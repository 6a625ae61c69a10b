//! `lossy run` on a terminal: the chat, and the progress of a prompt.

use std::fs;

use lossy_testkit::TestModel;
use lossy_testkit::tiny_model::{self, Changes};

use crate::program::Home;
use crate::terminal::{BACKSPACE, CTRL_C, CTRL_D, ENTER, LEFT, Terminal, UP};

const QUESTION: &str = "What is photosynthesis? Answer in one sentence.";
const ANSWER: &str = "Photosynthesis";

/// A chat without chance in a context of `n_ctx` tokens.
fn chat(home: &Home, n_ctx: &str, args: &[&str]) -> Terminal {
    let model = TestModel::SmolLm2.path().display().to_string();
    let all = ["run", &model, "--temp", "0", "-t", "1", "-c", n_ctx];
    Terminal::start(home, &[&all, args].concat())
}

#[test]
fn a_question_gets_an_answer_which_is_saved_cleared_loaded_and_told_about() {
    let home = Home::new();
    let mut chat = chat(&home, "256", &["-n", "12"]);
    chat.wait_for("256 tokens of context. /help lists the commands");
    chat.type_line(QUESTION);
    chat.wait_for(ANSWER);
    chat.wait_for("generated ");
    chat.wait_for("KV cache ");
    chat.type_line("/stats");
    let used = chat.wait_for(" of 256 tokens");
    assert!(!used.ends_with("context 0"), "{used:?}");
    chat.wait_for("last answer: prompt ");
    chat.type_line("/save talk.json");
    chat.wait_for("2 messages written to talk.json");
    let talk: serde_json::Value =
        serde_json::from_slice(&fs::read(home.path().join("talk.json")).unwrap()).unwrap();
    assert_eq!(talk["messages"][0]["role"], "user");
    assert_eq!(talk["messages"][0]["content"], QUESTION);
    assert_eq!(talk["messages"][1]["role"], "assistant");
    assert!(talk["messages"][1]["content"].as_str().unwrap().contains(ANSWER), "{talk}");
    chat.type_line("/clear");
    chat.wait_for("the conversation is forgotten");
    chat.type_line("/stats");
    chat.wait_for("context 0 of 256 tokens");
    chat.type_line("/load talk.json");
    chat.wait_for("2 messages read from talk.json");
    chat.type_line("/retry");
    chat.wait_for(ANSWER);
    chat.wait_for_prompt();
    chat.press(CTRL_D);
    assert_eq!(chat.end(), Some(0));
}

#[test]
fn a_line_can_be_edited_and_comes_back_also_in_the_next_chat() {
    let home = Home::new();
    let help = "/clear          forgets the conversation";
    let mut first = chat(&home, "64", &[]);
    first.wait_for_prompt();
    first.press("/heXlp");
    first.press(&LEFT.repeat(2));
    first.press(BACKSPACE);
    first.press(ENTER);
    first.wait_for(help);
    first.wait_for_prompt();
    first.press(UP);
    first.press(ENTER);
    first.wait_for(help);
    first.type_line("/exit");
    assert_eq!(first.end(), Some(0));

    let mut second = chat(&home, "64", &[]);
    second.wait_for_prompt();
    second.press(&UP.repeat(2));
    second.press(ENTER);
    second.wait_for(help);
    second.type_line("/exit");
    assert_eq!(second.end(), Some(0));
}

#[test]
fn a_text_may_have_several_lines() {
    let home = Home::new();
    let mut chat = chat(&home, "64", &[]);
    chat.type_line("/system Be\\");
    chat.press("brief.");
    chat.press(ENTER);
    chat.wait_for("the system message is set");
    chat.type_line("/system");
    chat.wait_for("Be\r\nbrief.");
    chat.wait_for_prompt();
    chat.press(CTRL_D);
    assert_eq!(chat.end(), Some(0));
}

#[test]
fn what_is_no_command_or_names_no_file_is_an_error_after_which_the_chat_goes_on() {
    let home = Home::new();
    fs::write(home.path().join("thesis.txt"), "precious").unwrap();
    let mut chat = chat(&home, "64", &[]);
    chat.type_line("/frobnicate");
    chat.wait_for("error: /frobnicate is not a command; /help lists them");
    chat.type_line("/load");
    chat.wait_for("error: /load needs the name of a file");
    chat.type_line("/load nothing.json");
    chat.wait_for("error: reading nothing.json");
    chat.type_line("/save thesis.txt");
    chat.wait_for("error: thesis.txt exists and is not a saved conversation");
    chat.type_line("/retry");
    chat.wait_for("error: there is no answer yet");
    chat.wait_for_prompt();
    chat.press(CTRL_C);
    chat.wait_for("(Ctrl-D ends the chat)");
    chat.wait_for_prompt();
    chat.press(CTRL_D);
    assert_eq!(chat.end(), Some(0));
    assert_eq!(fs::read_to_string(home.path().join("thesis.txt")).unwrap(), "precious");
}

#[test]
fn ctrl_c_stops_an_answer_and_the_chat_goes_on() {
    let home = Home::new();
    let mut chat = chat(&home, "8192", &["-n", "-1", "--ignore-eos"]);
    for line in [QUESTION, "/retry"] {
        chat.type_line(line);
        chat.wait_for(ANSWER);
        chat.press(CTRL_C);
        chat.wait_for("[stopped]");
        chat.wait_for("(stopped)");
    }
    chat.type_line("/save talk.json");
    chat.wait_for("2 messages written");
    chat.type_line("/exit");
    assert_eq!(chat.end(), Some(0));
}

#[test]
fn a_message_that_does_not_fit_is_refused_with_both_numbers_and_forgotten() {
    let home = Home::new();
    let mut chat = chat(&home, "64", &["-n", "4"]);
    chat.type_line(&"many words ".repeat(40));
    chat.wait_for("error: the prompt has ");
    let n_prompt = chat.wait_for(" tokens, but the context holds 64");
    assert!(n_prompt.parse::<usize>().unwrap() > 80, "{n_prompt}");
    chat.type_line("Hello!");
    chat.wait_for("generated 4 (-n)");
    chat.type_line("/save talk.json");
    chat.wait_for("2 messages written");
    chat.type_line("/exit");
    assert_eq!(chat.end(), Some(0));
}

#[test]
fn an_answer_that_fills_the_context_says_so() {
    let home = Home::new();
    let mut chat = chat(&home, "48", &["-n", "-1"]);
    chat.type_line("Count from one to one hundred.");
    chat.wait_for("(context full)");
    chat.wait_for("a larger --ctx-size leaves more room");
    chat.type_line("/exit");
    assert_eq!(chat.end(), Some(0));
}

#[test]
fn a_long_prompt_shows_how_far_it_is() {
    let home = Home::new();
    fs::write(home.path().join("long.txt"), "many words ".repeat(300)).unwrap();
    let mut run = chat(&home, "1024", &["-b", "32", "-n", "1", "-f", "long.txt"]);
    run.wait_for("reading the prompt");
    let bar = run.wait_for(" t/s");
    assert!(bar.contains(" tokens  ") && bar.contains(" of "), "{bar:?}");
    run.wait_for("generated 1 (");
    assert_eq!(run.end(), Some(0));
}

/// Of a tiny model whose tokens but the first four are `token`.
fn tiny(home: &Home, token: &str, args: &[&str]) -> Terminal {
    let template = "{% for message in messages %}{{ message.content }}{% endfor %}";
    let changes = Changes {
        keys: vec![("tokenizer.chat_template".to_string(), template.into())],
        tokens: (4..60).map(|id| (id, format!("{token}{id}"))).collect(),
        ..Changes::default()
    };
    let path = tiny_model::write_changed(home.path(), "tiny.gguf", &changes).display().to_string();
    Terminal::start(
        home,
        &[&["run", &path, "--temp", "0", "-n", "4", "--ignore-eos", "--probe", "never"], args].concat(),
    )
}

#[test]
fn a_line_with_bytes_that_are_no_text_is_refused_and_the_chat_goes_on() {
    let home = Home::new();
    let mut chat = tiny(&home, "a", &[]);
    chat.type_line("hi");
    chat.wait_for("generated 4 ");
    for line in [&b"caf\xe9\r"[..], b"a\xffb\r", b"\xc3\x28\r", b"\xed\xa0\x80\r"] {
        chat.wait_for_prompt();
        chat.press_bytes(line);
        chat.wait_for("this line was not sent: it has bytes that are not UTF-8");
    }
    chat.type_line("again");
    chat.wait_for("generated 4 ");
    chat.type_line("/save talk.json");
    chat.wait_for("4 messages written");
    chat.type_line("/exit");
    assert_eq!(chat.end(), Some(0));
}

#[test]
fn control_characters_of_an_answer_are_shown_on_a_terminal_and_not_obeyed() {
    let home = Home::new();
    let mut run = tiny(&home, "\x1b[31m\u{9b}", &["-p", "hi"]);
    run.wait_for("\\u{1b}[31m\\u{9b}");
    run.wait_for("generated 4 ");
    assert!(!run.everything().contains("\x1b[31m") && !run.everything().contains('\u{9b}'));
    assert_eq!(run.end(), Some(0));
}
