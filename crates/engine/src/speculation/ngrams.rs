//! Where the end of a text has stood before.
//!
//! For each length `n` of [`LENGTHS`] a table knows every run of `n` tokens by where it ended last: a hash table with open
//! addressing, whose entries are positions and nothing else, since the tokens there say what the key is.
//!
//! ```text
//! text        a b c d … a b c            the last three tokens stood here before, and `d` followed
//!                   ↑
//!             Match { next: 3, len: 3 }
//! ```
//!
//! A token costs one look into each table. Four bytes an entry, tables half full at most: 32 to 64 bytes a token of the text.

/// Runs of so many tokens are known.
const LENGTHS: [usize; 4] = [8, 5, 3, 2];
/// A match is not followed further back.
const LONGEST: usize = 32;
/// Entries that are looked at for a key. A text that was made to have more of one hash costs no time, but matches.
const MOST_PROBES: usize = 64;

/// An earlier place whose last tokens are those at the end of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Match {
    /// index of the token that followed there
    pub(crate) next: usize,
    /// how many tokens before it are those at the end of the text, up to a limit
    pub(crate) len: usize,
}

/// An index of a text that grows.
#[derive(Debug, Default)]
pub(crate) struct Ngrams {
    tables: [Table; LENGTHS.len()],
    /// tokens of the text that are indexed
    n_tokens: usize,
}

impl Ngrams {
    /// Tokens that are indexed.
    pub(crate) fn len(&self) -> usize {
        self.n_tokens
    }

    /// Indexes the tokens that the text has more than before. Returns where the end of it has stood before: the most recent
    /// place of those that agree in the most of [`LENGTHS`].
    ///
    /// # Panics
    /// The text is shorter than before.
    pub(crate) fn extend(&mut self, tokens: &[u32]) -> Option<Match> {
        assert!(tokens.len() >= self.n_tokens, "the text has become shorter");
        let mut found = None;
        for (table, n) in self.tables.iter_mut().zip(LENGTHS) {
            table.reserve(tokens, n);
            let mut last = None;
            for end in (self.n_tokens + 1).max(n)..=tokens.len() {
                last = table.replace(tokens, n, end);
            }
            found = found.or(last);
        }
        self.n_tokens = tokens.len();
        found.map(|next| Match { next, len: common_end(tokens, next) })
    }
}

/// How many tokens before `end` are those at the end of the text.
fn common_end(tokens: &[u32], end: usize) -> usize {
    let pairs = tokens[..end].iter().rev().zip(tokens.iter().rev());
    pairs.take(LONGEST).take_while(|(earlier, last)| earlier == last).count()
}

/// Of each run of some length, where its latest copy ends; 0: no entry.
#[derive(Debug, Default)]
struct Table {
    /// a power of two of them, or none
    ends: Vec<u32>,
}

impl Table {
    /// Makes room for the runs of `n` tokens of the whole text.
    fn reserve(&mut self, tokens: &[u32], n: usize) {
        let wanted = (2 * (tokens.len() + 1)).next_power_of_two().max(64);
        if wanted > self.ends.len() {
            let old = std::mem::replace(&mut self.ends, vec![0; wanted]);
            for end in old.into_iter().filter(|end| *end > 0) {
                self.replace(tokens, n, end as usize);
            }
        }
    }

    /// Notes that a run of `n` tokens ends at `end`; returns where it ended before.
    fn replace(&mut self, tokens: &[u32], n: usize, end: usize) -> Option<usize> {
        // Texts of four billion tokens have no drafts.
        let entry = u32::try_from(end).ok()?;
        let key = &tokens[end - n..end];
        let mask = self.ends.len() - 1;
        let mut place = hash(key) & mask;
        for _ in 0..MOST_PROBES {
            match self.ends[place] as usize {
                0 => {
                    self.ends[place] = entry;
                    return None;
                }
                before if tokens[before - n..before] == *key => {
                    self.ends[place] = entry;
                    return Some(before);
                }
                _ => place = (place + 1) & mask,
            }
        }
        self.ends[place] = entry;
        None
    }
}

/// Of the high bits of a product, as in Fibonacci hashing.
fn hash(tokens: &[u32]) -> usize {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mixed =
        tokens.iter().fold(0u64, |hash, &id| (hash.rotate_left(5) ^ u64::from(id)).wrapping_mul(FACTOR));
    (mixed >> 20) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same by looking at every place.
    fn naive(tokens: &[u32]) -> Option<Match> {
        let ends_alike =
            |end: usize, n: usize| end >= n && tokens[end - n..end] == tokens[tokens.len() - n..];
        let n = LENGTHS.into_iter().filter(|n| *n <= tokens.len());
        let places = n.flat_map(|n| (n..tokens.len()).rev().map(move |end| (end, n)));
        let next = places.into_iter().find(|&(end, n)| ends_alike(end, n))?.0;
        let len = (1..=next.min(LONGEST)).take_while(|&n| ends_alike(next, n)).last()?;
        Some(Match { next, len })
    }

    /// Numbers below `n`, which repeat what was there here and there.
    fn text(seed: u64, len: usize, n: u64) -> Vec<u32> {
        let mut random = seed;
        let mut next = |n: u64| {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (random >> 33) % n
        };
        let mut text: Vec<u32> = Vec::new();
        while text.len() < len {
            if text.len() > 40 && next(3) == 0 {
                let start = next(text.len() as u64 - 20) as usize;
                text.extend_from_within(start..start + 1 + next(19) as usize);
            } else {
                text.push(next(n) as u32);
            }
        }
        text.truncate(len);
        text
    }

    #[test]
    fn the_index_finds_what_looking_everywhere_finds() {
        for (seed, n_ids) in [(1, 3), (2, 12), (3, 50), (4, 100_000)] {
            let text = text(seed, 900, n_ids);
            let mut ngrams = Ngrams::default();
            let mut n_found = 0;
            for end in 0..=text.len() {
                let found = ngrams.extend(&text[..end]);
                assert_eq!(found, naive(&text[..end]), "{end} tokens of {n_ids} ids");
                n_found += usize::from(found.is_some());
            }
            assert!(n_found > 100, "{n_found} of {} ends were there before", text.len());
        }
    }

    #[test]
    fn a_text_is_indexed_alike_at_once_and_token_by_token() {
        let text = text(5, 3000, 30);
        let mut at_once = Ngrams::default();
        for end in [0, 1, 2, 7, 2000, 2001, 3000] {
            assert_eq!(at_once.extend(&text[..end]), naive(&text[..end]), "{end} tokens");
        }
    }

    #[test]
    fn the_tables_stay_small_and_half_empty() {
        let text: Vec<u32> = (0..50_000u64).map(|n| (n * n % 99_991) as u32).collect();
        let mut ngrams = Ngrams::default();
        for end in (0..=text.len()).step_by(10) {
            ngrams.extend(&text[..end]);
        }
        for table in &ngrams.tables {
            let n_used = table.ends.iter().filter(|end| **end > 0).count();
            assert!(n_used > 20_000 && 2 * n_used <= table.ends.len());
            assert!(table.ends.len() <= 4 * (text.len() + 1));
        }
    }

    #[test]
    fn matches_overlap_where_a_text_repeats_itself() {
        assert_eq!(Ngrams::default().extend(&[7; 40]), Some(Match { next: 39, len: 32 }));
        assert_eq!(Ngrams::default().extend(&[1, 2, 1, 2]), Some(Match { next: 2, len: 2 }));
        assert_eq!(Ngrams::default().extend(&[1, 2, 3]), None);
    }
}
