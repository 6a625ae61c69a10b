//! `adaptive[:window=N,reach=N,growth=N,exact=N,logn=on]`: frames move together as far as the text's length needs.
//!
//! ```text
//! m − n                                                             if T − F ≤ w, or T ≤ E − 128
//! w + round((T − F − w)·(R − 128 − w)/(T − w)) + (m − T) − (n − F)  otherwise
//!
//! w = window,  E = exact,  R = reach + growth·log2(T/E), interpolated linearly between doublings, at most E
//! ```
//! This map is ours. Frames of 64 tokens keep their inside, so neighbouring words stay neighbours however far away they are.
//! Only the distances between frames shrink, and only as much as the text read so far needs to stay within the reach
//! `R ≤ L`. The reach may grow with the text: more frames in the same space are harder to tell apart. Up to `E` tokens
//! (`R ≤ E ≤ L`) the map is [`linear`](super::linear), bit by bit.
//!
//! With `logn`, queries beyond `E` are `ln(m + 1)/ln(E)` times as long. A text longer than those of the training has more
//! tokens for a softmax to spread over, and a length that grows with its logarithm keeps the entropy of attention (Su 2021;
//! Qwen's `use_logn_attn`).

use std::sync::Arc;

use lossy_kernels::page::{FRAME_TOKENS, PAGE_TOKENS};

use super::error::PositionError;
use super::family::{Choice, Family, OTHER_MAP, Resolved, check_trained, check_whole, of_choice, refused};
use super::map::{MAX_STRETCH, PositionMap, frame_start, page_start};
use super::rope::Trained;
use crate::parameters::Spelling;

/// `adaptive`.
pub(super) const FAMILY: Family = Family {
    name: "adaptive",
    parse: |parameters| {
        let choice = AdaptiveChoice {
            window: parameters.number("window")?,
            reach: parameters.number("reach")?,
            growth: parameters.number("growth")?,
            exact: parameters.number("exact")?,
            logn: parameters.switch("logn")?,
        };
        check_whole("window", choice.window, 1)?;
        Ok(Arc::new(choice))
    },
};

/// Frames that move together; see the module. All numbers are tokens.
#[derive(Clone, Copy, Debug)]
pub struct Adaptive {
    /// neighbours that keep their distances: a multiple of 128
    pub window: usize,
    /// from then on the model sees distances below this only
    pub reach: usize,
    /// what is added to the reach whenever the text doubles beyond `exact`, up to `exact` in all
    pub growth: usize,
    /// texts of so many tokens have the model's own positions: from `reach` to the trained context
    pub exact: usize,
    /// whether queries beyond `exact` are longer
    pub logn: bool,
}

impl Adaptive {
    /// The reach of a text of `n` tokens.
    fn reach(&self, n: usize) -> usize {
        let exact = self.exact.max(1);
        let doublings = (n / exact).max(1).ilog2();
        let from = exact << doublings;
        let part = self.growth * n.saturating_sub(from) / from;
        (self.reach + self.growth * doublings as usize + part).min(self.exact)
    }

    /// The longest context: there frames of 64 tokens begin at neighbouring positions.
    fn longest(&self) -> usize {
        let with = |reach: usize| (reach - PAGE_TOKENS - self.window) * MAX_STRETCH + self.window;
        // What the reach is there, it is beyond too.
        with(self.reach(with(self.reach)))
    }
}

impl PositionMap for Adaptive {
    fn distance(&self, m: usize, n: usize) -> usize {
        let (page, frame, window) = (page_start(m), frame_start(n), self.window);
        if page <= frame + window || page + PAGE_TOKENS <= self.exact {
            return m - n;
        }
        let far = (page - frame - window) as f64;
        let shrunk = far * (self.reach(page) - PAGE_TOKENS - window) as f64 / (page - window) as f64;
        window + shrunk.round() as usize + (m - page) - (n - frame)
    }

    fn windows(&self) -> Vec<usize> {
        vec![self.window]
    }

    fn n_moved_pages(&self, asking: usize) -> usize {
        if (asking + 1) * PAGE_TOKENS > self.exact {
            asking.saturating_sub(self.window / PAGE_TOKENS)
        } else {
            0
        }
    }

    fn frame_start(&self, frame: usize, asking: usize) -> usize {
        let (first, start) = (frame * FRAME_TOKENS, asking * PAGE_TOKENS);
        let known = (self.reach(start) - PAGE_TOKENS - self.window) as u64;
        let (far, farthest) = ((start - first - self.window) as u64, (start - self.window) as u64);
        start - self.window - ((2 * far * known + farthest) / (2 * farthest)) as usize
    }

    fn query_scale(&self, position: usize) -> f32 {
        if self.logn && position >= self.exact {
            (((position + 1) as f64).ln() / (self.exact as f64).ln()) as f32
        } else {
            1.0
        }
    }
}

