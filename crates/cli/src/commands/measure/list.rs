//! Lists on the command line.

use std::str::FromStr;

/// Settings between commas. What follows a comma begins another setting unless it is `key=value`:
/// `q8,k2v2:sinks=4,residual=128,kivi2` is three.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingNames(pub Vec<String>);

impl FromStr for SettingNames {
    type Err = String;

    fn from_str(text: &str) -> Result<SettingNames, String> {
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
        if names.iter().any(String::is_empty) {
            return Err("expected settings such as f16 or k2v2:sinks=4,residual=128".to_string());
        }
        Ok(SettingNames(names))
    }
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
    use super::*;

    fn names(text: &str) -> Vec<String> {
        text.parse::<SettingNames>().unwrap().0
    }

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
    fn empty_settings_and_lengths_are_refused() {
        for text in ["", "q8,", ",q8", "q8,,f16"] {
            assert!(text.parse::<SettingNames>().is_err(), "{text}");
        }
        for text in ["", "0", "1", "2048,", "x", "999999999999"] {
            assert!(text.parse::<Lengths>().is_err(), "{text}");
        }
        assert_eq!("2048, 8192".parse(), Ok(Lengths(vec![2048, 8192])));
    }
}
