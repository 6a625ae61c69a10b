//! What each endpoint answers.

use serde_json::{Value, json};

use super::start::Wanted;

fn hello() -> Value {
    json!({"messages": [{"role": "user", "content": "What is the capital of France?"}], "max_tokens": 12})
}

#[test]
fn a_stream_is_the_whole_answer_in_pieces() {
    let server = Wanted::default().start();
    let whole = server.chat(&hello());
    assert_eq!(whole["object"], "chat.completion");
    assert_eq!(whole["choices"][0]["message"]["role"], "assistant");
    let usage = &whole["usage"];
    assert_eq!(usage["completion_tokens"], 12);
    assert_eq!(usage["total_tokens"].as_u64(), Some(12 + usage["prompt_tokens"].as_u64().unwrap()));
    assert!(whole["timings"]["predicted_per_second"].as_f64().unwrap() > 0.0);
    let mut request = hello();
    request["stream"] = json!(true);
    request["stream_options"] = json!({"include_usage": true});
    let chunks = server.post("/v1/chat/completions", &request).chunks();
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
    assert!(
        chunks
            .iter()
            .all(|chunk| chunk["object"] == "chat.completion.chunk" && chunk["id"] == chunks[0]["id"])
    );
    let text: String =
        chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(text, whole["choices"][0]["message"]["content"]);
    let last = &chunks[chunks.len() - 1];
    assert_eq!((&last["choices"], &last["usage"]["completion_tokens"]), (&json!([]), &json!(12)));
    assert_eq!(chunks[chunks.len() - 2]["choices"][0]["finish_reason"], "length");
}

#[test]
fn several_answers_have_seeds_of_their_own() {
    let server = Wanted::default().start();
    let mut request = hello();
    (request["n"], request["seed"], request["temperature"]) = (json!(3), json!(5), json!(1.2));
    let answers = server.chat(&request);
    let texts: Vec<&Value> = (0..3).map(|index| &answers["choices"][index]["message"]["content"]).collect();
    assert!(texts[0] != texts[1] && texts[1] != texts[2]);
    (request["n"], request["seed"]) = (json!(1), json!(6));
    assert_eq!(&server.chat(&request)["choices"][0]["message"]["content"], texts[1]);
    request["stream"] = json!(true);
    request["n"] = json!(2);
    let chunks = server.post("/v1/chat/completions", &request).chunks();
    for index in 0..2 {
        let of_answer = chunks.iter().flat_map(|chunk| chunk["choices"].as_array().unwrap());
        let text: String = of_answer
            .filter(|choice| choice["index"] == index)
            .filter_map(|choice| choice["delta"]["content"].as_str())
            .collect();
        assert_eq!(json!(text), *texts[index + 1]);
    }
}

#[test]
fn a_stop_text_ends_an_answer_and_is_not_part_of_it() {
    let server = Wanted::default().start();
    let whole = server.chat(&hello());
    let text = whole["choices"][0]["message"]["content"].as_str().unwrap();
    let middle = &text[text.len() / 2..text.len() / 2 + 3];
    let mut request = hello();
    request["stop"] = json!([middle]);
    let answer = server.chat(&request);
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    assert_eq!(answer["choices"][0]["message"]["content"], text[..text.find(middle).unwrap()]);
}

#[test]
fn echo_gives_the_prompt_with_its_log_probabilities_as_lm_eval_reads_them() {
    let server = Wanted::default().start();
    let ids = server
        .ok("/tokenize", &json!({"content": "The capital of France is Paris, and", "add_special": false}));
    let ids: Vec<u64> = ids["tokens"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).collect();
    let request = json!({
        "model": "test", "prompt": [ids, ids[..3]], "temperature": 0, "max_tokens": 1, "logprobs": 1,
        "seed": 1234, "echo": true
    });
    let answer = server.ok("/v1/completions", &request);
    for (index, n) in [(0, ids.len()), (1, 3)] {
        let choice = &answer["choices"][index];
        let logprobs = &choice["logprobs"];
        for list in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
            assert_eq!(logprobs[list].as_array().unwrap().len(), n + 1, "{list}");
        }
        assert!(logprobs["token_logprobs"][0].is_null());
        for position in 1..=n {
            let token = logprobs["tokens"][position].as_str().unwrap();
            assert_eq!(logprobs["top_logprobs"][position][token], logprobs["token_logprobs"][position]);
        }
    }
    assert_eq!(
        answer["choices"][0]["text"].as_str().unwrap().find("The capital of France is Paris, and"),
        Some(0)
    );
    // The prompt of the second is the beginning of the first's.
    for position in 1..3 {
        let of = |index: usize| answer["choices"][index]["logprobs"]["token_logprobs"][position].clone();
        assert_eq!(of(0), of(1));
    }
    // What the model says of a token of the prompt is what it says when it generates it.
    let generated = server.ok(
        "/v1/completions",
        &json!({"prompt": ids[..3], "max_tokens": 1, "temperature": 0, "logprobs": 1}),
    );
    assert_eq!(
        generated["choices"][0]["logprobs"]["token_logprobs"][0],
        answer["choices"][1]["logprobs"]["token_logprobs"][3]
    );
}

