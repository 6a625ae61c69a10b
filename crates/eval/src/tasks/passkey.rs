//! A number in a text that says nothing, as landmark attention (arXiv 2305.16300) tests it: its text, word for word.
//!
//! There the garbage before and after the needle is cut at a random character. Here it is cut where the depth says, and
//! depths are an even grid: so every depth is tested equally often.

use super::{Request, Sample, Task};
use crate::Random;

pub(super) const INTRODUCTION: &str = "There is an important info hidden inside a lot of irrelevant text. Find it and memorize them. \
                            I will quiz you about the important information there.";
const GARBAGE: &str =
    "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.";
const QUESTION: &str = "What is the pass key? The pass key is";
pub(super) const MAX_KEY: usize = 50_000;

/// `size` is characters of garbage; the first number of the answer must be the key.
pub const PASSKEY: Task = Task {
    name: "passkey",
    about: "a number of 1 to 50000 in a text that says nothing",
    max_answer_tokens: 8,
    stop: None,
    make,
    score: |sample, answer| f64::from(u8::from(first_number(answer) == sample.answers[0])),
};

fn make(request: &Request, random: &mut Random) -> Sample {
    let key = 1 + random.below(MAX_KEY);
    let n_before = (request.depth * request.size as f64) as usize;
    let before = garbage(n_before.min(request.size));
    let after = garbage(request.size - n_before.min(request.size));
    let needle = format!("The pass key is {key}. Remember it. {key} is the pass key.");
    Sample {
        prompt: [INTRODUCTION, &before, &needle, &after, QUESTION].join("\n"),
        continuation: format!(" {key}"),
        answers: vec![key.to_string()],
    }
}

pub(super) fn garbage(n_chars: usize) -> String {
    let mut text = String::with_capacity(n_chars + GARBAGE.len() + 1);
    while text.len() < n_chars {
        text.push_str(GARBAGE);
        text.push(' ');
    }
    text.truncate(n_chars);
    text
}

pub(super) fn first_number(text: &str) -> &str {
    let Some(start) = text.find(|c: char| c.is_ascii_digit()) else { return "" };
    let number = &text[start..];
    &number[..number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_seed_is_that_of_the_reference_word_for_word() {
        let sample = make(&Request { size: 200, depth: 0.5, seed: 1 }, &mut Random::new(1, 0));
        let wanted = "\
There is an important info hidden inside a lot of irrelevant text. Find it and memorize them. I will quiz you about the \
important information there.
The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again. The grass\x20
The pass key is 37290. Remember it. 37290 is the pass key.
The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again. The grass\x20
What is the pass key? The pass key is";
        assert_eq!(sample.prompt, wanted);
        assert_eq!((sample.continuation.as_str(), sample.answers[0].as_str()), (" 37290", "37290"));
    }

    #[test]
    fn the_first_number_counts() {
        let sample = |key: &str| Sample {
            prompt: String::new(),
            continuation: String::new(),
            answers: vec![key.to_string()],
        };
        let score = |key, answer| (PASSKEY.score)(&sample(key), answer);
        assert_eq!(score("123", " 123. Remember 45"), 1.0);
        assert_eq!(score("123", " 1234"), 0.0);
        assert_eq!(score("123", " 12 123"), 0.0);
        assert_eq!(score("123", " not there"), 0.0);
    }

    #[test]
    fn depth_moves_the_key_and_nothing_else() {
        let at = |depth| make(&Request { size: 1000, depth, seed: 1 }, &mut Random::new(3, 5)).prompt;
        let place = |prompt: &str| prompt.find("The pass key is").unwrap();
        assert!(place(&at(0.0)) < place(&at(0.5)) && place(&at(0.5)) < place(&at(1.0)));
        assert_eq!(at(0.0).len(), at(1.0).len());
    }
}
