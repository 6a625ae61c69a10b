//! Words, numbers and sentences that tasks are made of.

use crate::{BUNDLED, Random};

const ADJECTIVES: [&str; 40] = [
    "amber", "brave", "brisk", "calm", "clear", "copper", "crimson", "daring", "eager", "early", "faint",
    "frosty", "gentle", "golden", "hollow", "humble", "ivory", "jolly", "keen", "lively", "lucky", "mellow",
    "misty", "noble", "olive", "patient", "polite", "proud", "quiet", "rapid", "rustic", "silent", "silver",
    "simple", "steady", "sunny", "tender", "vivid", "warm", "wild",
];
const NOUNS: [&str; 50] = [
    "anchor", "apple", "arrow", "basket", "beacon", "bridge", "candle", "canyon", "castle", "cedar", "cloud",
    "cotton", "desert", "dragon", "engine", "falcon", "feather", "forest", "garden", "glacier", "hammer",
    "harbor", "island", "jacket", "kettle", "ladder", "lantern", "lemon", "marble", "meadow", "mirror",
    "needle", "ocean", "orchard", "pepper", "piano", "planet", "pocket", "rabbit", "ribbon", "river",
    "saddle", "shadow", "spider", "stable", "thunder", "timber", "valley", "window", "winter",
];

/// How many different [`key`]s there are.
pub const N_KEYS: usize = ADJECTIVES.len() * NOUNS.len();

/// `keen-harbor`: one of [`N_KEYS`].
pub fn key(index: usize) -> String {
    format!("{}-{}", ADJECTIVES[index % ADJECTIVES.len()], NOUNS[index / ADJECTIVES.len() % NOUNS.len()])
}

/// A single word: one of 90.
pub fn word(index: usize) -> &'static str {
    let index = index % (ADJECTIVES.len() + NOUNS.len());
    if index < ADJECTIVES.len() { ADJECTIVES[index] } else { NOUNS[index - ADJECTIVES.len()] }
}

/// How many different [`word`]s there are.
pub const N_WORDS: usize = ADJECTIVES.len() + NOUNS.len();

/// Seven digits.
pub fn number(random: &mut Random) -> String {
    (1_000_000 + random.below(9_000_000)).to_string()
}

/// Random letters and digits in the form of a UUID.
pub fn uuid(random: &mut Random) -> String {
    let (a, b) = (random.next_u64(), random.next_u64());
    let hex = format!("{a:016x}{b:016x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// The sentences of the bundled prose, again from the beginning where it ends.
pub fn prose_sentences() -> impl Iterator<Item = &'static str> {
    let prose = BUNDLED.iter().find(|part| part.name == "prose").map_or("", |part| part.text);
    let sentences = prose
        .split('\n')
        .filter(|paragraph| paragraph.len() > 40)
        .flat_map(|paragraph| paragraph.split_inclusive(". ").map(str::trim));
    sentences.filter(|sentence| !sentence.is_empty()).cycle()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_words_are_all_different() {
        let mut keys: Vec<String> = (0..N_KEYS).map(key).collect();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), N_KEYS);
        let mut words: Vec<&str> = (0..N_WORDS).map(word).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), N_WORDS);
    }

    #[test]
    fn there_is_prose_without_end() {
        let lengths: Vec<usize> = prose_sentences().take(5000).map(str::len).collect();
        assert!(lengths.iter().all(|&length| length > 0));
        assert_eq!(lengths.len(), 5000);
    }
}
