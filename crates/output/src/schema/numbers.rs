//! Numbers in schemas: bounds and constants as float64 holds them, and counts.

use serde_json::{Number, Value};

/// The largest integer up to which float64 holds every one.
const EXACT: f64 = 9_007_199_254_740_992.0;
/// The smallest bound that is not zero: the compiler spells bounds out, digit by digit.
const SMALLEST: f64 = 1e-9;

/// Says what about a bound, a step or a constant is not exact.
pub(super) fn inexact(number: &Number) -> Option<String> {
    let value = number.as_f64().filter(|value| value.is_finite());
    // an integer is compared as such: its float64 may have been rounded to the limit
    let too_large = match (number.as_i64(), number.as_u64()) {
        (Some(integer), _) => integer.unsigned_abs() > EXACT as u64,
        (None, Some(_)) => true,
        (None, None) => value.is_some_and(|value| value.abs() > EXACT),
    };
    match value {
        Some(_) if too_large => Some(format!("{number} is beyond 2^53, where not every integer is exact")),
        Some(value) if value != 0.0 && value.abs() < SMALLEST => {
            Some(format!("{number} is closer to 0 than {SMALLEST}"))
        }
        Some(_) => None,
        None => Some(format!("{number} is no finite number")),
    }
}

/// The first number anywhere in a value that is not exact.
pub(super) fn inexact_in(value: &Value) -> Option<String> {
    match value {
        Value::Number(number) => inexact(number),
        Value::Array(items) => items.iter().find_map(inexact_in),
        Value::Object(fields) => fields.values().find_map(inexact_in),
        _ => None,
    }
}

/// A count: a whole number, also if it is written `2.0`.
pub(super) fn count(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| {
        let float = value.as_f64()?;
        (float >= 0.0 && float <= EXACT && float.fract() == 0.0).then_some(float as u64)
    })
}
