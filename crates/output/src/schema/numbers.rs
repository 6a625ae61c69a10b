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

/// The steps (`multipleOf`) of a schema, which the compiler may have to combine.
///
/// It follows a number digit by digit with a remainder of 32 bits, so what all steps have in common has to be small.
#[derive(Debug, Default)]
pub(super) struct Steps {
    seen: Vec<f64>,
}

impl Steps {
    /// The most that the least common multiple may be, in units of the last decimal place of any step.
    const MOST: u64 = 400_000_000;
    const MOST_DECIMALS: i32 = 6;

    /// Adds a step, or says why it cannot be enforced.
    pub(super) fn add(&mut self, step: f64) -> Result<(), String> {
        if !self.seen.contains(&step) {
            self.seen.push(step);
        }
        let whole = |decimals: i32| {
            let units = |step: &f64| (step * 10f64.powi(decimals)).round();
            let exact = |step: &f64| (units(step) / 10f64.powi(decimals)) == *step;
            self.seen.iter().all(exact).then(|| self.seen.iter().map(units).collect::<Vec<f64>>())
        };
        let units = (0..=Self::MOST_DECIMALS).find_map(whole).ok_or("it has more than 6 decimals")?;
        let common = units.into_iter().try_fold(1u64, |common, unit| {
            let unit = (unit <= Self::MOST as f64).then_some(unit as u64)?;
            Some(common / gcd(common, unit) * unit).filter(|common| *common <= Self::MOST)
        });
        common.map(|_| ()).ok_or_else(|| "the steps of the schema are too large together".to_string())
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// A count: a whole number, also if it is written `2.0`.
pub(super) fn count(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| {
        let float = value.as_f64()?;
        ((0.0..=EXACT).contains(&float) && float.fract() == 0.0).then_some(float as u64)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_small_together() {
        let all = |steps: &[f64]| {
            steps.iter().try_fold(Steps::default(), |mut all, &step| all.add(step).map(|()| all)).is_ok()
        };
        assert!(all(&[1.0, 0.01, 5.0, 7.0, 0.0075, 1000.0]));
        assert!(all(&[400_000_000.0]) && !all(&[400_000_001.0]));
        assert!(!all(&[99_991.0, 99_989.0]));
        assert!(!all(&[1e-7]) && !all(&[1.0 / 3.0]) && !all(&[123_456.0, 1e-6]));
    }
}
