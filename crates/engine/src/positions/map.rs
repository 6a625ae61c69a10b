//! Position maps: from the positions of a query and a key to the distance that the model sees between them.
//!
//! A model trained on `L` tokens knows distances below `L`. In a longer text a map makes them fit:
//!
//! ```text
//! m, n     positions of query and key, n ≤ m;      T = 128·⌊m/128⌋, F = 64·⌊n/64⌋   their page and frame
//!
//! linear       m − n
//! adaptive     m − n                                                   if T − F ≤ w, or T ≤ E − 128
//!              w + round((T − F − w)·(R − 128 − w)/(T − w)) + (m − T) − (n − F)       otherwise
//!              R = reach + growth·log2(T/E), straight between the powers of two
//! self-extend  m − n                                                   if m − n < w
//!              ⌊m/g⌋ − ⌊n/g⌋ + w − w/g                                 otherwise
//! dca          m − n                                                   if both are in one chunk of s tokens
//!              min(m mod s + s, L − 1) − n mod s                       if n is in the chunk before that of m
//!              L − 1 − n mod s                                         otherwise
//! ```
//! - *Self-Extend* is arXiv 2401.01325 with `g` a divisor of `w`, so that both of the published formulae agree.
//! - *Dual Chunk Attention* is arXiv 2402.17463.
//! - *Adaptive* is ours. Frames of 64 tokens keep their inside, so neighbouring words stay neighbours however far away they
//!   are; only the distances between frames shrink, and only as much as the text read so far needs to stay within the reach
//!   `R ≤ L`, which may grow with the text: more frames in the same space are harder to tell apart. Up to `E` tokens
//!   (`R ≤ E ≤ L`) it is `linear`, bit by bit. With `logn`, queries beyond `E` are `ln(m + 1)/ln(E)` times as long
//!   ([`PositionMap::query_scale`]): attention over more tokens stays as sharp.
//!
//! A map is made of three things, all of which attention can use without touching a stored key: which *rotation* of the
//! queries meets a range of keys ([`PositionMap::meeting`], [`PositionMap::query_position`]), where the *frames* of a range
//! begin ([`PositionMap::frame_start`]), and where a *token* stands ([`PositionMap::token_position`]).

use lossy_kernels::attention::{FRAME_TOKENS, Meeting, RANGE_TOKENS};

/// A position map; all numbers are tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PositionMap {
    /// the model's own
    Linear,
    /// frames move together as far as the text's length needs
    Adaptive {
        /// neighbours that keep their distances: a multiple of 128
        window: usize,
        /// from then on the model sees distances below this only
        reach: usize,
        /// what is added to the reach whenever the text doubles beyond `exact`, up to `exact` in all
        growth: usize,
        /// texts of so many tokens have the model's own positions: from `reach` to the trained context
        exact: usize,
        /// whether queries beyond `exact` are longer
        logn: bool,
    },
    /// far tokens share positions
    SelfExtend {
        /// tokens that share a position
        position_group: usize,
        /// neighbours that keep their distances: a multiple of 128 and of `position_group`
        window: usize,
    },
    /// positions begin anew in each chunk
    DualChunk {
        /// tokens of a chunk: a multiple of 128
        chunk: usize,
        /// trained context
        n_trained: usize,
    },
}

/// Most tokens that share the space of one: then frames begin at neighbouring positions.
pub(super) const MAX_STRETCH: usize = FRAME_TOKENS;

impl PositionMap {
    /// The longest context in tokens; `None`: as long as the model was trained for.
    pub fn longest(&self, n_trained: usize) -> Option<usize> {
        match *self {
            PositionMap::Linear => None,
            PositionMap::Adaptive { window, reach, growth, exact, .. } => {
                let with = |reach: usize| (reach - RANGE_TOKENS - window) * MAX_STRETCH + window;
                // What the reach is there, it is beyond too.
                let grown = grown(reach, growth, exact, with(reach));
                Some(with(grown))
            }
            PositionMap::SelfExtend { position_group, window } => {
                Some((n_trained - window) * position_group + window)
            }
            // Distances repeat: it could go on, but nobody has seen what comes of it.
            PositionMap::DualChunk { n_trained, .. } => Some(n_trained * MAX_STRETCH),
        }
    }

    /// Rotations that queries need.
    pub fn n_rotations(&self) -> usize {
        match self {
            PositionMap::Linear | PositionMap::Adaptive { .. } => 1,
            PositionMap::SelfExtend { .. } => 2,
            PositionMap::DualChunk { .. } => 3,
        }
    }

    /// The position for which a query at `position` is rotated. Rotation 0 is its own.
    pub fn query_position(&self, rotation: usize, position: usize) -> usize {
        match *self {
            PositionMap::SelfExtend { position_group, window } if rotation == 1 => {
                position / position_group + window - window / position_group
            }
            PositionMap::DualChunk { chunk, n_trained } if rotation == 1 => {
                (position % chunk + chunk).min(n_trained - 1)
            }
            PositionMap::DualChunk { n_trained, .. } if rotation == 2 => n_trained - 1,
            _ => position,
        }
    }

