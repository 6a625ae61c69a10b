//! Numbers as Python spells them.

/// `repr` of a float: the shortest digits that give it, an exponent below 1e-4 and from 1e16.
pub(in super::super) fn repr(x: f64) -> String {
    if let Some(word) = not_finite(x) {
        return word.to_string();
    }
    let scientific = format!("{x:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    match exponent.parse::<i32>() {
        Ok(exponent) if x != 0.0 && !(-4..16).contains(&exponent) => with_exponent(digits, exponent),
        _ => format!("{x:?}"),
    }
}

fn not_finite(x: f64) -> Option<&'static str> {
    match (x.is_nan(), x.is_infinite(), x > 0.0) {
        (true, _, _) => Some("nan"),
        (_, true, true) => Some("inf"),
        (_, true, false) => Some("-inf"),
        _ => None,
    }
}

fn with_exponent(digits: &str, exponent: i32) -> String {
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// `%.{precision}f`
pub(super) fn fixed(x: f64, precision: usize) -> String {
    not_finite(x).map_or_else(|| format!("{x:.precision$}"), str::to_string)
}

/// `%.{precision}e`
pub(super) fn exponential(x: f64, precision: usize) -> String {
    if let Some(word) = not_finite(x) {
        return word.to_string();
    }
    let text = format!("{x:.precision$e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    with_exponent(digits, exponent.parse().unwrap_or(0))
}

/// `%.{precision}g`: `precision` digits in all, without zeros at the end.
pub(super) fn general(x: f64, precision: usize) -> String {
    if let Some(word) = not_finite(x) {
        return word.to_string();
    }
    let precision = precision.max(1);
    let scientific = format!("{x:.*e}", precision - 1);
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if x == 0.0 || (-4..precision as i32).contains(&exponent) {
        let decimals = usize::try_from(precision as i32 - 1 - exponent).unwrap_or(0);
        return without_zeros(&format!("{x:.decimals$}")).to_string();
    }
    with_exponent(without_zeros(digits), exponent)
}

fn without_zeros(digits: &str) -> &str {
    if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { digits }
}

/// Digits of a whole number with a mark after every `group` of them from the right.
pub(super) fn grouped(digits: &str, mark: char, group: usize) -> String {
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(group) {
            text.push(mark);
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_spelled_as_python_does() {
        let floats = [1.0, -0.0, 0.1, 1e15, 1e16, 1.5e300, 0.0001, 0.00001, -2.5e-7, f64::INFINITY, f64::NAN];
        let python = [
            "1.0",
            "-0.0",
            "0.1",
            "1000000000000000.0",
            "1e+16",
            "1.5e+300",
            "0.0001",
            "1e-05",
            "-2.5e-07",
            "inf",
            "nan",
        ];
        assert_eq!(floats.map(repr), python);
    }

    #[test]
    fn formats_are_those_of_c() {
        assert_eq!((fixed(2.675, 2), fixed(-1.0, 0)), ("2.67".into(), "-1".into()));
        assert_eq!((exponential(12345.678, 2), exponential(0.0, 1)), ("1.23e+04".into(), "0.0e+00".into()));
        let general: Vec<String> =
            [0.0, 100000.0, 1000000.0, 0.0001, 0.00001234, 1.5].map(|x| general(x, 6)).into();
        assert_eq!(general, ["0", "100000", "1e+06", "0.0001", "1.234e-05", "1.5"]);
        assert_eq!((grouped("1234567", ',', 3), grouped("12", ',', 3)), ("1,234,567".into(), "12".into()));
    }
}
