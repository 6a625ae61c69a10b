//! The positions of sequences: a map, a rotation, and tables of both for the kernels.

use std::sync::{Arc, OnceLock};

use lossy_kernels::page::{FRAME_TOKENS, FRAMES, FrameTable, PAGE_TOKENS, TokenTable};

use super::error::PositionError;
use super::linear::Linear;
use super::map::PositionMap;
use super::rope::{Rope, Trained};
use super::scheme::PositionScheme;

/// The positions of a sequence: a map, and the rotation of the model or what a scaling makes of it.
#[derive(Debug)]
pub struct Positions {
    scheme: PositionScheme,
    map: Arc<dyn PositionMap>,
    rope: Rope,
    n_ctx: usize,
    longest: usize,
    /// channel pairs of the tables: those of the rotation, and behind them some that do not turn
    n_pairs: usize,
    /// of each frame's first position, where it is
    own: FrameTable,
    /// from each token's position to the one of [`PositionMap::token_position`]
    turns: OnceLock<TokenTable>,
}

/// Where the tokens of one page see the frames of pages that move.
#[derive(Clone, Debug)]
pub(crate) struct Moved {
    /// pages that move, from the first one on
    pub n_pages: usize,
    /// rotation of each frame's first position, where it is seen
    pub starts: FrameTable,
    /// from where each frame is to where it is seen
    pub shifts: FrameTable,
}

impl PositionScheme {
    /// The positions of a model in a context of `n_ctx` tokens. `beyond` lets them go on past where they are good.
    ///
    /// # Errors
    /// They do not reach that far, or do not fit the model.
    pub fn resolve(
        &self,
        trained: Trained<'_>,
        n_ctx: usize,
        beyond: bool,
    ) -> Result<Positions, PositionError> {
        let resolved = self.resolved(trained, n_ctx)?;
        let (longest, fix) = (resolved.longest, resolved.fix);
        if n_ctx > longest && !beyond {
            let name = resolved.choice.spelled();
            return Err(PositionError::TooLong { name, longest, n_trained: trained.n_ctx, n_ctx, fix });
        }
        let rope = Rope::new(&resolved.rope, trained.head_dim);
        let scheme = PositionScheme::new(resolved.choice);
        Ok(Positions { scheme, longest, ..Positions::new(resolved.map, rope, n_ctx) })
    }
}

impl Positions {
    /// Positions of sequences of at most `n_ctx` tokens.
    ///
    /// # Panics
    /// A window or chunk of `map` is no multiple of 128; see [`PositionMap::windows`].
    fn new(map: Arc<dyn PositionMap>, rope: Rope, n_ctx: usize) -> Positions {
        let is_whole = |tokens: &usize| *tokens > 0 && tokens.is_multiple_of(PAGE_TOKENS);
        assert!(map.windows().iter().all(is_whole), "{map:?}");
        let n_pairs = rope.n_pairs();
        let scheme = PositionScheme::linear();
        let own = own_table(&rope, n_pairs, n_ctx);
        Positions { scheme, map, rope, n_ctx, longest: n_ctx, n_pairs, own, turns: OnceLock::new() }
    }

    /// Positions as they are, of sequences of at most `n_ctx` tokens.
    pub fn linear(rope: Rope, n_ctx: usize) -> Positions {
        Positions::new(Arc::new(Linear), rope, n_ctx)
    }

    /// The same for heads that are stored with `n_pairs` channel pairs; those beyond the rotation's do not turn.
    pub(crate) fn with_pairs(self: &Arc<Self>, n_pairs: usize) -> Arc<Positions> {
        if self.n_pairs == n_pairs {
            return self.clone();
        }
        Arc::new(Positions {
            scheme: self.scheme.clone(),
            map: self.map.clone(),
            rope: self.rope.clone(),
            n_pairs,
            own: own_table(&self.rope, n_pairs, self.n_ctx),
            turns: OnceLock::new(),
            ..**self
        })
    }

    /// How they are spelled, with all numbers.
    pub fn scheme(&self) -> &PositionScheme {
        &self.scheme
    }

    /// The longest context in tokens that they are good for.
    pub fn longest(&self) -> usize {
        self.longest
    }

    /// The map.
    pub fn map(&self) -> &dyn PositionMap {
        &*self.map
    }

    /// Whether every query meets every key where both are.
    pub(crate) fn moves_nothing(&self) -> bool {
        let mut pages = 0..=self.n_ctx.div_ceil(PAGE_TOKENS);
        self.map.n_rotations() == 1 && pages.all(|page| self.map.n_moved_pages(page) == 0)
    }

    /// The rotation.
    pub fn rope(&self) -> &Rope {
        &self.rope
    }

    pub(crate) fn own(&self) -> &FrameTable {
        &self.own
    }

    /// See [`PositionMap::token_position`].
    pub(crate) fn turns(&self) -> &TokenTable {
        self.turns.get_or_init(|| {
            TokenTable::new(self.n_pairs, self.n_ctx.div_ceil(PAGE_TOKENS), |token, pair| {
                let position = self.map.token_position(token).unwrap_or(token);
                self.rope.rotation(pair, position as f64 - token as f64)
            })
        })
    }

    /// The frames that the tokens of page `asking` see at shifted positions.
    pub(crate) fn moved(&self, asking: usize) -> Option<Moved> {
        let n_pages = self.map.n_moved_pages(asking);
        let start = |frame: usize| self.map.frame_start(frame, asking) as f64;
        (n_pages > 0).then(|| Moved {
            n_pages,
            starts: table(&self.rope, self.n_pairs, n_pages, start),
            shifts: table(&self.rope, self.n_pairs, n_pages, |frame| {
                start(frame) - (frame * FRAME_TOKENS) as f64
            }),
        })
    }
}

/// Rotations of frames where they are.
fn own_table(rope: &Rope, n_pairs: usize, n_ctx: usize) -> FrameTable {
    table(rope, n_pairs, n_ctx.div_ceil(PAGE_TOKENS), |frame| (frame * FRAME_TOKENS) as f64)
}

/// The rotations of `n_pages` pages of frames, by the positions that `of_frame` gives.
fn table(rope: &Rope, n_pairs: usize, n_pages: usize, of_frame: impl Fn(usize) -> f64) -> FrameTable {
    let n_values = n_pages * FRAMES * n_pairs;
    let (mut cos, mut sin) = (Vec::with_capacity(n_values), Vec::with_capacity(n_values));
    for frame in 0..n_pages * FRAMES {
        let position = of_frame(frame);
        for pair in 0..n_pairs {
            let (c, s) = rope.rotation(pair, position);
            cos.push(c);
            sin.push(s);
        }
    }
    FrameTable::new(n_pairs, cos, sin)
}