    /// The rotations of the queries of range `asking` that meet the keys of range `range`.
    pub fn meeting(&self, range: usize, asking: usize) -> Meeting {
        match *self {
            PositionMap::SelfExtend { window, .. } => match (range + window / RANGE_TOKENS).cmp(&asking) {
                std::cmp::Ordering::Less => Meeting::Whole(1),
                std::cmp::Ordering::Equal => Meeting::Split { far: 1, near: 0 },
                std::cmp::Ordering::Greater => Meeting::Whole(0),
            },
            PositionMap::DualChunk { chunk, .. } => {
                let chunk_of = |range: usize| range * RANGE_TOKENS / chunk;
                Meeting::Whole((chunk_of(asking) - chunk_of(range)).min(2))
            }
            PositionMap::Linear | PositionMap::Adaptive { .. } => Meeting::Whole(0),
        }
    }

    /// Ranges from the first on whose frames the queries of range `asking` see elsewhere than they are.
    pub fn n_moved_ranges(&self, asking: usize) -> usize {
        let start = asking * RANGE_TOKENS;
        match *self {
            PositionMap::Adaptive { window, exact, .. } if start + RANGE_TOKENS > exact => {
                asking.saturating_sub(window / RANGE_TOKENS)
            }
            PositionMap::DualChunk { chunk, .. } => start / chunk * chunk / RANGE_TOKENS,
            _ => 0,
        }
    }

    /// Where queries of range `asking` see the first token of frame `frame`, if its range is one of those that
    /// [move](PositionMap::n_moved_ranges).
    pub fn frame_start(&self, frame: usize, asking: usize) -> usize {
        let (first, start) = (frame * FRAME_TOKENS, asking * RANGE_TOKENS);
        match *self {
            PositionMap::Adaptive { window, reach, growth, exact, .. } => {
                let known = (grown(reach, growth, exact, start) - RANGE_TOKENS - window) as u64;
                let (far, farthest) = ((start - first - window) as u64, (start - window) as u64);
                start - window - ((2 * far * known + farthest) / (2 * farthest)) as usize
            }
            PositionMap::DualChunk { chunk, .. } => first % chunk,
            _ => first,
        }
    }

    /// How many times as long a query at `position` is: a text longer than those of the training has more tokens for a
    /// softmax to spread over, and a length that grows with its logarithm keeps the entropy of attention (Su 2021; Qwen's
    /// `use_logn_attn`).
    pub fn query_scale(&self, position: usize) -> f32 {
        match *self {
            PositionMap::Adaptive { exact, logn: true, .. } if position >= exact => {
                (((position + 1) as f64).ln() / (exact as f64).ln()) as f32
            }
            _ => 1.0,
        }
    }

    /// Where a token stands for rotations other than 0, if tokens move one by one.
    pub fn token_position(&self, position: usize) -> Option<usize> {
        match *self {
            PositionMap::SelfExtend { position_group, .. } => Some(position / position_group),
            _ => None,
        }
    }

    /// The distance that the model sees between a query at `query` and a key at `key`, which is not after it: the formula
    /// of this module's documentation, for tests and reports. Attention does not use it.
    pub fn distance(&self, query: usize, key: usize) -> usize {
        let (m, n) = (query, key);
        match *self {
            PositionMap::Linear => m - n,
            PositionMap::Adaptive { window: w, reach, growth, exact, .. } => {
                let (page, frame) = (m / 128 * 128, n / 64 * 64);
                if page <= frame + w || page <= exact - 128 {
                    return m - n;
                }
                let reach = grown(reach, growth, exact, page);
                let shrunk = (page - frame - w) as f64 * (reach - 128 - w) as f64 / (page - w) as f64;
                w + shrunk.round() as usize + (m - page) - (n - frame)
            }
            PositionMap::SelfExtend { position_group: g, window: w } => {
                if m - n < w {
                    m - n
                } else {
                    m / g - n / g + w - w / g
                }
            }
            PositionMap::DualChunk { chunk: s, n_trained } => match m / s - n / s {
                0 => m - n,
                1 => (m % s + s).min(n_trained - 1) - n % s,
                _ => n_trained - 1 - n % s,
            },
        }
    }
}

/// The reach of a text of `n` tokens: `growth` more whenever it doubles beyond `exact`, straight in between.
fn grown(reach: usize, growth: usize, exact: usize, n: usize) -> usize {
    let doublings = (n / exact.max(1)).max(1).ilog2();
    let from = exact << doublings;
    let part = growth * n.saturating_sub(from) / from.max(1);
    (reach + growth * doublings as usize + part).min(exact)
}

