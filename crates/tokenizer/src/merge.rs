//! The merge loop that BPE and SentencePiece share.
//!
//! A word starts as a chain of symbols (bytes or characters). Again and again the neighbouring pair of the smallest rank
//! is joined, the leftmost of equal ones first, until no pair has a rank. A heap holds the candidates, so a word of n
//! symbols costs O(n log n): a word may be a whole document.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// No token, or no neighbour.
pub(crate) const NONE: u32 = u32::MAX;

/// A piece of the word.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Symbol {
    /// Its token, or [`NONE`].
    pub(crate) id: u32,
    /// First byte in the word.
    pub(crate) start: u32,
    /// Bytes; 0 once it was joined to its left neighbour.
    pub(crate) len: u32,
    prev: u32,
    next: u32,
}

impl Symbol {
    /// The bytes that the symbol covers.
    pub(crate) fn range(&self) -> std::ops::Range<usize> {
        self.start as usize..(self.start + self.len) as usize
    }
}

/// What joining a pair gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Merge {
    /// Smaller is joined earlier.
    pub(crate) rank: u32,
    /// The token of both together.
    pub(crate) id: u32,
}

/// Field order is the order of joining: rank, then position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    rank: u32,
    left: u32,
    right: u32,
    /// Bytes of both; a candidate whose symbols have changed since has another sum.
    len: u32,
    id: u32,
}

/// Buffers of the loop, kept from word to word.
#[derive(Default)]
pub(crate) struct Merger {
    symbols: Vec<Symbol>,
    queue: BinaryHeap<Reverse<Candidate>>,
}

impl Merger {
    /// Forgets the last word.
    pub(crate) fn clear(&mut self) {
        self.symbols.clear();
        self.queue.clear();
    }

    /// Appends a symbol to the word.
    pub(crate) fn push(&mut self, id: u32, len: u32) {
        let index = self.symbols.len() as u32;
        let start = self.symbols.last().map_or(0, |last| last.start + last.len);
        if let Some(last) = self.symbols.last_mut() {
            last.next = index;
        }
        self.symbols.push(Symbol { id, start, len, prev: index.wrapping_sub(1), next: NONE });
    }

    /// Joins pairs until `find` knows none, and gives what is left, in order.
    pub(crate) fn run(
        &mut self,
        find: impl Fn(&Symbol, &Symbol) -> Option<Merge>,
    ) -> impl Iterator<Item = &Symbol> {
        for left in 1..self.symbols.len() as u32 {
            self.propose(left - 1, left, &find);
        }
        while let Some(Reverse(candidate)) = self.queue.pop() {
            let (left, right) =
                (self.symbols[candidate.left as usize], self.symbols[candidate.right as usize]);
            if left.len == 0 || right.len == 0 || left.len + right.len != candidate.len {
                continue;
            }
            let joined = &mut self.symbols[candidate.left as usize];
            joined.id = candidate.id;
            joined.len = candidate.len;
            joined.next = right.next;
            self.symbols[candidate.right as usize].len = 0;
            if right.next != NONE {
                self.symbols[right.next as usize].prev = candidate.left;
                self.propose(candidate.left, right.next, &find);
            }
            if left.prev != NONE {
                self.propose(left.prev, candidate.left, &find);
            }
        }
        self.symbols.iter().filter(|symbol| symbol.len > 0)
    }

    fn propose(&mut self, left: u32, right: u32, find: &impl Fn(&Symbol, &Symbol) -> Option<Merge>) {
        let (a, b) = (&self.symbols[left as usize], &self.symbols[right as usize]);
        if let Some(Merge { rank, id }) = find(a, b) {
            self.queue.push(Reverse(Candidate { rank, left, right, len: a.len + b.len, id }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Joins a word of single letters; the rank of a pair is its position in `merges`.
    fn joined(word: &str, merges: &[&str]) -> Vec<String> {
        let mut merger = Merger::default();
        for byte in word.bytes() {
            merger.push(u32::from(byte), 1);
        }
        let find = |a: &Symbol, b: &Symbol| {
            let text = &word[a.start as usize..b.range().end];
            merges.iter().position(|m| *m == text).map(|i| Merge { rank: i as u32, id: 1000 + i as u32 })
        };
        merger.run(find).map(|symbol| word[symbol.range()].to_string()).collect()
    }

    #[test]
    fn the_smallest_rank_goes_first_and_then_the_leftmost() {
        assert_eq!(joined("abc", &["bc", "ab"]), ["a", "bc"]);
        assert_eq!(joined("aaa", &["aa"]), ["aa", "a"]);
        assert_eq!(joined("aaaa", &["aa", "aaaa"]), ["aaaa"]);
        assert_eq!(joined("abab", &["ba", "ab"]), ["a", "ba", "b"]);
    }

    #[test]
    fn words_of_no_and_one_symbol_stay() {
        assert!(joined("", &["ab"]).is_empty());
        assert_eq!(joined("a", &["ab"]), ["a"]);
    }

    #[test]
    fn a_candidate_whose_symbols_have_grown_is_dropped() {
        // "bc" is proposed before "ab" takes the b away
        assert_eq!(joined("abcd", &["ab", "bc", "cd"]), ["ab", "cd"]);
        assert_eq!(joined("xabc", &["ab", "xa", "abc"]), ["x", "abc"]);
    }
}
