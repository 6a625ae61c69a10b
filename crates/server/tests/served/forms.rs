//! Answers that must have a form.

use lossy_testkit::TestModel;
use serde_json::{Value, json};

use super::start::{Server, Wanted};

fn content(answer: &Value) -> &str {
    answer["choices"][0]["message"]["content"].as_str().unwrap_or_default()
}

fn person() -> Value {
    json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 20},
            "age": {"type": "integer", "minimum": 0, "maximum": 150},
            "pets": {"type": "array", "items": {"enum": ["cat", "dog"]}, "maxItems": 3}
        },
        "required": ["name", "age", "pets"],
        "additionalProperties": false
    })
}

fn check_person(text: &str) {
    let value: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert!(value["name"].as_str().unwrap().chars().count() <= 20, "{text}");
    assert!((0..=150).contains(&value["age"].as_i64().unwrap()), "{text}");
    assert!(value["pets"].as_array().unwrap().iter().all(|pet| pet == "cat" || pet == "dog"), "{text}");
    assert_eq!(value.as_object().unwrap().len(), 3, "{text}");
}

#[test]
fn an_answer_under_a_schema_parses_whatever_the_model_would_like_to_say() {
    let server = Wanted::default().start();
    for seed in 0..8 {
        let answer = server.chat(&json!({
            "messages": [{"role": "user", "content": "Write a poem about the sea."}],
            "response_format": {"type": "json_schema", "json_schema": {"name": "person", "schema": person(), "strict": true}},
            "temperature": 1.5, "seed": seed, "max_tokens": 400
        }));
        assert_eq!(answer["choices"][0]["finish_reason"], "stop", "{answer}");
        check_person(content(&answer));
    }
    let object = server.chat(&json!({
        "messages": [{"role": "user", "content": "Give me some JSON."}],
        "response_format": {"type": "json_object"}, "max_tokens": 300, "temperature": 0.3, "seed": 3
    }));
    if object["choices"][0]["finish_reason"] == "stop" {
        assert!(serde_json::from_str::<Value>(content(&object)).unwrap().is_object());
    }
}

#[test]
fn an_answer_follows_a_grammar() {
    let server = Wanted::default().start();
    let answer = server.chat(&json!({
        "messages": [{"role": "user", "content": "Is the sea blue?"}],
        "grammar": "root ::= (\"yes\" | \"no\") \" \" [0-9]{1,3} \"%\"", "max_tokens": 40, "temperature": 1.0, "seed": 1
    }));
    let text = content(&answer);
    let (word, number) = text.split_once(' ').unwrap();
    assert!(word == "yes" || word == "no", "{text}");
    assert!(number.strip_suffix('%').unwrap().bytes().all(|digit| digit.is_ascii_digit()), "{text}");
}

#[test]
fn a_schema_that_cannot_be_enforced_is_refused_by_name() {
    let server = Wanted::default().start();
    let answer = server.post(
        "/v1/chat/completions",
        &json!({
            "messages": [{"role": "user", "content": "Hi"}],
            "response_format": {"type": "json_schema", "json_schema": {"schema": {
                "type": "array", "uniqueItems": true
            }}}
        }),
    );
    assert_eq!(answer.status, 400, "{}", answer.body);
    assert!(answer.error().0.contains("uniqueItems"), "{}", answer.body);
}

fn weather() -> Value {
    json!([{"type": "function", "function": {
        "name": "get_weather", "description": "The weather of a place",
        "parameters": {"type": "object", "properties": {"city": {"type": "string", "maxLength": 30}, "days": {"type": "integer"}},
                       "required": ["city"], "additionalProperties": false}
    }}, {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}])
}

fn calls(server: &Server, choice: Value) -> Value {
    server.chat(&json!({
        "messages": [{"role": "user", "content": "How is the weather in Paris?"}],
        "tools": weather(), "tool_choice": choice, "max_tokens": 200
    }))
}

#[test]
fn a_tool_that_must_be_called_is_called_with_arguments_that_parse() {
    for model in [TestModel::SmolLm2, TestModel::QwenCoder] {
        let server = Wanted { model: model.path(), ..Wanted::default() }.start();
        let named = json!({"type": "function", "function": {"name": "get_weather"}});
        for choice in [json!("required"), named] {
            let answer = calls(&server, choice);
            let choice = &answer["choices"][0];
            if choice["finish_reason"] == "length" {
                continue;
            }
            assert_eq!(choice["finish_reason"], "tool_calls", "{answer}");
            let call = &choice["message"]["tool_calls"][0];
            assert!(call["id"].as_str().unwrap().starts_with("call_"));
            assert!(["get_weather", "add"].contains(&call["function"]["name"].as_str().unwrap()), "{answer}");
            let arguments = call["function"]["arguments"].as_str().unwrap();
            assert!(serde_json::from_str::<Value>(arguments).unwrap().is_object(), "{answer}");
        }
        let none = calls(&server, json!("none"));
        assert!(none["choices"][0]["message"]["tool_calls"].is_null(), "{none}");
    }
}

#[test]
fn a_streamed_call_is_the_whole_one_in_pieces() {
    let server = Wanted { model: TestModel::QwenCoder.path(), ..Wanted::default() }.start();
    let whole = calls(&server, json!("required"));
    let request = json!({
        "messages": [{"role": "user", "content": "How is the weather in Paris?"}],
        "tools": weather(), "tool_choice": "required", "max_tokens": 200, "stream": true
    });
    let chunks = server.post("/v1/chat/completions", &request).chunks();
    let (mut name, mut arguments) = (String::new(), String::new());
    for call in chunks
        .iter()
        .flat_map(|chunk| chunk["choices"][0]["delta"]["tool_calls"].as_array().cloned().unwrap_or_default())
    {
        if call["index"] == 0 {
            name += call["function"]["name"].as_str().unwrap_or_default();
            arguments += call["function"]["arguments"].as_str().unwrap_or_default();
        }
    }
    let function = &whole["choices"][0]["message"]["tool_calls"][0]["function"];
    assert_eq!((json!(name), json!(arguments)), (function["name"].clone(), function["arguments"].clone()));
}
