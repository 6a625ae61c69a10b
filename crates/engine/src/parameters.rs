//! `NAME[:key=value,…]`: how KV schemes and positions are spelled, read and written.
//!
//! Spaces around names, keys and values do not matter, nor do empty parts. What a value means, and which values there are,
//! is said by whoever asks for it.

use std::fmt::Display;
use std::str::FromStr;

/// Why a parameter is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParameterError {
    /// a value that is malformed or out of range
    #[error("`{parameter}`: expected {expected}")]
    Value {
        /// as it was given: `key=value`
        parameter: String,
        /// what is possible
        expected: String,
    },
    /// a key that the scheme does not have
    #[error("no parameter `{key}`; there {known}")]
    Unknown {
        /// as it was given
        key: String,
        /// the keys that there are, with a verb
        known: String,
    },
}

impl ParameterError {
    /// `key=value` is not one of those that are `expected`.
    pub(crate) fn value(key: &str, value: impl Display, expected: impl Into<String>) -> ParameterError {
        ParameterError::Value { parameter: format!("{key}={value}"), expected: expected.into() }
    }
}

/// Name and parameters, which are still to be [parsed](Parameters::parse).
pub(crate) fn split(text: &str) -> (&str, &str) {
    let (name, parameters) = text.split_once(':').unwrap_or((text, ""));
    (name.trim(), parameters)
}

/// The parameters that nobody has asked for yet.
#[derive(Debug, Default)]
pub(crate) struct Parameters<'a> {
    rest: Vec<(&'a str, &'a str)>,
    /// keys that were asked for
    known: Vec<&'static str>,
}

impl<'a> Parameters<'a> {
    /// `key=value,…`
    pub(crate) fn parse(text: &'a str) -> Result<Parameters<'a>, ParameterError> {
        let mut rest: Vec<(&str, &str)> = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let refused = |expected: &str| ParameterError::Value {
                parameter: part.to_owned(),
                expected: expected.to_owned(),
            };
            let (key, value) = part.split_once('=').ok_or_else(|| refused("key=value"))?;
            let (key, value) = (key.trim(), value.trim());
            if rest.iter().any(|(known, _)| *known == key) {
                return Err(refused(&format!("`{key}` once")));
            }
            rest.push((key, value));
        }
        Ok(Parameters { rest, known: Vec::new() })
    }

    /// The value of `key` as it is written.
    pub(crate) fn text(&mut self, key: &'static str) -> Option<&'a str> {
        self.known.push(key);
        let index = self.rest.iter().position(|(found, _)| *found == key)?;
        Some(self.rest.remove(index).1)
    }

    /// The value of `key`.
    pub(crate) fn value<T: FromStr>(
        &mut self,
        key: &'static str,
        expected: &str,
    ) -> Result<Option<T>, ParameterError> {
        let Some(value) = self.text(key) else { return Ok(None) };
        value.parse().map(Some).map_err(|_| ParameterError::value(key, value, expected))
    }

    /// The number called `key`.
    pub(crate) fn number(&mut self, key: &'static str) -> Result<Option<usize>, ParameterError> {
        self.value(key, "a number")
    }

    /// Whether `key` is `on` or `off`.
    pub(crate) fn switch(&mut self, key: &'static str) -> Result<Option<bool>, ParameterError> {
        match self.text(key) {
            None => Ok(None),
            Some("on") => Ok(Some(true)),
            Some("off") => Ok(Some(false)),
            Some(other) => Err(ParameterError::value(key, other, "on or off")),
        }
    }

    /// Whether `key` is there, with the one value that it may have.
    pub(crate) fn flag(&mut self, key: &'static str, wanted: &str) -> Result<bool, ParameterError> {
        match self.text(key) {
            None => Ok(false),
            Some(value) if value == wanted => Ok(true),
            Some(value) => Err(ParameterError::value(key, value, wanted)),
        }
    }

    /// All parameters have been asked for.
    pub(crate) fn end(self) -> Result<(), ParameterError> {
        let Some((key, _)) = self.rest.first() else { return Ok(()) };
        let known = match self.known.as_slice() {
            [] => "are none".to_owned(),
            [key] => format!("is {key}"),
            keys => format!("are {}", keys.join(", ")),
        };
        Err(ParameterError::Unknown { key: (*key).to_owned(), known })
    }
}

/// Writes what [`Parameters`] reads.
#[derive(Debug)]
pub(crate) struct Spelling(String);

impl Spelling {
    /// A name, which may have parameters already.
    pub(crate) fn new(name: impl Into<String>) -> Spelling {
        Spelling(name.into())
    }

    /// And a parameter, if it has a value.
    pub(crate) fn with(mut self, key: &str, value: Option<impl Display>) -> Spelling {
        if let Some(value) = value {
            let separator = if self.0.contains(':') { ',' } else { ':' };
            self.0.push_str(&format!("{separator}{key}={value}"));
        }
        self
    }

    /// And a switch, if it is set.
    pub(crate) fn with_switch(self, key: &str, value: Option<bool>) -> Spelling {
        self.with(key, value.map(|is_on| if is_on { "on" } else { "off" }))
    }

    /// The whole.
    pub(crate) fn end(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Parameters<'_> {
        Parameters::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn values_are_read_by_key_in_any_order() {
        assert_eq!(split(" name : a=1,b=on"), ("name", " a=1,b=on"));
        let mut parameters = parse(" b = on ,, a=1, c=none, d=x:y ");
        assert_eq!(parameters.number("a"), Ok(Some(1)));
        assert_eq!(parameters.number("e"), Ok(None));
        assert_eq!(parameters.switch("b"), Ok(Some(true)));
        assert_eq!(parameters.flag("c", "none"), Ok(true));
        assert_eq!(parameters.text("d"), Some("x:y"));
        assert_eq!(parameters.end(), Ok(()));
    }

    #[test]
    fn what_is_refused_says_what_is_possible() {
        let error = |result: Result<(), ParameterError>| result.expect_err("refused").to_string();
        assert_eq!(error(Parameters::parse("a").map(drop)), "`a`: expected key=value");
        assert_eq!(error(Parameters::parse("a=1,a=2").map(drop)), "`a=2`: expected `a` once");
        assert_eq!(error(parse("a=-1").number("a").map(drop)), "`a=-1`: expected a number");
        assert_eq!(error(parse("a=1").switch("a").map(drop)), "`a=1`: expected on or off");
        assert_eq!(error(parse("a=1").flag("a", "none").map(drop)), "`a=1`: expected none");
        let mut parameters = parse("d=3");
        assert_eq!(error(parse("d=3").end()), "no parameter `d`; there are none");
        let _ = (parameters.text("a"), parameters.text("b"));
        assert_eq!(error(parameters.end()), "no parameter `d`; there are a, b");
    }

    #[test]
    fn what_is_written_is_read_again() {
        let text = Spelling::new("name")
            .with("a", Some(1))
            .with("b", None::<usize>)
            .with_switch("c", Some(false))
            .end();
        assert_eq!(text, "name:a=1,c=off");
        let mut parameters = parse(split(&text).1);
        assert_eq!((parameters.number("a"), parameters.switch("c")), (Ok(Some(1)), Ok(Some(false))));
    }
}
