//! Which positions texts may have.

use crate::positions::{PositionScheme, Positions, Trained};
use crate::{CacheOptions, SettingError};

/// The positions that texts may have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    /// tokens of a text, at most
    pub n_ctx: usize,
    /// position of the first
    pub start: usize,
    /// whether they may be beyond those that the positions are good for
    pub beyond_trained: bool,
}

impl Extent {
    pub(crate) fn new(options: &CacheOptions, trained: Trained<'_>) -> Extent {
        Extent {
            n_ctx: options.n_ctx.filter(|n_ctx| *n_ctx > 0).unwrap_or(trained.n_ctx),
            start: options.start_position,
            beyond_trained: options.beyond_trained,
        }
    }

    /// Positions of such texts.
    pub(crate) fn resolve(
        self,
        scheme: &PositionScheme,
        trained: Trained<'_>,
    ) -> Result<Positions, SettingError> {
        let Extent { n_ctx, start, beyond_trained } = self;
        let positions = scheme.resolve(trained, n_ctx + start, beyond_trained)?;
        if start == 0 {
            return Ok(positions);
        }
        let scheme = positions.scheme();
        if *scheme == PositionScheme::linear() {
            return Ok(Positions::linear(positions.rope().clone().starting_at(start), n_ctx));
        }
        Err(SettingError::StartPosition { start, n_ctx, positions: scheme.to_string() })
    }
}
