//! Writes new keys and values into an exact page.

use half::f16;

use super::{Element, ExactHeadMut, KvType, TypedHeadMut};
use crate::Isa;
use crate::page::{LANES, PAGE_TOKENS, Rows};

#[cfg(target_arch = "x86_64")]
use super::avx2;

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
    /// Stores all rows of `keys` and `values` (`head_dim` columns each) as tokens `at..` of the page, rounded to
    /// nearest.
    ///
    /// # Errors
    /// A value is not finite or would not be as an element. The page's tokens from `at` on are undefined then, but finite.
    ///
    /// # Panics
    /// There are more rows than room, or not as many keys as values.
    pub fn append(
        &mut self,
        isa: Isa,
        at: usize,
        keys: Rows<'_>,
        values: Rows<'_>,
    ) -> Result<(), AppendError> {
        assert_eq!(keys.n_rows(), values.n_rows(), "new keys and values");
        assert!(at + keys.n_rows() <= PAGE_TOKENS, "{} tokens at {at} of a page", keys.n_rows());
        match (self.kv_type, isa) {
            (KvType::F32, _) => append(self.typed::<f32>(), at, keys, values, append_token),
            (KvType::F16, Isa::Scalar) => append(self.typed::<f16>(), at, keys, values, append_token),
            #[cfg(target_arch = "x86_64")]
            (KvType::F16, Isa::Avx2(_)) => {
                append(self.typed::<f16>(), at, keys, values, |key, group, lane, value, to_value| {
                    // SAFETY: an `Avx2` exists only if detection saw avx2, fma and f16c.
                    unsafe { avx2::append_f16(key, group, lane, value, to_value) }
                })
            }
        }
    }
}

fn append<E: Element>(
    head: TypedHeadMut<'_, E>,
    at: usize,
    keys: Rows<'_>,
    values: Rows<'_>,
    append_token: impl Fn(&[f32], &mut [[E; 8]], usize, &[f32], &mut [[E; 8]]),
) -> Result<(), AppendError> {
    let head_dim = head.head_dim;
    for row in 0..keys.n_rows() {
        let (key, value) = (keys.row(row, head_dim), values.row(row, head_dim));
        check::<E>(key, row, Part::Key)?;
        check::<E>(value, row, Part::Value)?;
        let token = at + row;
        let group = &mut head.keys[token / LANES * head_dim..][..head_dim];
        let to_value = &mut head.values[token * head_dim / 8..][..head_dim / 8];
        append_token(key, group, token % LANES, value, to_value);
    }
    Ok(())
}

/// Stores one token's key in lane `lane` of its group `[head_dim][8]`, and its value.
fn append_token<E: Element>(
    key: &[f32],
    group: &mut [[E; 8]],
    lane: usize,
    value: &[f32],
    to_value: &mut [[E; 8]],
) {
    for (to, k) in group.iter_mut().zip(key) {
        to[lane] = E::from_f32(*k);
    }
    for (to, v) in to_value.as_flattened_mut().iter_mut().zip(value) {
        *to = E::from_f32(*v);
    }
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
