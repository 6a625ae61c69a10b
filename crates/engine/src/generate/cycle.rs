//! Notices when a text goes in circles.
//!
//! A small model, above all when it always takes the most probable token, can get stuck: from some point on it repeats
//! the same tokens for ever. For each period `p` the detector counts how many tokens in a row were equal to the one `p`
//! tokens before. A text goes in circles when that count reaches
//!
//! ```text
//! max(256, 4 · p)        p = 1 … 512
//! ```
//!
//! Far more than a refrain or a row of dashes; a table of a few hundred equal numbers gets there too, so whoever turns
//! this on says so to the user.

const MIN_REPEATED: usize = 256;
const MIN_COPIES: usize = 4;
const MAX_PERIOD: usize = 512;

/// The generated tokens, and how long they have been repeating themselves.
#[derive(Default)]
pub(super) struct CycleDetector {
    tokens: Vec<u32>,
    /// by period - 1: how many tokens up to the last one equal the one a period before
    repeated: Vec<usize>,
}

impl CycleDetector {
    /// Adds a token; returns the shortest period in which the text goes in circles.
    pub(super) fn push(&mut self, id: u32) -> Option<usize> {
        self.repeated.resize(self.tokens.len().min(MAX_PERIOD), 0);
        for (before, repeated) in self.tokens.iter().rev().zip(&mut self.repeated) {
            *repeated = if *before == id { *repeated + 1 } else { 0 };
        }
        self.tokens.push(id);
        let is_cycle =
            |&(period, repeated): &(usize, usize)| repeated >= MIN_REPEATED.max(MIN_COPIES * period);
        let counts = self.repeated.iter().enumerate().map(|(index, &repeated)| (index + 1, repeated));
        counts.into_iter().find(is_cycle).map(|(period, _)| period)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After how many tokens a cycle is seen, and its period.
    fn seen(tokens: impl Iterator<Item = u32>) -> Option<(usize, usize)> {
        let mut detector = CycleDetector::default();
        tokens.enumerate().find_map(|(index, id)| Some((index + 1, detector.push(id)?)))
    }

    #[test]
    fn one_token_or_a_passage_over_and_over_is_a_cycle() {
        assert_eq!(seen(std::iter::repeat_n(7, 1000)), Some((257, 1)));
        assert_eq!(seen((0..12).cycle().take(1000)), Some((256 + 12, 12)));
        assert_eq!(seen((0..100).cycle().take(1000)), Some((400 + 100, 100)));
        assert_eq!(seen((0..512).cycle().take(5000)), Some((5 * 512, 512)));
    }

    #[test]
    fn a_cycle_is_seen_after_any_beginning() {
        let beginning = (0..700u32).map(|n| n * n % 1009);
        assert_eq!(seen(beginning.chain((0..3).cycle().take(400).map(|n| n + 5000))), Some((700 + 259, 3)));
    }

    #[test]
    fn repetition_that_changes_in_between_is_none() {
        let counted = (0..100u32).flat_map(|line| [1, 2, 3, 4, 5, 1000 + line, 6]);
        assert_eq!(seen(counted), None);
        let table = (0..12).flat_map(|_| std::iter::repeat_n([8, 9], 10).flatten().chain([10]));
        assert_eq!(seen(table), None, "twelve rows of ten equal numbers");
        assert_eq!(seen((0..513).cycle().take(5000)), None);
    }
}
