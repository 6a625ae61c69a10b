//! Guessed tokens change no answer, and are told.

use serde_json::{Value, json};

use super::bytes::{answer, at_once};
use super::start::{Server, Wanted};

/// Questions whose answers quote, some of them within a form.
fn requests(speculation: &str) -> Vec<Value> {
    let text =
        "The miller sold nine apples near the bridge. Her sister lost the ledger on Monday. ".repeat(3);
    (0..4)
        .map(|index| {
            let mut request = json!({
                "messages": [{"role": "user", "content": format!("Repeat this {index} times, word for word: {text}")}],
                "max_tokens": 60, "ignore_eos": true, "seed": index, "speculation": speculation,
                "temperature": if index < 2 { 0.0 } else { 0.6 }, "logprobs": true, "top_logprobs": 2,
            });
            if index == 1 {
                let words = json!({"type": "array", "items": {"enum": ["miller", "sister", "ledger"]}, "minItems": 40});
                request["response_format"] =
                    json!({"type": "json_schema", "json_schema": {"name": "words", "schema": words}});
            }
            request
        })
        .collect()
}

fn counts(server: &Server) -> (f64, f64) {
    let of = |name: &str| server.metric(&format!("vllm:spec_decode_num_{name}_tokens_total"));
    (of("draft"), of("accepted"))
}

#[test]
fn answers_are_the_same_alone_and_together_whatever_is_guessed() {
    for kv in ["f16", "k2v2"] {
        let server = Wanted { kv: vec![kv], ..Wanted::default() }.start();
        let expected: Vec<String> = requests("off").iter().map(|request| answer(&server, request)).collect();
        assert_eq!(counts(&server), (0.0, 0.0));
        for speculation in ["15", "3", "auto"] {
            let requests = requests(speculation);
            let alone: Vec<String> = requests.iter().map(|request| answer(&server, request)).collect();
            assert_eq!(alone, expected, "{kv}, {speculation}");
            assert_eq!(at_once(&server, &requests, |index| index), expected, "{kv}, {speculation}, at once");
        }
        let (drafted, accepted) = counts(&server);
        assert!(accepted > 100.0 && drafted > accepted, "{accepted} of {drafted}");
    }
}

#[test]
fn what_was_guessed_is_told_and_streamed_in_order() {
    let server = Wanted::default().start();
    let mut request = requests("15").remove(0);
    let whole = server.chat(&request);
    let (drafted, accepted) = (
        whole["timings"]["draft_n"].as_u64().unwrap(),
        whole["timings"]["draft_n_accepted"].as_u64().unwrap(),
    );
    assert!(accepted > 10 && accepted < 60 && drafted >= accepted, "{accepted} of {drafted}");
    assert_eq!(counts(&server), (drafted as f64, accepted as f64));
    request["stream"] = json!(true);
    let chunks = server.post("/v1/chat/completions", &request).chunks();
    let pieces = chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str());
    assert_eq!(whole["choices"][0]["message"]["content"], pieces.collect::<String>());
}

#[test]
fn requests_that_guess_within_a_small_budget_have_the_same_answers() {
    let wanted = Wanted { kv: vec!["f16"], n_ctx: 1024, ..Wanted::default() };
    let expected: Vec<String> = {
        let server = wanted.clone().start();
        requests("off").iter().map(|request| answer(&server, request)).collect()
    };
    // Two requests of four have room.
    let server = Wanted { budget: Some(16 << 20), ..wanted }.start();
    assert_eq!(at_once(&server, &requests("9"), |index| index), expected);
}
