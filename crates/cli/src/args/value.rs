//! Values of options, checked where they are read, with the accepted range in the error.

use std::ops::RangeInclusive;
use std::str::FromStr;

/// Reads a number in a range.
pub fn number_in(text: &str, range: RangeInclusive<f32>) -> Result<f32, String> {
    let (low, high) = (range.start(), range.end());
    match text.parse::<f32>() {
        Ok(value) if range.contains(&value) => Ok(value),
        _ if high.is_infinite() => Err(format!("expected a number of at least {low}")),
        _ => Err(format!("expected a number from {low} to {high}")),
    }
}

/// `TOKEN+BIAS` or `TOKEN-BIAS`, as llama.cpp has it: `15043+1`, `15043-2.5`, `15043-inf`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LogitBias {
    /// token id
    pub token: u32,
    /// added to its logit
    pub bias: f32,
}

impl FromStr for LogitBias {
    type Err = String;

    fn from_str(text: &str) -> Result<LogitBias, String> {
        let expected =
            || "expected TOKEN+BIAS or TOKEN-BIAS with a token id, such as 15043+1 or 15043-inf".to_string();
        let split = text.find(['+', '-']).ok_or_else(expected)?;
        let (token, bias) = text.split_at(split);
        let token = token.trim().parse().map_err(|_| expected())?;
        let bias: f32 = bias.parse().map_err(|_| expected())?;
        if bias.is_nan() || bias == f32::INFINITY {
            return Err(expected());
        }
        Ok(LogitBias { token, bias })
    }
}

/// `1,2,3`; a space may follow a comma.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenIds(pub Vec<u32>);

impl FromStr for TokenIds {
    type Err = String;

    fn from_str(text: &str) -> Result<TokenIds, String> {
        let text = text.trim().trim_start_matches('[').trim_end_matches(']');
        let ids = text.split(',').map(|id| {
            let id = id.trim();
            id.parse::<u32>().map_err(|_| format!("`{id}` is not a token id; expected numbers such as 1,2,3"))
        });
        Ok(TokenIds(ids.collect::<Result<_, _>>()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_outside_their_range_are_refused_with_the_range() {
        assert_eq!(number_in("0.5", 0.0..=1.0), Ok(0.5));
        for text in ["1.5", "-0.1", "nan", "x", ""] {
            assert_eq!(
                number_in(text, 0.0..=1.0),
                Err("expected a number from 0 to 1".to_string()),
                "{text}"
            );
        }
        assert_eq!(number_in("-1", 0.0..=f32::INFINITY), Err("expected a number of at least 0".to_string()));
    }

    #[test]
    fn a_bias_has_a_token_a_sign_and_a_number() {
        assert_eq!("15043+1".parse(), Ok(LogitBias { token: 15043, bias: 1.0 }));
        assert_eq!("7-2.5".parse(), Ok(LogitBias { token: 7, bias: -2.5 }));
        assert_eq!("7-inf".parse(), Ok(LogitBias { token: 7, bias: f32::NEG_INFINITY }));
        for text in ["7", "+1", "7+", "7+x", "7+nan", "7+inf", "-1+1", "hello+1"] {
            assert!(text.parse::<LogitBias>().is_err(), "{text}");
        }
    }

    #[test]
    fn ids_are_numbers_between_commas() {
        assert_eq!("1,2, 3".parse(), Ok(TokenIds(vec![1, 2, 3])));
        assert_eq!("[1,2]".parse(), Ok(TokenIds(vec![1, 2])));
        for text in ["", "1,,2", "1,x", "-1", "4294967296"] {
            assert!(text.parse::<TokenIds>().is_err(), "{text}");
        }
    }
}
