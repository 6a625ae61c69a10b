//! Sixteen numbers, each with a name, in one text that says nothing: the question asks for one of them. All samples share
//! the text, so it is read once and asked sixteen times, which makes very long texts affordable.
//!
//! The names are different kinds of numbers: small models confuse "the pass key of Alice" with that of Bob even in a short
//! text (SmolLM2-135M finds 7 of 16 in 2,048 tokens), but not the door code with the phone number (16 of 16). Each is said
//! three times, since what fails in longer texts is mostly a number that is taken for another.

use super::passkey::{INTRODUCTION, MAX_KEY, first_number, garbage};
use super::{Request, Sample, Task};
use crate::Random;

/// What the numbers are, in the order of the text.
const NAMES: [&str; 16] = [
    "door code",
    "bank balance",
    "phone number",
    "flight number",
    "house number",
    "ticket price",
    "population",
    "license plate",
    "distance",
    "serial number",
    "birth year",
    "weight",
    "temperature",
    "room key",
    "invoice total",
    "lottery number",
];

/// `size` is characters of garbage; the first number of the answer must be the one that is asked for.
pub const PASSKEYS: Task = Task {
    name: "multi-passkey",
    about: "sixteen numbers of 1 to 50000 with names in a text that says nothing",
    max_answer_tokens: 8,
    stop: None,
    make,
    score: |sample, answer| f64::from(u8::from(first_number(answer) == sample.answers[0])),
};

fn make(request: &Request, _: &mut Random) -> Sample {
    let mut random = Random::new(request.seed, NAMES.len() as u64);
    let keys = NAMES.map(|_| 1 + random.below(MAX_KEY));
    let cut = |part: usize| part * request.size / (2 * NAMES.len());
    let mut parts = vec![INTRODUCTION.to_string()];
    for (index, (name, key)) in NAMES.iter().zip(keys).enumerate() {
        // A key in the middle of its sixteenth of the text.
        let start = if index == 0 { 0 } else { cut(2 * index - 1) };
        parts.push(garbage(cut(2 * index + 1) - start));
        parts.push(format!(
            "The {name} is {key}. Remember it. The {name} is {key}. Do not forget: the {name} is {key}."
        ));
    }
    parts.push(garbage(request.size - cut(2 * NAMES.len() - 1)));
    let asked = ((request.depth * NAMES.len() as f64) as usize).min(NAMES.len() - 1);
    let (name, key) = (NAMES[asked], keys[asked]);
    parts.push(format!("What is the {name}? The {name} is"));
    Sample { prompt: parts.join("\n"), continuation: format!(" {key}"), answers: vec![key.to_string()] }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(size: usize, depth: f64) -> Sample {
        make(&Request { size, depth, seed: 3 }, &mut Random::new(1, 1))
    }

    #[test]
    fn all_questions_are_about_one_text() {
        let texts: Vec<String> =
            (0..16).map(|index| sample(3200, (index as f64 + 0.5) / 16.0).prompt).collect();
        let text = |prompt: &str| prompt.split("\nWhat is").next().map(str::to_owned);
        assert!(texts.iter().all(|prompt| text(prompt) == text(&texts[0])));
        for (index, name) in NAMES.iter().enumerate() {
            assert!(texts[index].ends_with(&format!("What is the {name}? The {name} is")));
        }
    }

    #[test]
    fn keys_stand_at_their_depths_and_are_the_answers() {
        for (index, name) in NAMES.iter().enumerate() {
            let depth = (index as f64 + 0.5) / 16.0;
            let sample = sample(100_000, depth);
            let place = sample.prompt.find(&format!("The {name} is")).unwrap();
            assert!((place as f64 / sample.prompt.len() as f64 - depth).abs() < 0.01);
            let key = &sample.answers[0];
            assert!(sample.prompt.contains(&format!("Do not forget: the {name} is {key}.")));
            assert_eq!(sample.continuation, format!(" {key}"));
        }
    }
}
