//! Documents stay loaded.

use std::path::Path;

use serde_json::{Value, json};

use super::start::Wanted;

fn document(n_words: usize) -> String {
    (0..n_words).map(|index| format!("word{} ", index * 7919 % 1000)).collect()
}

fn ask(document: &str, question: &str) -> Value {
    json!({
        "messages": [{"role": "system", "content": document}, {"role": "user", "content": question}],
        "max_tokens": 4
    })
}

fn cached(answer: &Value) -> (u64, u64) {
    let usage = &answer["usage"];
    (
        usage["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap(),
        usage["prompt_tokens"].as_u64().unwrap(),
    )
}

#[test]
fn a_second_question_to_a_document_finds_it_and_a_miss_is_explained() {
    for kv in ["f16", "k2v2"] {
        let server = Wanted { kv: vec![kv, "q8"], ..Wanted::default() }.start();
        let document = document(500);
        let first = server.chat(&ask(&document, "What is the first word?"));
        assert_eq!(cached(&first).0, 0);
        assert_eq!(first["timings"]["cache_miss"]["reason"], "first_seen");
        let second = server.chat(&ask(&document, "And the last one?"));
        let (n_cached, n_prompt) = cached(&second);
        assert!(n_cached + 256 > n_prompt, "{kv}: {n_cached} of {n_prompt}");
        let again = server.chat(&ask(&document, "And the last one?"));
        let (n_cached, n_prompt) = cached(&again);
        assert!(n_cached + 2 >= n_prompt, "{kv}: {n_cached} of {n_prompt}");
        assert_eq!(again["choices"][0]["message"], second["choices"][0]["message"]);
        assert!(again["timings"]["cache_miss"].is_null(), "{again}");
        let mut other = ask(&document, "And the last one?");
        other["kv"] = json!("q8");
        let other = server.chat(&other);
        assert_eq!(cached(&other).0, 0, "a page is never shared across schemes");
        assert_eq!(other["timings"]["cache_miss"]["reason"], "setting_changed");
        let mut salted = ask(&document, "And the last one?");
        salted["cache_salt"] = json!("mine");
        let salted = server.chat(&salted);
        assert_eq!(cached(&salted).0, 0, "nor across salts");
        assert_eq!(salted["timings"]["cache_miss"]["reason"], "first_seen");
        assert!(server.metric("vllm:prefix_cache_hits_total") > 0.0);
        let erased = server.request("DELETE", "/cache", "", "").json();
        assert!(erased["pages"].as_u64().unwrap() > 0);
        assert_eq!(cached(&server.chat(&ask(&document, "And the last one?"))).0, 0);
    }
}

#[test]
fn a_conversation_that_goes_on_is_read_from_where_it_ended() {
    let server = Wanted::default().start();
    let mut request = ask(&document(300), "Say something about a word.");
    request["max_tokens"] = json!(140);
    request["ignore_eos"] = json!(true);
    let answer = server.chat(&request);
    let messages = request["messages"].as_array_mut().unwrap();
    messages.push(answer["choices"][0]["message"].clone());
    messages.push(json!({"role": "user", "content": "And another?"}));
    let next = server.chat(&request);
    let (n_cached, _) = cached(&next);
    let (_, n_before) = cached(&answer);
    assert!(n_cached >= n_before, "{n_cached} of a prompt of {n_before} and its answer");
}

#[test]
fn documents_survive_a_restart_and_damage_is_reported_and_not_served() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("documents");
    let _ = std::fs::remove_dir_all(&directory);
    let wanted = Wanted { kv: vec!["k2v2"], directory: Some(directory.clone()), ..Wanted::default() };
    let request = ask(&document(400), "What is the second word?");
    let mut server = wanted.clone().start();
    let first = server.chat(&request);
    server.join();
    let mut server = wanted.clone().start();
    let second = server.chat(&request);
    let (n_cached, n_prompt) = cached(&second);
    assert!(n_cached + 2 >= n_prompt, "{n_cached} of {n_prompt}");
    assert_eq!(second["choices"][0]["message"], first["choices"][0]["message"]);
    server.join();
    damage(&directory);
    let server = wanted.start();
    let third = server.chat(&request);
    let (n_cached, n_prompt) = cached(&third);
    assert!(n_cached < n_prompt / 2, "{n_cached} of {n_prompt}");
    assert_eq!(third["choices"][0]["message"], first["choices"][0]["message"]);
    assert_eq!(third["timings"]["cache_miss"]["reason"], "damaged", "{third}");
}

/// Changes a byte in the middle of every file.
fn damage(directory: &Path) {
    let mut folders = vec![directory.to_path_buf()];
    let mut n_damaged = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(mut bytes) = std::fs::read(&path)
                && bytes.len() > 1000
            {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 0x40;
                std::fs::write(&path, bytes).unwrap();
                n_damaged += 1;
            }
        }
    }
    assert!(n_damaged > 3);
}

#[test]
fn a_client_that_left_finds_what_was_read() {
    let server = Wanted { kv: vec!["k2v2"], ..Wanted::default() }.start();
    let mut request = ask(&document(900), "What is the third word?");
    request["stream"] = json!(true);
    request["return_progress"] = json!(true);
    let mut stream = server.send("POST", "/v1/chat/completions", "", &request.to_string());
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains("\"processed\":1") {
        let mut bytes = [0; 512];
        let n = std::io::Read::read(&mut stream, &mut bytes).unwrap();
        assert!(n > 0, "{}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&bytes[..n]);
    }
    drop(stream);
    server.wait_until_idle();
    assert_eq!(server.metric("vllm:request_success_total{finished_reason=\"abort\"}"), 1.0);
    request["stream"] = json!(false);
    let answer = server.chat(&request);
    assert!(cached(&answer).0 >= 512, "{answer}");
}
