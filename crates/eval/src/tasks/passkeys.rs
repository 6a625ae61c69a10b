//! Sixteen numbers, each with a name, in one text that says nothing: the question asks for one of them. All samples share
//! the text, so it is read once and asked sixteen times, which makes very long texts affordable.
//!
//! The names are long and have no word in common but "of the": small models find the place in the text, but confuse
//! numbers whose names are alike. SmolLM2-135M finds, of 16 in 2,048 and in 7,800 tokens: "the pass key of the concert in the
//! cathedral" 8 and 4, "the ticket price" 16 and 8, "the ticket price of the concert in the cathedral" 16 and 13; the wrong
//! answers are others of the sixteen. Each is said three times.

use super::passkey::{INTRODUCTION, MAX_KEY, first_number, garbage};
use super::{Request, Sample, Task};
use crate::Random;

/// A number with fewer digits could be the beginning of another one.
const MIN_KEY: usize = 10_000;

/// What the numbers are, in the order of the text.
const NAMES: [&str; 16] = [
    "door code of the old mill by the river",
    "bank balance of the captain of the red ship",
    "phone number of the bakery on the corner",
    "flight number of the evening flight to Madrid",
    "house number of the blue villa at the lake",
    "ticket price of the concert in the cathedral",
    "population of the village in the mountains",
    "license plate of the black car of the doctor",
    "length of the road to the northern lighthouse",
    "serial number of the printer in the basement office",
    "birth year of the grandfather of the gardener",
    "weight of the elephant in the city zoo",
    "temperature of the furnace of the glass factory",
    "room key of the hotel room with the balcony",
    "invoice total of the garden party of the mayor",
    "ticket number of the winner of the summer lottery",
];

/// `size` is characters of garbage; the first number of the answer must be the one that is asked for.
pub const PASSKEYS: Task = Task {
    name: "multi-passkey",
    about: "sixteen numbers of five digits with names in a text that says nothing",
    max_answer_tokens: 8,
    stop: None,
    make,
    score: |sample, answer| f64::from(u8::from(first_number(answer) == sample.answers[0])),
};

fn make(request: &Request, _: &mut Random) -> Sample {
    let mut random = Random::new(request.seed, NAMES.len() as u64);
    let keys = NAMES.map(|_| MIN_KEY + random.below(MAX_KEY - MIN_KEY));
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
