//! Needles in a haystack: the eight variants of RULER (arXiv 2404.06654).
//!
//! | variant | haystack | keys | values of a key | asked for | value |
//! | --- | --- | ---: | ---: | ---: | --- |
//! | single_1 | sentences that say nothing | 1 | 1 | 1 | number |
//! | single_2 | prose | 1 | 1 | 1 | number |
//! | single_3 | prose | 1 | 1 | 1 | UUID |
//! | multikey_1 | prose | 4 | 1 | 1 | number |
//! | multikey_2 | other needles | all of it | 1 | 1 | number |
//! | multikey_3 | other needles, with UUIDs as keys | all of it | 1 | 1 | UUID |
//! | multivalue | prose | 1 | 4 | 1 | number |
//! | multiquery | prose | 4 | 1 | 4 | number |
//!
//! The needle is RULER's sentence; haystack, keys and the words of the question are our own. The needle that is asked for lies at
//! the depth of the request, the others anywhere.

use super::words::{N_KEYS, key, number, prose_sentences, uuid};
use super::{Request, Sample, Task, share_contained};
use crate::Random;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Haystack {
    Noise,
    Prose,
    Needles,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Words,
    Number,
    Uuid,
}

impl Form {
    fn make(self, random: &mut Random) -> String {
        match self {
            Form::Words => key(random.below(N_KEYS)),
            Form::Number => number(random),
            Form::Uuid => uuid(random),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Form::Words => "word",
            Form::Number => "number",
            Form::Uuid => "uuid",
        }
    }
}

struct Variant {
    haystack: Haystack,
    n_keys: usize,
    n_values: usize,
    n_queries: usize,
    key: Form,
    value: Form,
}

const SINGLE: Variant = Variant {
    haystack: Haystack::Prose,
    n_keys: 1,
    n_values: 1,
    n_queries: 1,
    key: Form::Words,
    value: Form::Number,
};

const fn task(
    name: &'static str,
    about: &'static str,
    make: fn(&Request, &mut Random) -> Sample,
    max_answer_tokens: usize,
) -> Task {
    Task { name, about, max_answer_tokens, stop: Some("\n"), make, score: share_contained }
}

pub const SINGLE_1: Task = task(
    "niah_single_1",
    "a number in sentences that say nothing",
    |request, random| make(&Variant { haystack: Haystack::Noise, ..SINGLE }, request, random),
    16,
);
pub const SINGLE_2: Task =
    task("niah_single_2", "a number in prose", |request, random| make(&SINGLE, request, random), 16);
pub const SINGLE_3: Task = task(
    "niah_single_3",
    "a UUID in prose",
    |request, random| make(&Variant { value: Form::Uuid, ..SINGLE }, request, random),
    48,
);
pub const MULTIKEY_1: Task = task(
    "niah_multikey_1",
    "one of four numbers in prose",
    |request, random| make(&Variant { n_keys: 4, ..SINGLE }, request, random),
    16,
);
pub const MULTIKEY_2: Task = task(
    "niah_multikey_2",
    "a number among numbers",
    |request, random| make(&Variant { haystack: Haystack::Needles, ..SINGLE }, request, random),
    16,
);
pub const MULTIKEY_3: Task = task(
    "niah_multikey_3",
    "a UUID among UUIDs",
    |request, random| {
        let variant = Variant { haystack: Haystack::Needles, key: Form::Uuid, value: Form::Uuid, ..SINGLE };
        make(&variant, request, random)
    },
    48,
);
pub const MULTIVALUE: Task = task(
    "niah_multivalue",
    "four numbers of one key in prose",
    |request, random| make(&Variant { n_values: 4, ..SINGLE }, request, random),
    64,
);
pub const MULTIQUERY: Task = task(
    "niah_multiquery",
    "the numbers of four keys in prose",
    |request, random| make(&Variant { n_keys: 4, n_queries: 4, ..SINGLE }, request, random),
    64,
);

fn make(variant: &Variant, request: &Request, random: &mut Random) -> Sample {
    let mut keys: Vec<String> = Vec::new();
    while keys.len() < variant.n_keys {
        let key = variant.key.make(random);
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    let mut needles = Vec::new();
    let mut answers = Vec::new();
    for (index, key) in keys.iter().enumerate() {
        for _ in 0..variant.n_values {
            let value = variant.value.make(random);
            needles.push(needle(key, &value, variant.value));
            if index < variant.n_queries {
                answers.push(value);
            }
        }
    }
    let text = bury(variant, needles, &keys, request, random);
    let kind = variant.value.name();
    let asked = keys[..variant.n_queries].join(", ");
    let (one, are, verb) = if answers.len() == 1 {
        ("A special magic", "is", "is")
    } else {
        ("Some special magic", "are", "are")
    };
    let plural = if answers.len() == 1 { "" } else { "s" };
    Sample {
        prompt: format!(
            "{one} {kind}{plural} {are} hidden within the following text. Remember it, I will ask about it afterwards.\n\
             {text}\nWhat {verb} the special magic {kind}{plural} for {asked} in the text?\n\
             The special magic {kind}{plural} for {asked} {verb}"
        ),
        continuation: format!(" {}", answers.join(", ")),
        answers,
    }
}

fn needle(key: &str, value: &str, form: Form) -> String {
    format!("One of the special magic {}s for {key} is: {value}.", form.name())
}

/// `size` sentences with the needles among them: the first at the depth that was asked for, the others anywhere.
fn bury(
    variant: &Variant,
    needles: Vec<String>,
    keys: &[String],
    request: &Request,
    random: &mut Random,
) -> String {
    let noise = [
        "The grass is green.",
        "The sky is blue.",
        "The sun is yellow.",
        "Here we go. There and back again.",
    ];
    let mut sentences: Vec<String> = match variant.haystack {
        Haystack::Noise => (0..request.size).map(|i| noise[i % noise.len()].to_string()).collect(),
        Haystack::Prose => prose_sentences().take(request.size).map(str::to_string).collect(),
        Haystack::Needles => {
            let other = || {
                let mut key = variant.key.make(random);
                while keys.contains(&key) {
                    key = variant.key.make(random);
                }
                needle(&key, &variant.value.make(random), variant.value)
            };
            std::iter::repeat_with(other).take(request.size).collect()
        }
    };
    let mut places: Vec<(usize, String)> = Vec::new();
    for (index, needle) in needles.into_iter().enumerate() {
        let depth = if index == 0 { request.depth } else { random.unit() };
        places.push(((depth * request.size as f64) as usize, needle));
    }
    // From the end, so that a place is not moved by what is put in before it.
    places.sort_by_key(|(place, _)| std::cmp::Reverse(*place));
    for (place, needle) in places {
        sentences.insert(place.min(sentences.len()), needle);
    }
    sentences.join(if variant.haystack == Haystack::Needles { "\n" } else { " " })
}