/// What is given of an [`Adaptive`].
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct AdaptiveChoice {
    window: Option<usize>,
    reach: Option<usize>,
    /// 0 with a given reach, unless it is given too
    growth: Option<usize>,
    exact: Option<usize>,
    logn: Option<bool>,
}

impl Choice for AdaptiveChoice {
    fn spelled(&self) -> String {
        Spelling::new(FAMILY.name)
            .with("window", self.window)
            .with("reach", self.reach)
            .with("growth", self.growth)
            .with("exact", self.exact)
            .with_switch("logn", self.logn)
            .end()
    }

    fn resolve(&self, trained: Trained<'_>, _n_ctx: usize) -> Result<Resolved, PositionError> {
        let n_trained = trained.n_ctx;
        let growth = self.growth.unwrap_or(if self.reach.is_some() { 0 } else { n_trained / 16 });
        let reach = self.reach.unwrap_or_else(|| default_reach(n_trained));
        let window = self.window.unwrap_or_else(|| default_window(reach));
        let least = window.saturating_add(2 * PAGE_TOKENS);
        check_trained(self, trained, least)?;
        if !(least..=n_trained).contains(&reach) {
            let expected = format!(
                "at least the window and {} more, {least}, and at most the trained context, {n_trained}",
                2 * PAGE_TOKENS
            );
            return Err(refused(self, "reach", reach, &expected));
        }
        if growth > n_trained {
            let expected = format!("at most the trained context, {n_trained}");
            return Err(refused(self, "growth", growth, &expected));
        }
        let exact = self.exact.unwrap_or(n_trained);
        if !(reach..=n_trained).contains(&exact) {
            let expected = format!("from the reach, {reach}, to the trained context, {n_trained}");
            return Err(refused(self, "exact", exact, &expected));
        }
        let map = Adaptive { window, reach, growth, exact, logn: self.logn.unwrap_or(true) };
        let choice = AdaptiveChoice {
            window: Some(map.window),
            reach: Some(map.reach),
            growth: Some(map.growth),
            exact: Some(map.exact),
            logn: Some(map.logn),
        };
        check_whole("window", choice.window, 1).map_err(of_choice(&choice))?;
        Ok(Resolved {
            choice: Arc::new(choice),
            map: Arc::new(map),
            rope: trained.rope.clone(),
            longest: map.longest(),
            fix: OTHER_MAP,
        })
    }
}

/// Nine sixteenths of the trained context, which grow by a sixteenth with every doubling: models find things there that they
/// do not find at the far end of what they were trained for (docs/self-extend.md has the figures).
fn default_reach(n_trained: usize) -> usize {
    (n_trained / 16 * 9).max(3 * PAGE_TOKENS).min(n_trained)
}

/// Two ninths of the reach: an eighth of the trained context.
fn default_window(reach: usize) -> usize {
    (reach * 2 / 9 / PAGE_TOKENS).max(1) * PAGE_TOKENS
}

#[cfg(test)]
mod tests {
    use super::*;

    const L: usize = 1024;

    #[test]
    fn within_the_trained_context_adaptive_is_linear() {
        for reach in [L, L / 2] {
            let map = Adaptive { window: 128, reach, growth: 0, exact: L, logn: true };
            assert!((0..L / PAGE_TOKENS).all(|asking| map.n_moved_pages(asking) == 0));
            assert!(map.n_moved_pages(L / PAGE_TOKENS) > 0);
            assert!((0..=L).all(|n| map.distance(L, n) < reach));
            assert!((0..L).all(|m| map.query_scale(m) == 1.0));
            assert!(map.query_scale(L) > 1.0);
        }
    }

    #[test]
    fn the_reach_grows_with_every_doubling_up_to_what_was_trained() {
        let map = Adaptive { window: 128, reach: 500, growth: 100, exact: L, logn: false };
        let reach = |n| map.reach(n);
        assert_eq!([0, L - 128, L, L + L / 2].map(reach), [500, 500, 500, 550]);
        assert_eq!([2 * L, 3 * L, 4 * L, 16 * L].map(reach), [600, 650, 700, 900]);
        assert_eq!(reach(64 * L), L);
        assert!((0..64 * L).step_by(128).is_sorted_by_key(reach));
        assert_eq!(Adaptive { growth: 0, ..map }.reach(64 * L), 500);
    }

    /// ln(4096)/ln(1024) = 12/10.
    #[test]
    fn queries_grow_with_the_logarithm_of_the_text() {
        let map = |logn| Adaptive { window: 128, reach: L / 2, growth: 0, exact: L, logn };
        assert!((map(true).query_scale(4 * L - 1) - 1.2).abs() < 1e-6);
        assert_eq!(map(false).query_scale(4 * L - 1), 1.0);
    }
}
