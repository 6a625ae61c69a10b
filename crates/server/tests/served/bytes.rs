//! The same request has the same answer, whoever else asks.

use serde_json::{Value, json};

use super::start::{Server, Wanted};

/// Requests of all kinds of lengths, some of which begin alike.
fn requests() -> Vec<Value> {
    let long = "The harbour was quiet that morning, and the ships lay still. ".repeat(40);
    (0..8)
        .map(|index| {
            let text = match index % 4 {
                0 => format!("Tell me about the number {index}."),
                1 => format!("{long} What lay still, question {index}?"),
                2 => format!("{}Say the word {index}.", "word ".repeat(20 + 30 * index)),
                _ => format!("{long}{long} And what else, {index}?"),
            };
            json!({
                "messages": [{"role": "user", "content": text}],
                "max_tokens": 24, "seed": index, "temperature": if index % 2 == 0 { 0.9 } else { 0.0 },
                "logprobs": true, "top_logprobs": 2,
            })
        })
        .collect()
}

/// All that must be the same.
pub fn answer(server: &Server, request: &Value) -> String {
    let found = server.chat(request);
    let choice = &found["choices"][0];
    format!("{} {} {}", choice["message"], choice["logprobs"], choice["finish_reason"])
}

fn alone(wanted: Wanted) -> Vec<String> {
    let server = wanted.start();
    requests().iter().map(|request| answer(&server, request)).collect()
}

/// Answers of requests that come at once, in an order of their own.
fn together(server: &Server, order: impl Fn(usize) -> usize) -> Vec<String> {
    at_once(server, &requests(), order)
}

pub fn at_once(server: &Server, requests: &[Value], order: impl Fn(usize) -> usize) -> Vec<String> {
    let mut answers = vec![String::new(); requests.len()];
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for position in 0..requests.len() {
            let index = order(position) % requests.len();
            let request = &requests[index];
            threads.push((index, scope.spawn(move || answer(server, request))));
        }
        for (index, thread) in threads {
            answers[index] = thread.join().unwrap();
        }
    });
    answers
}

#[test]
fn alone_together_in_another_order_and_from_the_cache_answers_are_the_same() {
    for kv in ["f16", "k2v2"] {
        let wanted = Wanted { kv: vec![kv], threads: 2, ..Wanted::default() };
        let expected = alone(Wanted { threads: 1, ..wanted.clone() });
        let server = wanted.clone().start();
        assert_eq!(together(&server, |position| position), expected, "{kv}, at once");
        assert_eq!(together(&server, |position| position * 3), expected, "{kv}, at once, cached");
        let cached: Vec<String> = requests().iter().map(|request| answer(&server, request)).collect();
        assert_eq!(cached, expected, "{kv}, one by one, cached");
    }
}

/// Short questions with long answers, which together outgrow any room that they were admitted with.
fn long_answers() -> Vec<Value> {
    let of = |index: usize| {
        json!({
            "messages": [{"role": "user", "content": format!("Write a long story about the number {index}.")}],
            "max_tokens": 300, "ignore_eos": true, "seed": index, "temperature": 0.9, "logprobs": true
        })
    };
    (0..4).map(of).collect()
}

#[test]
fn a_request_that_gave_up_its_pages_for_a_while_has_the_same_answer() {
    for (kv, budget) in [("f16", 28 << 20), ("k2v2", 13 << 20)] {
        let wanted = Wanted { kv: vec![kv], n_ctx: 2048, ..Wanted::default() };
        let requests = long_answers();
        let expected: Vec<String> = {
            let server = wanted.clone().start();
            requests.iter().map(|request| answer(&server, request)).collect()
        };
        let server = Wanted { budget: Some(budget), ..wanted }.start();
        let found = at_once(&server, &requests, |position| position * 5);
        assert_eq!(found, expected, "{kv}");
        server.wait_until_idle();
        assert!(server.metric("vllm:num_preemptions_total") > 0.0, "{kv}: there was room for all");
    }
}

/// Each of them holds two exact pages, the first one with its sinks and one of codes when its answer ends. While it goes from one
/// page to the next, it holds no more: the oldest exact page goes before the new one comes.
#[test]
fn what_fits_to_the_end_is_not_taken_out_where_a_page_ends() {
    let mut requests = long_answers();
    requests.iter_mut().for_each(|request| request["max_tokens"] = json!(240));
    // 4 * 7,464,960 bytes, and less than an exact page (2,949,120 bytes) beyond.
    let server =
        Wanted { kv: vec!["k2v2"], n_ctx: 2048, budget: Some(30 << 20), ..Wanted::default() }.start();
    let found = at_once(&server, &requests, |position| position);
    assert!(found.iter().all(|answer| answer.ends_with("\"length\"")), "{found:?}");
    server.wait_until_idle();
    assert_eq!(server.metric("vllm:num_preemptions_total"), 0.0);
}
