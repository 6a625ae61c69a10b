//! A call of a tool as JSON: does the answer still parse, and is it a call that the tools allow?
//!
//! The prompt describes the tools, goes on with a text that has nothing to do with them, shows two calls, and asks for a third. The
//! score is 1 if the first JSON value of the answer is an object with the name of a tool and arguments of the right
//! types, no matter whether they are the right ones.

use serde_json::Value;

use super::words::prose_sentences;
use super::{Request, Sample, Task};
use crate::Random;

const CITIES: [&str; 8] = ["Lisbon", "Oslo", "Nairobi", "Lima", "Osaka", "Quito", "Turin", "Tunis"];

/// `size` is sentences between the tools and the question.
pub const TOOL_CALL: Task = Task {
    name: "tool_call",
    about: "a tool call as JSON that parses and fits its schema",
    max_answer_tokens: 64,
    stop: Some("\n"),
    make,
    score: |_, answer| f64::from(u8::from(is_valid_call(answer))),
};

fn make(request: &Request, random: &mut Random) -> Sample {
    let notes: Vec<&str> = prose_sentences().take(request.size).collect();
    let shown = random.choose(3, CITIES.len());
    let city = |index: usize| CITIES[shown[index]];
    let days = |random: &mut Random| 1 + random.below(9);
    let (first_days, last_days) = (days(random), days(random));
    let (amount, rate) = (100 + random.below(900), ["EUR", "USD", "JPY"][random.below(3)]);
    let call = |city: &str, days: usize| {
        format!("{{\"name\": \"forecast\", \"arguments\": {{\"city\": \"{city}\", \"days\": {days}}}}}")
    };
    let expected = call(city(2), last_days);
    Sample {
        prompt: format!(
            "You can call these tools. Answer with one JSON object on one line.\n\
             forecast: arguments city (string), days (integer)\n\
             convert: arguments amount (number), currency (string)\n\nNotes: {}\n\n\
             User: How much is {amount} in {rate}?\n\
             Call: {{\"name\": \"convert\", \"arguments\": {{\"amount\": {amount}, \"currency\": \"{rate}\"}}}}\n\
             User: What will the weather be like in {} for {first_days} days?\nCall: {}\n\
             User: What will the weather be like in {} for {last_days} days?\nCall:",
            notes.join(" "),
            city(0),
            call(city(0), first_days),
            city(2),
        ),
        continuation: format!(" {expected}"),
        answers: vec![expected],
    }
}

fn is_valid_call(answer: &str) -> bool {
    let Some(start) = answer.find('{') else { return false };
    let mut values = serde_json::Deserializer::from_str(&answer[start..]).into_iter::<Value>();
    let Some(Ok(call)) = values.next() else { return false };
    let arguments = &call["arguments"];
    let n_arguments = arguments.as_object().map_or(0, |arguments| arguments.len());
    match call["name"].as_str() {
        Some("forecast") => n_arguments == 2 && arguments["city"].is_string() && arguments["days"].is_u64(),
        Some("convert") => {
            n_arguments == 2 && arguments["amount"].is_number() && arguments["currency"].is_string()
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_valid_or_not() {
        for valid in [
            r#" {"name": "forecast", "arguments": {"city": "Rome", "days": 3}}"#,
            r#"{"arguments":{"currency":"EUR","amount":1.5},"name":"convert"} and more"#,
        ] {
            assert!(is_valid_call(valid), "{valid}");
        }
        for invalid in [
            "",
            "no",
            r#"{"name": "forecast", "arguments": {"city": "Rome", "days": 3}"#,
            r#"{"name": "forecast", "arguments": {"city": "Rome", "days": "3"}}"#,
            r#"{"name": "forecast", "arguments": {"city": "Rome"}}"#,
            r#"{"name": "other", "arguments": {"city": "Rome", "days": 3}}"#,
            r#"{"name": "forecast", "arguments": {"city": "Rome", "days": 3, "x": 1}}"#,
        ] {
            assert!(!is_valid_call(invalid), "{invalid}");
        }
    }

    #[test]
    fn the_right_answer_is_valid() {
        let sample = make(&Request { size: 3, depth: 0.0, seed: 1 }, &mut Random::new(1, 2));
        assert_eq!((TOOL_CALL.score)(&sample, &sample.continuation), 1.0);
    }
}
