//! What packed pages must do besides: pages come and go, are cut, saved, and kept exact for a while.

use super::{Held, Suite, Token, relative_error};
use crate::cache::{CacheError, PAGE_TOKENS};

impl Suite<'_> {
    pub(super) fn the_budget_of_packed_pages_holds(&self) {
        let tokens: Vec<Token> = (0..3 * PAGE_TOKENS as u64).collect();
        let pool = self.pool(None);
        let mut all = Held::new(&pool);
        self.extend(&self.one, &mut all, &tokens, &[]);
        let needed = pool.bytes_in_use();
        assert_eq!(needed, all.cache.bytes());
        drop(all);
        assert_eq!(pool.bytes_in_use(), 0);
        // A prompt that arrives in small chunks needs no more than what it leaves and one page more.
        let pool = self.pool(Some(needed + 2 * pool.exact_bytes_per_page()));
        let mut held = Held::new(&pool);
        self.extend(&self.one, &mut held, &tokens, &[40; 9]);
        let error = held.cache.reserve(PAGE_TOKENS * 100).unwrap_err();
        assert!(matches!(error, CacheError::Budget { .. }), "{error}");
        assert_eq!(pool.bytes_in_use(), held.cache.bytes(), "a refused reservation keeps nothing");
    }

    pub(super) fn a_cut_inside_a_packed_page_leaves_what_its_codes_stand_for(&self) {
        let Some(losses) = self.packed_losses() else { return };
        let p = PAGE_TOKENS;
        let tokens: Vec<Token> = (0..6 * p as u64).collect();
        let after: Vec<Token> = (9000..9000 + p as u64 + 3).collect();
        for len in [1, 40, p, 2 * p + 1, 3 * p - 1] {
            let pool = self.pool(None);
            let mut held = Held::new(&pool);
            self.extend(&self.one, &mut held, &tokens, &[]);
            let mut fork = held.fork();
            fork.truncate(len);
            let got = self.extend(&self.three, &mut fork, &after, &[1]);
            let mut fresh = Held::new(&pool);
            self.extend(&self.one, &mut fresh, &tokens[..len], &[]);
            let wanted = self.extend(&self.one, &mut fresh, &after, &[]);
            for ((got, wanted), loss) in got.iter().zip(&wanted).zip(losses) {
                let error = relative_error(got, wanted);
                assert!(error < 2.0 * loss, "after a cut at {len}: {error}");
            }
            // The longer sequence has not noticed.
            let mut alone = Held::new(&pool);
            self.extend(&self.one, &mut alone, &tokens, &[]);
            let wanted = self.extend(&self.one, &mut alone, &after, &[]);
            self.assert_same(&self.extend(&self.one, &mut held, &after, &[]), &wanted, "the longer one");
        }
    }

    pub(super) fn old_pages_are_given_back(&self) {
        let pool = self.pool(None);
        let Some(packed) = pool.packed() else { return };
        let mut held = Held::new(&pool);
        let n = 8 * PAGE_TOKENS as u64;
        self.extend(&self.one, &mut held, &(0..n).collect::<Vec<_>>(), &[]);
        let n_recent = packed.window.recent_pages();
        let n_exact = held.cache.n_exact_tokens();
        assert!((n_recent * PAGE_TOKENS..=(n_recent + 1) * PAGE_TOKENS).contains(&n_exact));
        let codes = 8 * pool.bytes_per_page();
        let exact = (n_recent + 1) * pool.exact_bytes_per_page();
        assert!(held.cache.bytes() <= codes + exact, "{} bytes of {codes} + {exact}", held.cache.bytes());
    }

    pub(super) fn a_prompt_that_is_kept_exact_is_seen_so_until_it_is_packed(&self) {
        let Some(losses) = self.packed_losses() else { return };
        let pool = self.pool(None);
        let tokens: Vec<Token> = (0..5 * PAGE_TOKENS as u64).collect();
        let mut kept = Held::new(&pool);
        kept.cache.keep_exact();
        let outputs = self.extend(&self.one, &mut kept, &tokens, &[200]);
        let last = tokens.len() - 1;
        for (layer, output) in outputs.iter().enumerate() {
            let wanted: Vec<f32> =
                self.exact_attention(&tokens, last, layer, f64::from).into_iter().map(|x| x as f32).collect();
            let error = relative_error(&output[last * self.query_width()..], &wanted);
            assert!(error < 5e-3, "layer {layer}: {error}");
        }
        let before = kept.cache.bytes();
        kept.cache.pack();
        assert!(kept.cache.bytes() < before);
        let mut packed = Held::new(&pool);
        self.extend(&self.one, &mut packed, &tokens, &[]);
        assert_eq!(kept.cache.bytes(), packed.cache.bytes());
        let got = self.extend(&self.one, &mut kept, &[7], &[]);
        let wanted = self.extend(&self.one, &mut packed, &[7], &[]);
        self.assert_same(&got, &wanted, "after packing");
        for (layer, (got, loss)) in got.iter().zip(losses).enumerate() {
            let exact = self.exact_attention(&kept.tokens, last + 1, layer, f64::from);
            let exact: Vec<f32> = exact.into_iter().map(|x| x as f32).collect();
            let error = relative_error(got, &exact);
            assert!(error < 3.0 * loss && error > loss / 100.0, "layer {layer}: {error} of {loss}");
        }
    }
}
