//! Lists on the command line.

use std::fmt::Display;
use std::str::FromStr;

/// Settings, schemes or position maps between commas. What follows a comma begins another one unless it is `key=value`:
/// `q8,k2v2:sinks=4,residual=128,kivi2` is three.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed<T>(pub Vec<T>);

impl<T: FromStr<Err: Display>> FromStr for Listed<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Listed<T>, String> {
        let parse = |name: &String| match name.as_str() {
            "" => Err("there is nothing between two commas".to_string()),
            name => name.parse().map_err(|error: T::Err| error.to_string()),
        };
        names(text).iter().map(parse).collect::<Result<_, _>>().map(Listed)
    }
}

fn names(text: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for part in text.split(',') {
        match names.last_mut() {
            Some(name) if is_key_value(part) => {
                name.push(',');
                name.push_str(part);
            }
            _ => names.push(part.trim().to_string()),
        }
    }
    names
}

fn is_key_value(part: &str) -> bool {
    let is_key = |key: &str| {
        !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
    };
    part.split_once('=').is_some_and(|(key, _)| is_key(key.trim()))
}

/// Context lengths between commas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lengths(pub Vec<usize>);

impl FromStr for Lengths {
    type Err = String;

    fn from_str(text: &str) -> Result<Lengths, String> {
        const MAX: usize = 1 << 27;
        let length = |part: &str| {
            let length = part.trim().parse().ok().filter(|length| (2..=MAX).contains(length));
            length.ok_or_else(|| "expected numbers of tokens such as 2048 or 2048,8192".to_string())
        };
        text.split(',').map(length).collect::<Result<_, _>>().map(Lengths)
    }
}

#[cfg(test)]
mod tests {
    use lossy_eval::Setting;

    use super::*;

    #[test]
    fn a_comma_before_key_and_value_does_not_end_a_setting() {
        assert_eq!(names("f16"), ["f16"]);
        assert_eq!(names("f16,q8, kivi2"), ["f16", "q8", "kivi2"]);
        assert_eq!(
            names("q8,k2v2:sinks=4,residual=128,kivi2:group_size=32,kivi4"),
            ["q8", "k2v2:sinks=4,residual=128", "kivi2:group_size=32", "kivi4"]
        );
    }

    #[test]
    fn a_setting_that_does_not_exist_is_named() {
        let error = "k2v2,x9".parse::<Listed<Setting>>().unwrap_err();
        assert!(error.contains("x9"), "{error}");
    }

    #[test]
    fn empty_settings_and_lengths_are_refused() {
        for text in ["", "q8,", ",q8", "q8,,f16"] {
            let error = text.parse::<Listed<Setting>>().unwrap_err();
            assert_eq!(error, "there is nothing between two commas", "{text}");
        }
        for text in ["", "0", "1", "2048,", "x", "999999999999"] {
            assert!(text.parse::<Lengths>().is_err(), "{text}");
        }
        assert_eq!("2048, 8192".parse(), Ok(Lengths(vec![2048, 8192])));
    }
}
