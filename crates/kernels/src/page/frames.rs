//! Rotations of whole frames: the unit in which keys are moved to other positions.
//!
//! A frame is [`FRAME_TOKENS`] consecutive tokens. Turning all their keys by one more angle moves the frame; a score is the
//! same if the query is turned back by that angle instead. So a stored key never changes when a position map moves it:
//! decode turns the query, once per frame, and prefill turns the keys of a tile, which many queries share.

use super::PAGE_TOKENS;
use crate::Isa;

/// Tokens that are moved together, and whose keys are packed relative to the first of them.
pub const FRAME_TOKENS: usize = 64;

/// Frames of a page.
pub const FRAMES: usize = PAGE_TOKENS / FRAME_TOKENS;

/// Channel `c` of eight tokens.
type Lanes = [f32; 8];

/// Cosines and sines `[n_frames][head_dim / 2]`, an angle for each frame; channel `i` is turned with channel
/// `i + head_dim/2`.
#[derive(Clone, Debug)]
pub struct FrameTable {
    n_pairs: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

/// The angles of the frames of one page.
#[derive(Clone, Copy, Debug)]
pub struct PageFrames<'a> {
    n_pairs: usize,
    /// `[FRAMES][n_pairs]`
    cos: &'a [f32],
    sin: &'a [f32],
}

/// The angle of one frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame<'a> {
    pub cos: &'a [f32],
    pub sin: &'a [f32],
}

impl FrameTable {
    /// From cosines and sines `[n_frames, n_pairs]` of pure rotations.
    ///
    /// # Panics
    /// The lengths differ, or are not whole rows.
    pub fn new(n_pairs: usize, cos: Vec<f32>, sin: Vec<f32>) -> FrameTable {
        assert!(n_pairs > 0 && cos.len() == sin.len() && cos.len().is_multiple_of(n_pairs), "rows of frames");
        FrameTable { n_pairs, cos, sin }
    }

    /// The frames of page `page`.
    ///
    /// # Panics
    /// The table ends before it.
    pub fn page(&self, page: usize) -> PageFrames<'_> {
        let len = FRAMES * self.n_pairs;
        let rows = page * len..(page + 1) * len;
        PageFrames { n_pairs: self.n_pairs, cos: &self.cos[rows.clone()], sin: &self.sin[rows] }
    }
}

impl<'a> PageFrames<'a> {
    /// Frame `index` of the page.
    pub(crate) fn frame(self, index: usize) -> Frame<'a> {
        let row = index * self.n_pairs..(index + 1) * self.n_pairs;
        Frame { cos: &self.cos[row.clone()], sin: &self.sin[row] }
    }
}

impl Frame<'_> {
    /// Turns channel pairs of eight tokens by the angle: `eight` is `[head_dim]` by channel.
    #[inline(always)]
    pub fn turn(&self, eight: &mut [Lanes]) {
        let (left, right) = eight.split_at_mut(eight.len() / 2);
        for (((a, b), cos), sin) in left.iter_mut().zip(right).zip(self.cos).zip(self.sin) {
            let (x, y) = (*a, *b);
            *a = std::array::from_fn(|l| x[l] * cos - y[l] * sin);
            *b = std::array::from_fn(|l| y[l] * cos + x[l] * sin);
        }
    }

    /// Turns a vector `[head_dim]` back by the angle.
    #[inline(always)]
    fn turn_back(&self, vector: &[f32], out: &mut [f32]) {
        let (a, b) = vector.split_at(vector.len() / 2);
        let (left, right) = out.split_at_mut(a.len());
        let angles = self.cos.iter().zip(self.sin);
        for ((out, (a, b)), (cos, sin)) in left.iter_mut().zip(a.iter().zip(b)).zip(angles.clone()) {
            *out = a * cos + b * sin;
        }
        for ((out, (a, b)), (cos, sin)) in right.iter_mut().zip(a.iter().zip(b)).zip(angles) {
            *out = b * cos - a * sin;
        }
    }
}