#[test]
fn completions_take_texts_and_ids_and_stream() {
    let server = Wanted::default().start();
    let text = server.ok("/v1/completions", &json!({"prompt": "One two three", "max_tokens": 8}));
    let ids = server.ok("/tokenize", &json!({"prompt": "One two three"}))["tokens"].clone();
    let of_ids = server.ok("/v1/completions", &json!({"prompt": ids, "max_tokens": 8}));
    assert_eq!(text["choices"], of_ids["choices"]);
    let both =
        server.ok("/v1/completions", &json!({"prompt": ["One two three", "Four"], "max_tokens": 8, "n": 2}));
    assert_eq!(both["choices"].as_array().unwrap().len(), 4);
    assert_eq!(both["choices"][1]["text"], text["choices"][0]["text"]);
    let chunks = server
        .post("/v1/completions", &json!({"prompt": "One two three", "max_tokens": 8, "stream": true}))
        .chunks();
    let streamed: String = chunks.iter().filter_map(|chunk| chunk["choices"][0]["text"].as_str()).collect();
    assert_eq!(streamed, text["choices"][0]["text"]);
}

#[test]
fn tokens_and_templates() {
    let server = Wanted::default().start();
    let tokens = server.ok("/tokenize", &json!({"content": "Hello there", "with_pieces": true}));
    assert_eq!(tokens["tokens"][0]["piece"], "Hello");
    let ids = server.ok("/tokenize", &json!({"content": "Hello there"}))["tokens"].clone();
    let text = server.ok("/detokenize", &json!({"tokens": ids}));
    assert_eq!((&text["content"], &text["prompt"]), (&json!("Hello there"), &json!("Hello there")));
    let messages = json!({"messages": [{"role": "user", "content": "Hi"}]});
    let prompt = server.ok("/apply-template", &messages)["prompt"].as_str().unwrap().to_string();
    assert!(prompt.ends_with("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"), "{prompt}");
    let count = server.ok("/tokenize", &messages)["count"].clone();
    assert_eq!(
        server.chat(&json!({"messages": messages["messages"], "max_tokens": 1}))["usage"]["prompt_tokens"],
        count
    );
    let info = server.get("/tokenizer_info").json();
    assert_eq!(info["eos_token"], "<|im_end|>");
}

#[test]
fn the_server_says_what_it_is_and_what_it_costs() {
    let server = Wanted { kv: vec!["k2v2", "f16"], ..Wanted::default() }.start();
    assert_eq!(server.get("/health").json(), json!({"status": "ok"}));
    let models = server.get("/v1/models").json();
    let model = &models["data"][0];
    assert_eq!((&model["id"], &model["meta"]["loss"][0]["kv"]), (&json!("test"), &json!("k2v2")));
    assert_eq!(model["meta"]["loss"][0]["status"], "not measured");
    assert_eq!(model["meta"]["loss"][1]["status"], "exact");
    assert!(model["meta"]["loss"][0]["bits_per_value"].as_f64().unwrap() < 2.5);
    assert_eq!(server.get("/v1/models/test").json()["id"], "test");
    assert_eq!(server.get("/v1/models/other").status, 404);
    let props = server.get("/props").json();
    assert_eq!(
        (&props["total_slots"], &props["default_generation_settings"]["n_ctx"]),
        (&json!(16), &json!(4096))
    );
    assert_eq!(props["loss"], model["meta"]["loss"]);
    assert_eq!(server.get("/slots").json().as_array().unwrap().len(), 16);
    assert!(server.get("/version").json()["version"].is_string());
    assert_eq!(server.get("/server_info").json()["model_id"], "test");
    let openapi = server.get("/openapi.json").json();
    for path in ["/v1/chat/completions", "/v1/completions", "/tokenize", "/metrics", "/cache"] {
        assert!(openapi["paths"][path].is_object(), "{path}");
    }
    server.chat(&hello());
    assert_eq!(server.metric("vllm:request_success_total{finished_reason=\"length\"}"), 1.0);
    assert_eq!(server.metric("vllm:generation_tokens_total"), 12.0);
}
