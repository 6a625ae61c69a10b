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
fn rendered_prompts_are_those_that_are_read() {
    let server = Wanted::default().start();
    let chat = json!({
        "messages": [{"role": "user", "content": "Hi"}],
        "model": "test", "max_tokens": 5, "temperature": 0.5, "seed": 3, "stream": true, "cache_salt": "s"
    });
    let rendered = server.ok("/v1/chat/completions/render", &chat);
    // The template's text, encoded as a whole, is another way to the same tokens.
    let text = server.ok("/apply-template", &chat)["prompt"].clone();
    let ids = server.ok("/tokenize", &json!({"content": text}))["tokens"].clone();
    assert_eq!(rendered["token_ids"], ids);
    assert!(rendered["request_id"].as_str().unwrap().starts_with("chatcmpl-"));
    let said = json!([rendered["model"], rendered["stream"], rendered["cache_salt"], rendered["features"]]);
    assert_eq!(said, json!(["test", true, "s", null]));
    let sampling = &rendered["sampling_params"];
    let said = json!([sampling["max_tokens"], sampling["temperature"], sampling["seed"], sampling["n"]]);
    assert_eq!(said, json!([5, 0.5, 3, 1]));
    let answer = server.chat(&json!({"messages": chat["messages"], "max_tokens": 1}));
    assert_eq!(answer["usage"]["prompt_tokens"], json!(ids.as_array().unwrap().len()));

    let items = server.ok("/v1/responses/render", &json!({"input": "Hi", "max_output_tokens": 7}));
    assert_eq!((&items["token_ids"], &items["sampling_params"]["max_tokens"]), (&ids, &json!(7)));

    let texts = server.ok("/v1/completions/render", &json!({"prompt": ["One two three", "Four"]}));
    assert_eq!(texts[0]["token_ids"], server.ok("/tokenize", &json!({"prompt": "One two three"}))["tokens"]);
    assert_eq!(texts[1]["token_ids"], server.ok("/tokenize", &json!({"prompt": "Four"}))["tokens"]);
    let sampling = &texts[0]["sampling_params"];
    assert_eq!((&sampling["max_tokens"], &sampling["seed"]), (&json!(16), &json!(null)));
    let of_ids = server.ok("/v1/completions/render", &json!({"prompt": [5, 6, 7], "max_tokens": 1_000_000}));
    assert_eq!(of_ids[0]["token_ids"], json!([5, 6, 7]));
    assert_eq!(of_ids[0]["sampling_params"]["max_tokens"], 4096 - 3);
    // Nothing was computed.
    assert_eq!(server.metric("vllm:generation_tokens_total"), 1.0);
}

#[test]
fn what_cannot_be_rendered_is_named() {
    let server = Wanted { n_ctx: 128, ..Wanted::default() }.start();
    let long = "word ".repeat(200);
    let chat = |content: &str| json!([{"role": "user", "content": content}]);
    for (path, body, param) in [
        ("/v1/chat/completions/render", json!({"messages": []}), "messages"),
        ("/v1/chat/completions/render", json!({"messages": chat(&long)}), "messages"),
        ("/v1/chat/completions/render", json!({"messages": chat("Hi"), "temperature": -1}), "temperature"),
        ("/v1/chat/completions/render", json!({"messages": chat("Hi"), "model": "other"}), "model"),
        ("/v1/completions/render", json!({"prompt": [1_000_000]}), "prompt"),
        ("/v1/completions/render", json!({"prompt": ""}), "prompt"),
        ("/v1/responses/render", json!({"input": "Hi", "previous_response_id": "r"}), "previous_response_id"),
        ("/v1/responses/render", json!({"input": long}), "input"),
    ] {
        let answer = server.post(path, &body);
        let wanted = if param == "model" { 404 } else { 400 };
        assert_eq!((answer.status, answer.error().1.as_str()), (wanted, param), "{path} {}", answer.body);
    }
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
    for path in ["/server_info", "/get_server_info"] {
        assert_eq!(server.get(path).json()["model_id"], "test");
    }
    for path in ["/model_info", "/get_model_info"] {
        let model = server.get(path).json();
        assert_eq!((&model["model_type"], &model["is_generation"]), (&json!("llama"), &json!(true)));
    }
    assert_eq!(server.get("/get_load").json(), json!({"load": 0}));
    let openapi = server.get("/openapi.json").json();
    for path in ["/v1/chat/completions", "/v1/completions/render", "/tokenize", "/metrics", "/cache"] {
        assert!(openapi["paths"][path].is_object(), "{path}");
    }
    server.chat(&hello());
    assert_eq!(server.metric("vllm:request_success_total{finished_reason=\"length\"}"), 1.0);
    assert_eq!(server.metric("vllm:generation_tokens_total"), 12.0);
}
