//! Sequences that are made long by copies of their pages.

use std::sync::Arc;

use super::*;
use crate::cache::sequence::Slot;

/// Pages that are read, and tokens that the copies bring the sequence to.
const CASES: [(usize, usize); 4] =
    [(1, PAGE_TOKENS + 1), (2, 5 * PAGE_TOKENS), (3, 7 * PAGE_TOKENS - 1), (2, PAGE_TOKENS)];

/// Which pages a sequence has.
fn kinds(cache: &KvSequence) -> Vec<(bool, bool)> {
    cache.slots().iter().map(|slot| (slot.exact.is_some(), slot.packed.is_some())).collect()
}

fn tokens(n: usize) -> Vec<Token> {
    (0..n as u64).collect()
}

impl Suite<'_> {
    /// A text of whole pages.
    fn read(&self, pool: &Arc<KvPool>, n_pages: usize) -> Held {
        let mut held = Held::new(pool);
        self.extend(&self.one, &mut held, &tokens(n_pages * PAGE_TOKENS), &[]);
        held
    }

    pub(super) fn copies_take_what_a_text_of_their_length_takes(&self) {
        for (n_pages, len) in CASES {
            let what = format!("{len} tokens, {n_pages} pages of them read");
            let (pool, other) = (self.pool(None), self.pool(None));
            let mut wanted = Held::new(&pool);
            self.extend(&self.one, &mut wanted, &tokens(len.max(n_pages * PAGE_TOKENS)), &[]);
            let mut copied = self.read(&other, n_pages);
            copied.cache.extend_with_copies(len).unwrap();
            copied.tokens = wanted.tokens.clone();
            let pages = |slot: &Slot| [slot.exact.clone(), slot.packed.clone()].into_iter().flatten();
            for page in copied.cache.slots().iter().flat_map(pages) {
                assert_eq!(Arc::strong_count(&page), 2, "{what}: a page is shared");
            }
            // What is appended to them goes where it would go, up to the page after the next.
            for more in [&[][..], &[1], &[PAGE_TOKENS]] {
                let new: Vec<Token> = (7000..7000 + more.iter().sum::<usize>() as u64).collect();
                let output = self.extend(&self.one, &mut copied, &new, more);
                self.extend(&self.one, &mut wanted, &new, more);
                assert!(output.iter().flatten().all(|x| x.is_finite()), "{what}, {more:?} more");
                assert_eq!(copied.cache.len(), wanted.cache.len(), "{what}, {more:?} more");
                assert_eq!(kinds(&copied.cache), kinds(&wanted.cache), "{what}, {more:?} more");
                assert_eq!(copied.cache.bytes(), wanted.cache.bytes(), "{what}, {more:?} more");
                assert_eq!(other.bytes_in_use(), pool.bytes_in_use(), "{what}, {more:?} more");
            }
        }
    }

    pub(super) fn attention_to_copies_is_that_to_what_they_are_copies_of(&self) {
        let turns_keys = self.pool(None).layout().transforms_values;
        for (n_pages, len) in CASES.into_iter().filter(|(n_pages, len)| len / PAGE_TOKENS >= *n_pages) {
            let pool = self.pool(None);
            let mut copied = self.read(&pool, n_pages);
            copied.cache.extend_with_copies(len).unwrap();
            copied.tokens = tokens(len);
            let mut together = copied.fork();
            let new = [7001, 7002, 7003];
            let one_by_one = self.extend(&self.one, &mut copied, &new, &[1, 1]);
            let at_once = self.extend(&self.three, &mut together, &new, &[]);
            self.assert_same(&one_by_one, &at_once, &format!("{len} tokens, {n_pages} pages of them read"));
            if turns_keys {
                // Codes are relative to their frame: a copy's keys are those of the page where it stands.
                continue;
            }
            let source = |token: usize| token % (n_pages * PAGE_TOKENS);
            let mut seen: Vec<(Token, usize)> =
                (0..len).map(|token| (source(token) as u64, source(token))).collect();
            seen.push((new[0], len));
            for (layer, output) in one_by_one.iter().enumerate() {
                let (stored, most): (fn(f32) -> f64, f64) = match self.loss[layer] {
                    Loss::Exact { stored } => (stored, 1e-5),
                    Loss::Packed { loss, .. } => (f64::from, 2.0 * loss),
                };
                let wanted = self.exact_attention_to(&seen, layer, stored);
                let wanted: Vec<f32> = wanted.into_iter().map(|x| x as f32).collect();
                let error = relative_error(&output[..self.query_width()], &wanted);
                assert!(error < most, "{len} tokens, {n_pages} pages of them read, layer {layer}: {error}");
            }
        }
    }

    pub(super) fn copies_that_do_not_fit_change_nothing(&self) {
        let (n_pages, len) = (3, 20 * PAGE_TOKENS + 5);
        let page = self.pool(None).exact_bytes_per_page();
        let pool = self.pool(Some(40 * page));
        let mut held = self.read(&pool, n_pages);
        let other = held.fork();
        let before = (held.cache.len(), held.cache.bytes(), kinds(&held.cache), pool.bytes_in_use());
        let error = held.cache.extend_with_copies(50 * len).unwrap_err();
        assert!(matches!(error, CacheError::Budget { .. }), "{error}");
        let after = (held.cache.len(), held.cache.bytes(), kinds(&held.cache), pool.bytes_in_use());
        assert_eq!(after, before);
        // A fork does not notice that the other one grows.
        held.cache.extend_with_copies(len).unwrap();
        assert_eq!((other.cache.len(), other.cache.bytes()), (before.0, before.1));
        drop((held, other));
        assert_eq!(pool.bytes_in_use(), 0);
    }
}