/// Queries `[n_heads][head_dim]` turned back by the angle of each frame: `out` is `[FRAMES][n_heads][head_dim]`.
pub(super) fn turn_queries_back(isa: Isa, frames: PageFrames<'_>, queries: &[f32], out: &mut [f32]) {
    match isa {
        Isa::Scalar => turn_queries_back_lanes(frames, queries, out),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: an `Avx2` exists only if detection saw avx2, fma and f16c.
        Isa::Avx2(_) => unsafe { turn_queries_back_avx2(frames, queries, out) },
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn turn_queries_back_avx2(frames: PageFrames<'_>, queries: &[f32], out: &mut [f32]) {
    turn_queries_back_lanes(frames, queries, out);
}

#[inline(always)]
fn turn_queries_back_lanes(frames: PageFrames<'_>, queries: &[f32], out: &mut [f32]) {
    let head_dim = 2 * frames.n_pairs;
    for (index, out) in out.chunks_exact_mut(queries.len()).enumerate() {
        let frame = frames.frame(index);
        let heads = queries.chunks_exact(head_dim).zip(out.chunks_exact_mut(head_dim));
        heads.for_each(|(query, out)| frame.turn_back(query, out));
    }
}

/// Turns keys `[PAGE_TOKENS/8 * head_dim][8]` by the angles of their frames, of the first `n_tokens` at least.
pub(super) fn turn_keys(isa: Isa, frames: PageFrames<'_>, n_tokens: usize, keys: &mut [Lanes]) {
    match isa {
        Isa::Scalar => turn_keys_lanes(frames, n_tokens, keys),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: an `Avx2` exists only if detection saw avx2, fma and f16c.
        Isa::Avx2(_) => unsafe { turn_keys_avx2(frames, n_tokens, keys) },
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn turn_keys_avx2(frames: PageFrames<'_>, n_tokens: usize, keys: &mut [Lanes]) {
    turn_keys_lanes(frames, n_tokens, keys);
}

#[inline(always)]
fn turn_keys_lanes(frames: PageFrames<'_>, n_tokens: usize, keys: &mut [Lanes]) {
    let eights = keys.chunks_exact_mut(2 * frames.n_pairs).take(n_tokens.div_ceil(8));
    for (index, eight) in eights.enumerate() {
        frames.frame(8 * index / FRAME_TOKENS).turn(eight);
    }
}

/// Cosines and sines `[n_pages][n_pairs][PAGE_TOKENS]`: an angle for each token, for position maps that do not move
/// whole frames.
#[derive(Clone, Debug)]
pub struct TokenTable {
    n_pairs: usize,
    cos: Vec<Lanes>,
    sin: Vec<Lanes>,
}

/// The angles of the tokens of one page.
#[derive(Clone, Copy, Debug)]
pub struct PageTurns<'a> {
    n_pairs: usize,
    /// `[n_pairs][PAGE_TOKENS/8][8]`
    cos: &'a [Lanes],
    sin: &'a [Lanes],
}

impl TokenTable {
    /// `n_pages` pages; `angle` gives cosine and sine of a token and a channel pair.
    pub fn new(n_pairs: usize, n_pages: usize, angle: impl Fn(usize, usize) -> (f32, f32)) -> TokenTable {
        let n_eights = n_pages * n_pairs * PAGE_TOKENS / 8;
        let (mut cos, mut sin) = (Vec::with_capacity(n_eights), Vec::with_capacity(n_eights));
        for page in 0..n_pages {
            for pair in 0..n_pairs {
                for eight in 0..PAGE_TOKENS / 8 {
                    let angles: [(f32, f32); 8] =
                        std::array::from_fn(|lane| angle(page * PAGE_TOKENS + 8 * eight + lane, pair));
                    cos.push(angles.map(|(cos, _)| cos));
                    sin.push(angles.map(|(_, sin)| sin));
                }
            }
        }
        TokenTable { n_pairs, cos, sin }
    }

    /// The tokens of page `page`.
    ///
    /// # Panics
    /// The table ends before it.
    pub fn page(&self, page: usize) -> PageTurns<'_> {
        let len = self.n_pairs * PAGE_TOKENS / 8;
        let rows = page * len..(page + 1) * len;
        PageTurns { n_pairs: self.n_pairs, cos: &self.cos[rows.clone()], sin: &self.sin[rows] }
    }
}

impl PageTurns<'_> {
    /// Turns keys `[PAGE_TOKENS/8 * head_dim][8]` by the angles of their tokens.
    pub fn turn_keys(&self, isa: Isa, keys: &mut [[f32; 8]]) {
        match isa {
            Isa::Scalar => self.turn_keys_lanes(keys),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: an `Avx2` exists only if detection saw avx2, fma and f16c.
            Isa::Avx2(_) => unsafe { self.turn_keys_avx2(keys) },
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma,f16c")]
    fn turn_keys_avx2(&self, keys: &mut [Lanes]) {
        self.turn_keys_lanes(keys);
    }

    #[inline(always)]
    fn turn_keys_lanes(&self, keys: &mut [Lanes]) {
        for (index, eight) in keys.chunks_exact_mut(2 * self.n_pairs).enumerate() {
            let (left, right) = eight.split_at_mut(self.n_pairs);
            for (pair, (a, b)) in left.iter_mut().zip(right).enumerate() {
                let (cos, sin) =
                    (&self.cos[pair * PAGE_TOKENS / 8 + index], &self.sin[pair * PAGE_TOKENS / 8 + index]);
                let (x, y) = (*a, *b);
                *a = std::array::from_fn(|l| x[l] * cos[l] - y[l] * sin[l]);
                *b = std::array::from_fn(|l| y[l] * cos[l] + x[l] * sin[l]);
            }
        }
    }
}