#[cfg(test)]
mod tests {
    use super::*;

    const L: usize = 1024;

    const MAPS: [PositionMap; 8] = [
        PositionMap::Linear,
        PositionMap::Adaptive { window: 128, reach: L, growth: 0, exact: L, logn: false },
        PositionMap::Adaptive { window: 384, reach: L, growth: 0, exact: L, logn: true },
        PositionMap::Adaptive { window: 128, reach: L / 2, growth: 0, exact: L - 100, logn: false },
        PositionMap::Adaptive { window: 128, reach: L / 2, growth: 100, exact: L, logn: true },
        PositionMap::SelfExtend { position_group: 4, window: 256 },
        PositionMap::SelfExtend { position_group: 5, window: 640 },
        PositionMap::DualChunk { chunk: 768, n_trained: L },
    ];

    /// The distance as attention sees it: positions of the rotated query and of the moved key.
    fn seen(map: PositionMap, m: usize, n: usize) -> usize {
        let (range, asking) = (n / RANGE_TOKENS, m / RANGE_TOKENS);
        let rotation = match map.meeting(range, asking) {
            Meeting::Whole(rotation) => rotation,
            Meeting::Split { far, near } => {
                if n % RANGE_TOKENS <= m % RANGE_TOKENS {
                    far
                } else {
                    near
                }
            }
        };
        let key = match map.token_position(n) {
            Some(position) if rotation > 0 => position,
            _ if range < map.n_moved_ranges(asking) => {
                map.frame_start(n / FRAME_TOKENS, asking) + n % FRAME_TOKENS
            }
            _ => n,
        };
        map.query_position(rotation, m) - key
    }

    #[test]
    fn what_attention_uses_makes_the_distances_of_the_formulae() {
        for map in MAPS {
            let longest = map.longest(L).unwrap_or(L).min(5 * L);
            for m in (0..longest).step_by(7).chain([127, 128, 255, 256, 1023]) {
                for n in (0..=m).step_by(3).chain([m]) {
                    assert_eq!(seen(map, m, n), map.distance(m, n), "{map:?}: from {m} to {n}");
                }
            }
        }
    }

    #[test]
    fn no_distance_is_beyond_what_was_trained() {
        for map in MAPS {
            let longest = map.longest(L).unwrap_or(L).min(70 * L);
            for m in [longest - 1, longest - 128, longest / 2, L - 1, L, L + 1] {
                for n in (0..=m.min(longest - 1)).step_by(13) {
                    let m = m.min(longest - 1);
                    assert!(map.distance(m, n) < L, "{map:?}: from {m} to {n} is {}", map.distance(m, n));
                }
            }
        }
    }

    #[test]
    fn within_the_trained_context_adaptive_is_linear() {
        for reach in [L, L / 2] {
            let map = PositionMap::Adaptive { window: 128, reach, growth: 0, exact: L, logn: true };
            for m in 0..L {
                assert_eq!(map.n_moved_ranges(m / RANGE_TOKENS), 0);
            }
            assert!(map.n_moved_ranges(L / RANGE_TOKENS) > 0);
            assert!((0..=L).all(|n| map.distance(L, n) < reach));
            assert!((0..L).all(|m| map.query_scale(m) == 1.0));
            assert!(map.query_scale(L) > 1.0);
        }
    }

    #[test]
    fn the_reach_grows_with_every_doubling_up_to_what_was_trained() {
        let reach = |n| grown(500, 100, L, n);
        assert_eq!([0, L - 128, L, L + L / 2].map(reach), [500, 500, 500, 550]);
        assert_eq!([2 * L, 3 * L, 4 * L, 16 * L].map(reach), [600, 650, 700, 900]);
        assert_eq!(reach(64 * L), L);
        assert!((0..64 * L).step_by(128).is_sorted_by_key(reach));
        assert_eq!(grown(500, 0, L, 64 * L), 500);
    }

    /// ln(4096)/ln(1024) = 12/10.
    #[test]
    fn queries_grow_with_the_logarithm_of_the_text() {
        let map = |logn| PositionMap::Adaptive { window: 128, reach: L / 2, growth: 0, exact: L, logn };
        assert!((map(true).query_scale(4 * L - 1) - 1.2).abs() < 1e-6);
        assert_eq!(map(false).query_scale(4 * L - 1), 1.0);
    }

    /// A window that is no multiple of a page: the formula only.
    #[test]
    fn self_extend_is_as_published() {
        let map = PositionMap::SelfExtend { position_group: 2, window: 4 };
        let row: Vec<usize> = (0..10).map(|n| map.distance(9, n)).collect();
        assert_eq!(row, [6, 6, 5, 5, 4, 4, 3, 2, 1, 0]);
        assert_eq!(map.longest(7), Some(10));
    }
}
