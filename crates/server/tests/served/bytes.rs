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
fn answer(server: &Server, request: &Value) -> String {
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
    let requests = requests();
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
        let wanted = Wanted { kv: vec![kv], ..Wanted::default() };
        let expected = alone(Wanted { threads: 1, ..wanted.clone() });
        let server = wanted.clone().start();
        assert_eq!(together(&server, |position| position), expected, "{kv}, at once");
        assert_eq!(together(&server, |position| position * 3), expected, "{kv}, at once, cached");
        let cached: Vec<String> = requests().iter().map(|request| answer(&server, request)).collect();
        assert_eq!(cached, expected, "{kv}, one by one, cached");
    }
}

#[test]
fn a_request_that_gave_up_its_pages_for_a_while_has_the_same_answer() {
    for kv in ["f16", "k2v2"] {
        let wanted = Wanted { kv: vec![kv], n_ctx: 2048, ..Wanted::default() };
        let expected = alone(wanted.clone());
        // Room for the longest and little more.
        let server = Wanted { budget: Some(60 << 20), ..wanted }.start();
        assert_eq!(together(&server, |position| position * 5), expected, "{kv}");
        server.wait_until_idle();
    }
}
