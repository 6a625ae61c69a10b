//! What a word for positions means: one [`Family`] and one [`Choice`] in each file beside this one.
//!
//! ```text
//! adaptive:window=1024 ── Family::parse ──► Choice ── resolve(model, context) ──► Resolved: map, rotation, reach
//! ```

use std::fmt::{Debug, Display};
use std::sync::Arc;

use lossy_kernels::page::PAGE_TOKENS;

use super::error::PositionError;
use super::map::PositionMap;
use super::rope::{RopeConfig, Trained};
use crate::parameters::{ParameterError, Parameters};

/// Positions of one name.
pub(super) struct Family {
    /// the name
    pub name: &'static str,
    /// the choice that some parameters make
    pub parse: fn(&mut Parameters<'_>) -> Result<Arc<dyn Choice>, ParameterError>,
}

/// What a user chose; numbers that are left out follow from the model and the context.
pub(super) trait Choice: Debug + Send + Sync {
    /// As it is spelled, with the numbers that are there.
    fn spelled(&self) -> String;

    /// The positions of a model in a context of `n_ctx` tokens, which may be beyond those that they are good for.
    ///
    /// # Errors
    /// The numbers do not fit the model, or each other.
    fn resolve(&self, trained: Trained<'_>, n_ctx: usize) -> Result<Resolved, PositionError>;
}

/// Positions of a model, with all numbers.
pub(super) struct Resolved {
    /// what was chosen, with all numbers
    pub choice: Arc<dyn Choice>,
    pub map: Arc<dyn PositionMap>,
    pub rope: RopeConfig,
    /// the longest context that they are good for, tokens
    pub longest: usize,
    /// what to do about a longer one
    pub fix: &'static str,
}

/// What to do where a map does not reach.
pub(super) const OTHER_MAP: &str = "take a larger group, another map, or a shorter context";

/// The error for a parameter of `choice` that does not fit.
pub(super) fn refused(choice: &dyn Choice, key: &str, value: impl Display, expected: &str) -> PositionError {
    of_choice(choice)(ParameterError::value(key, value, expected))
}

/// Errors of a parameter of `choice`.
pub(super) fn of_choice(choice: &dyn Choice) -> impl Fn(ParameterError) -> PositionError {
    move |error| PositionError::Parameter { name: choice.spelled(), error }
}

/// Whether the model was trained for `least` tokens.
pub(super) fn check_trained(
    choice: &dyn Choice,
    trained: Trained<'_>,
    least: usize,
) -> Result<(), PositionError> {
    if trained.n_ctx >= least {
        return Ok(());
    }
    let reason = format!("it was trained for {} tokens, and {least} are the least", trained.n_ctx);
    Err(PositionError::Model { name: choice.spelled(), reason })
}

/// Whether `tokens` are whole pages and whole groups of `position_group` tokens.
pub(super) fn check_whole(
    key: &str,
    tokens: Option<usize>,
    position_group: usize,
) -> Result<(), ParameterError> {
    let Some(tokens) = tokens else { return Ok(()) };
    let step = least_common_multiple(PAGE_TOKENS, position_group);
    if tokens > 0 && tokens.is_multiple_of(step) {
        return Ok(());
    }
    let nearest = tokens.div_ceil(step).max(1).saturating_mul(step);
    let of_group = match position_group {
        1 => String::new(),
        group => format!(" and of the group {group}"),
    };
    let expected = format!("a multiple of {PAGE_TOKENS}{of_group}, such as {nearest}");
    Err(ParameterError::value(key, tokens, expected))
}

/// The smallest number that both divide; `b` is at least 1.
pub(super) fn least_common_multiple(a: usize, b: usize) -> usize {
    let (mut x, mut y) = (a, b);
    while y > 0 {
        (x, y) = (y, x % y);
    }
    a / x * b
}
