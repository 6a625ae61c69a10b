//! Writes new keys and values into an exact range.

use half::f16;

use super::element::{Element, ExactHeadMut, KvType, TypedHeadMut};
use super::{GROUP_TOKENS, RANGE_TOKENS, Rows};

/// Keys or values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// a key
    Key,
    /// a value
    Value,
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Part::Key => "key",
            Part::Value => "value",
        })
    }
}

/// A value that the element type cannot hold: NaN, infinite, or too large.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AppendError {
    /// row of the new tokens
    pub row: usize,
    /// whether it belongs to a key or a value
    pub part: Part,
    /// the value
    pub value: f32,
}

impl ExactHeadMut<'_> {
    /// Stores all rows of `keys` and `values` (`head_dim` columns each) as tokens `at..` of the range, rounded to
    /// nearest.
    ///
    /// # Errors
    /// A value is not finite or would not be as an element. The range's tokens from `at` on are undefined then, but finite.
    ///
    /// # Panics
    /// There are more rows than room, or not as many keys as values.
    pub fn append(&mut self, at: usize, keys: Rows<'_>, values: Rows<'_>) -> Result<(), AppendError> {
        assert_eq!(keys.n_rows(), values.n_rows(), "new keys and values");
        assert!(at + keys.n_rows() <= RANGE_TOKENS, "{} tokens at {at} of a range", keys.n_rows());
        match self.kv_type {
            KvType::F16 => append::<f16>(self.typed(), at, keys, values),
            KvType::F32 => append::<f32>(self.typed(), at, keys, values),
        }
    }
}

fn append<E: Element>(
    head: TypedHeadMut<'_, E>,
    at: usize,
    keys: Rows<'_>,
    values: Rows<'_>,
) -> Result<(), AppendError> {
    let head_dim = head.head_dim;
    for row in 0..keys.n_rows() {
        let (key, value) = (keys.row(row, head_dim), values.row(row, head_dim));
        check::<E>(key, row, Part::Key)?;
        check::<E>(value, row, Part::Value)?;
        let token = at + row;
        let group = &mut head.keys[token / GROUP_TOKENS * head_dim..][..head_dim];
        for (to, k) in group.iter_mut().zip(key) {
            to[token % GROUP_TOKENS] = E::from_f32(*k);
        }
        let to = &mut head.values.as_flattened_mut()[token * head_dim..][..head_dim];
        for (to, v) in to.iter_mut().zip(value) {
            *to = E::from_f32(*v);
        }
    }
    Ok(())
}

/// All values become finite elements.
fn check<E: Element>(values: &[f32], row: usize, part: Part) -> Result<(), AppendError> {
    // The largest magnitude as an integer orders like the value itself, with NaN above infinity.
    let magnitude = |x: &f32| x.to_bits() & 0x7fff_ffff;
    if values.iter().map(magnitude).fold(0, u32::max) < E::LIMIT {
        return Ok(());
    }
    let value = values.iter().copied().find(|x| magnitude(x) >= E::LIMIT).unwrap_or(f32::NAN);
    Err(AppendError { row, part, value })
}
