//! Common words and frequent words (RULER): which words occur most often?

use super::words::{N_WORDS, word};
use super::{Request, Sample, Task, share_contained};
use crate::Random;

const N_COMMON: usize = 10;
const N_FREQUENT: usize = 3;
/// Exponent of the distribution of the frequent words: the k-th is drawn k^−2 as often as the first.
const ZETA: f64 = 2.0;

/// `size` is words; ten occur ten times as often as any other.
pub const COMMON: Task = Task {
    name: "cwe",
    about: "the ten words of a list that occur ten times as often as the others",
    max_answer_tokens: 64,
    stop: Some("\n"),
    make: common,
    score: share_contained,
};

/// `size` is words; three of them are the most frequent.
pub const FREQUENT: Task = Task {
    name: "fwe",
    about: "the three most frequent of words that mean nothing",
    max_answer_tokens: 32,
    stop: Some("\n"),
    make: frequent,
    score: share_contained,
};

fn common(request: &Request, random: &mut Random) -> Sample {
    let chosen = random.choose(N_WORDS, N_WORDS);
    let (common, others) = chosen.split_at(N_COMMON);
    // 10 words × 10 to every other word × 1, so that both kinds take about half of the list.
    let n_common = request.size / 2 / N_COMMON;
    let n_other = (n_common / 10).max(1);
    let mut list: Vec<&str> = Vec::new();
    for &index in common {
        list.extend(std::iter::repeat_n(word(index), n_common));
    }
    for &index in others {
        list.extend(std::iter::repeat_n(word(index), n_other));
    }
    random.shuffle(&mut list);
    let answers: Vec<String> = common.iter().map(|&index| word(index).to_string()).collect();
    let numbered: Vec<String> =
        list.iter().enumerate().map(|(index, word)| format!("{}. {word}", index + 1)).collect();
    Sample {
        prompt: format!(
            "Below is a numbered list of words. Some words occur much more often than others. Remember them.\n{}\nWhat are the \
             {N_COMMON} most common words in the list?\nThe {N_COMMON} most common words are:",
            numbered.join(" ")
        ),
        continuation: format!(" {}", answers.join(", ")),
        answers,
    }
}

fn frequent(request: &Request, random: &mut Random) -> Sample {
    const N_KINDS: usize = 100;
    let mut kinds: Vec<String> = Vec::new();
    while kinds.len() < N_KINDS {
        let kind: String = (0..6).map(|_| char::from(b'a' + random.below(26) as u8)).collect();
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    let weights: Vec<f64> = (1..=N_KINDS).map(|rank| (rank as f64).powf(-ZETA)).collect();
    let total: f64 = weights.iter().sum();
    let mut list: Vec<&str> = Vec::with_capacity(request.size);
    for (kind, weight) in kinds.iter().zip(&weights) {
        list.extend(std::iter::repeat_n(
            kind.as_str(),
            (weight / total * request.size as f64).round() as usize,
        ));
    }
    random.shuffle(&mut list);
    let answers = kinds[..N_FREQUENT].to_vec();
    Sample {
        prompt: format!(
            "Read the following coded text and count how often each word occurs.\n{}\nWhich {N_FREQUENT} words occur most \
             often? The {N_FREQUENT} most frequent words are:",
            list.join(" ")
        ),
        continuation: format!(" {}", answers.join(", ")),
        answers,
    }
}
