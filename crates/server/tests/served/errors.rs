//! What is wrong is named.

use serde_json::{Value, json};

use super::start::Wanted;

fn chat(field: &str, value: Value) -> Value {
    let mut request = json!({"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1});
    request[field] = value;
    request
}

#[test]
fn a_wrong_field_of_a_chat_is_named() {
    let server = Wanted::default().start();
    for (field, value, param) in [
        ("messages", json!([]), "messages"),
        ("messages", json!("Hi"), "messages"),
        ("messages", json!(null), "messages"),
        (
            "messages",
            json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]),
            "messages[0].content[0]",
        ),
        (
            "messages",
            json!([{"role": "user", "content": [{"type": "input_audio"}]}]),
            "messages[0].content[0]",
        ),
        ("temperature", json!("hot"), "temperature"),
        ("temperature", json!(-0.1), "temperature"),
        ("top_p", json!(1.1), "top_p"),
        ("min_p", json!(7), "min_p"),
        ("n", json!(0), "n"),
        ("n", json!(1000), "n"),
        ("n", json!(-1), "n"),
        ("max_tokens", json!(-2), "max_tokens"),
        ("max_tokens", json!(1.5), "max_tokens"),
        ("top_logprobs", json!(3), "top_logprobs"),
        ("logit_bias", json!({"99999999": 1}), "logit_bias"),
        ("logit_bias", json!({"a": 1}), "logit_bias"),
        ("stop", json!(7), "stop"),
        ("seed", json!(-7), "seed"),
        ("kv", json!("k2v2"), "kv"),
        ("kv", json!("nonsense"), "kv"),
        ("positions", json!("self-extend"), "positions"),
        ("tools", json!([{"type": "function"}]), "tools"),
        ("tools", json!({}), "tools"),
        ("tool_choice", json!("perhaps"), "tool_choice"),
        ("tool_choice", json!({"type": "function", "function": {"name": "f"}}), "tool_choice"),
        ("response_format", json!({"type": "xml"}), "response_format.type"),
        ("response_format", json!({"type": "json_schema"}), "response_format.json_schema.schema"),
        (
            "response_format",
            json!({"type": "json_schema", "json_schema": {"schema": {"type": "nonsense"}}}),
            "response_format",
        ),
        ("grammar", json!("root ::= ("), "grammar"),
        ("functions", json!([{"name": "f"}]), "functions"),
        ("audio", json!({"voice": "x"}), "audio"),
        ("stream", json!("yes"), "stream"),
        ("chat_template_kwargs", json!([]), "chat_template_kwargs"),
    ] {
        let answer = server.post("/v1/chat/completions", &chat(field, value.clone()));
        assert_eq!(answer.status, 400, "{field}: {value}: {}", answer.body);
        let (message, found) = answer.error();
        assert_eq!(found, param, "{field}: {value}: {message}");
        assert!(!message.is_empty());
    }
    for harmless in
        ["user", "metadata", "store", "service_tier", "verbosity", "safety_identifier", "unheard_of"]
    {
        assert_eq!(
            server.post("/v1/chat/completions", &chat(harmless, json!("x"))).status,
            200,
            "{harmless}"
        );
    }
    assert_eq!(server.post("/v1/chat/completions", &chat("model", json!("gpt-9"))).status, 404);
    assert_eq!(server.post("/v1/chat/completions", &chat("model", json!("test"))).status, 200);
}

#[test]
fn a_wrong_field_of_a_completion_is_named() {
    let server = Wanted::default().start();
    for (field, value) in [
        ("prompt", json!(null)),
        ("prompt", json!("")),
        ("prompt", json!([])),
        ("prompt", json!([[]])),
        ("prompt", json!([99_999_999])),
        ("prompt", json!([-1])),
        ("prompt", json!({})),
        ("best_of", json!(4)),
        ("suffix", json!("the end")),
        ("logprobs", json!(1000)),
        ("echo", json!(3)),
    ] {
        let mut request = json!({"prompt": "Hi", "max_tokens": 1});
        request[field] = value.clone();
        let answer = server.post("/v1/completions", &request);
        assert_eq!(answer.status, 400, "{field}: {value}: {}", answer.body);
        assert!(["", field].contains(&answer.error().1.as_str()), "{field}: {}", answer.body);
    }
}

#[test]
fn a_prompt_that_is_too_long_names_both_numbers_and_much_to_generate_is_no_error() {
    let server = Wanted { n_ctx: 256, ..Wanted::default() }.start();
    let answer = server.post("/v1/completions", &json!({"prompt": vec![5; 300], "max_tokens": 1}));
    assert_eq!(answer.status, 400);
    let (message, param) = answer.error();
    assert!(message.contains("300") && message.contains("256"), "{message}");
    assert_eq!(param, "prompt");
    let answer = server
        .ok("/v1/completions", &json!({"prompt": vec![5; 200], "max_tokens": 32_000, "ignore_eos": true}));
    assert_eq!(answer["usage"]["completion_tokens"], 57);
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
}

#[test]
fn what_no_budget_can_hold_is_refused() {
    let server = Wanted { budget: Some(8 << 20), n_ctx: 4096, ..Wanted::default() }.start();
    let answer = server.post("/v1/completions", &json!({"prompt": vec![5; 3000], "max_tokens": 1}));
    assert_eq!(answer.status, 400, "{}", answer.body);
    assert!(answer.error().0.contains("--kv-budget"), "{}", answer.body);
    assert_eq!(server.post("/v1/completions", &json!({"prompt": "Hi", "max_tokens": 1})).status, 200);
    // An answer that outgrows it ends there, and is not lost.
    let answer =
        server.ok("/v1/completions", &json!({"prompt": "Hi", "max_tokens": 900, "ignore_eos": true}));
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    let n = answer["usage"]["completion_tokens"].as_u64().unwrap();
    assert!((100..900).contains(&n), "{n} tokens");
}

#[test]
fn paths_and_methods_that_do_not_exist_say_what_does() {
    let server = Wanted::default().start();
    assert_eq!(server.get("/nothing").status, 404);
    assert!(server.get("/nothing").error().0.contains("/openapi.json"));
    assert_eq!(server.get("/v1/chat/completions").status, 405);
    let embeddings = server.post("/v1/embeddings", &json!({"input": "x"}));
    assert_eq!(embeddings.status, 501);
    assert!(embeddings.error().0.contains("an embedding model"));
}
