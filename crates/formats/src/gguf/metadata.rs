//! The key-value part of a file.

use super::value::{Array, StringArray, Value};
use std::borrow::Cow;

/// Keys and values in the order of the file; keys are unique.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metadata {
    entries: Vec<(String, Value)>,
    /// Indices into `entries`, by key.
    sorted: Vec<usize>,
}

/// Why a value could not be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// The file does not say.
    #[error("key `{key}` is missing")]
    Missing {
        /// The key.
        key: String,
    },
    /// The value is something else.
    #[error("key `{key}` should be {wanted}, but is {found}")]
    WrongType {
        /// The key.
        key: String,
        /// What was asked for.
        wanted: &'static str,
        /// What the file has.
        found: String,
    },
    /// The value is of the right kind, but does not fit.
    #[error("key `{key}` is {value}, which is not {wanted}")]
    OutOfRange {
        /// The key.
        key: String,
        /// The value.
        value: i128,
        /// What was asked for.
        wanted: &'static str,
    },
}

/// Turns the absence of a key into `None`, and leaves other errors alone.
pub trait IfPresent<T> {
    /// `Ok(None)` for [`MetadataError::Missing`].
    ///
    /// # Errors
    /// When the key is there, but its value is not what was asked for.
    fn if_present(self) -> Result<Option<T>, MetadataError>;
}

impl<T> IfPresent<T> for Result<T, MetadataError> {
    fn if_present(self) -> Result<Option<T>, MetadataError> {
        match self {
            Ok(value) => Ok(Some(value)),
            Err(MetadataError::Missing { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Metadata {
    /// Metadata of these entries. `Err` is a key that comes twice.
    pub fn from_entries(entries: Vec<(String, Value)>) -> Result<Metadata, String> {
        let mut sorted: Vec<usize> = (0..entries.len()).collect();
        sorted.sort_by(|&a, &b| entries[a].0.cmp(&entries[b].0));
        match sorted.windows(2).find(|pair| entries[pair[0]].0 == entries[pair[1]].0) {
            Some(pair) => Err(entries[pair[0]].0.clone()),
            None => Ok(Metadata { entries, sorted }),
        }
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Keys and values in the order of the file.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        let found = self.sorted.binary_search_by(|&entry| self.entries[entry].0.as_str().cmp(key)).ok()?;
        Some(&self.entries[self.sorted[found]].1)
    }

    fn require(&self, key: &str) -> Result<&Value, MetadataError> {
        self.get(key).ok_or_else(|| MetadataError::Missing { key: key.to_owned() })
    }

    /// An integer of any width that is not negative.
    ///
    /// # Errors
    /// When the key is missing, not an integer, or negative.
    pub fn u64(&self, key: &str) -> Result<u64, MetadataError> {
        self.integer(key, "an integer that is not negative")
    }

    /// An integer of any width that fits.
    ///
    /// # Errors
    /// When the key is missing, not an integer, or out of range.
    pub fn u32(&self, key: &str) -> Result<u32, MetadataError> {
        self.integer(key, "an integer of 32 bits without sign")
    }

    /// An integer of any width that can count something in memory.
    ///
    /// # Errors
    /// When the key is missing, not an integer, or out of range.
    pub fn usize(&self, key: &str) -> Result<usize, MetadataError> {
        self.integer(key, "a count")
    }

    /// An integer of any width.
    ///
    /// # Errors
    /// When the key is missing, not an integer, or out of range.
    pub fn i64(&self, key: &str) -> Result<i64, MetadataError> {
        self.integer(key, "an integer of 64 bits")
    }

    fn integer<T: TryFrom<i128>>(&self, key: &str, wanted: &'static str) -> Result<T, MetadataError> {
        let value = self.require(key)?;
        let value = value.integer().ok_or_else(|| wrong_type(key, wanted, value))?;
        T::try_from(value).map_err(|_| MetadataError::OutOfRange { key: key.to_owned(), value, wanted })
    }

    /// A single or double, rounded to single.
    ///
    /// # Errors
    /// When the key is missing or not a float.
    pub fn f32(&self, key: &str) -> Result<f32, MetadataError> {
        match self.require(key)? {
            Value::F32(x) => Ok(*x),
            Value::F64(x) => Ok(*x as f32),
            other => Err(wrong_type(key, "a float", other)),
        }
    }

    /// A truth value.
    ///
    /// # Errors
    /// When the key is missing or not a bool.
    pub fn bool(&self, key: &str) -> Result<bool, MetadataError> {
        match self.require(key)? {
            Value::Bool(x) => Ok(*x),
            other => Err(wrong_type(key, "a bool", other)),
        }
    }

    /// A string.
    ///
    /// # Errors
    /// When the key is missing or not a string.
    pub fn str(&self, key: &str) -> Result<&str, MetadataError> {
        match self.require(key)? {
            Value::String(x) => Ok(x),
            other => Err(wrong_type(key, "a string", other)),
        }
    }

    /// An array of any type.
    ///
    /// # Errors
    /// When the key is missing or not an array.
    pub fn array(&self, key: &str) -> Result<&Array, MetadataError> {
        match self.require(key)? {
            Value::Array(x) => Ok(x),
            other => Err(wrong_type(key, "an array", other)),
        }
    }

    /// An array of strings.
    ///
    /// # Errors
    /// When the key is missing or not an array of strings.
    pub fn strings(&self, key: &str) -> Result<&StringArray, MetadataError> {
        match self.require(key)? {
            Value::Array(Array::String(x)) => Ok(x),
            other => Err(wrong_type(key, "an array of strings", other)),
        }
    }

    /// An array of singles, or of doubles rounded to singles.
    ///
    /// # Errors
    /// When the key is missing or not an array of floats.
    pub fn f32s(&self, key: &str) -> Result<Cow<'_, [f32]>, MetadataError> {
        match self.require(key)? {
            Value::Array(Array::F32(x)) => Ok(Cow::Borrowed(x)),
            Value::Array(Array::F64(x)) => Ok(x.iter().map(|&x| x as f32).collect()),
            other => Err(wrong_type(key, "an array of floats", other)),
        }
    }

    /// An array of integers of any width.
    ///
    /// # Errors
    /// When the key is missing, not an array of integers, or an element does not fit.
    pub fn i64s(&self, key: &str) -> Result<Vec<i64>, MetadataError> {
        let value = self.require(key)?;
        Ok(match value {
            Value::Array(Array::U8(x)) => x.iter().map(|&x| x.into()).collect(),
            Value::Array(Array::I8(x)) => x.iter().map(|&x| x.into()).collect(),
            Value::Array(Array::U16(x)) => x.iter().map(|&x| x.into()).collect(),
            Value::Array(Array::I16(x)) => x.iter().map(|&x| x.into()).collect(),
            Value::Array(Array::U32(x)) => x.iter().map(|&x| x.into()).collect(),
            Value::Array(Array::I32(x)) => x.iter().map(|&x| x.into()).collect(),
            Value::Array(Array::I64(x)) => x.clone(),
            Value::Array(Array::U64(x)) => x
                .iter()
                .map(|&x| {
                    i64::try_from(x).map_err(|_| MetadataError::OutOfRange {
                        key: key.to_owned(),
                        value: x.into(),
                        wanted: "an integer of 64 bits",
                    })
                })
                .collect::<Result<_, _>>()?,
            other => return Err(wrong_type(key, "an array of integers", other)),
        })
    }
}

fn wrong_type(key: &str, wanted: &'static str, found: &Value) -> MetadataError {
    let found = match found {
        Value::Array(array) => format!("an array of {}", array.element_type()),
        other => format!("of type {}", other.value_type()),
    };
    MetadataError::WrongType { key: key.to_owned(), wanted, found }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata() -> Metadata {
        let entries: [(&str, Value); 8] = [
            ("zebra", Value::from(7u16)),
            ("negative", Value::from(-1i32)),
            ("large", Value::from(u64::MAX)),
            ("rate", Value::from(0.5f64)),
            ("name", Value::from("ß")),
            ("flag", Value::from(true)),
            ("tokens", Value::from(vec!["a", "b"])),
            ("counts", Value::from(vec![1i32, -2])),
        ];
        Metadata::from_entries(entries.map(|(key, value)| (key.to_owned(), value)).to_vec()).unwrap()
    }

    #[test]
    fn integers_of_every_width_are_integers() {
        assert_eq!(metadata().u64("zebra"), Ok(7));
        assert_eq!(metadata().usize("zebra"), Ok(7));
        assert_eq!(metadata().i64("negative"), Ok(-1));
        assert_eq!(metadata().i64s("counts"), Ok(vec![1, -2]));
    }

    #[test]
    fn an_integer_that_does_not_fit_is_named() {
        let error = metadata().u64("negative").unwrap_err();
        assert_eq!(error.to_string(), "key `negative` is -1, which is not an integer that is not negative");
        assert!(matches!(metadata().u32("large"), Err(MetadataError::OutOfRange { .. })));
        assert_eq!(metadata().u64("large"), Ok(u64::MAX));
    }

    #[test]
    fn another_type_is_named() {
        let error = metadata().str("tokens").unwrap_err();
        assert_eq!(error.to_string(), "key `tokens` should be a string, but is an array of string");
        let error = metadata().f32("zebra").unwrap_err();
        assert_eq!(error.to_string(), "key `zebra` should be a float, but is of type u16");
    }

    #[test]
    fn absence_is_an_error_of_its_own() {
        assert_eq!(metadata().bool("absent"), Err(MetadataError::Missing { key: "absent".into() }));
        assert_eq!(metadata().bool("absent").if_present(), Ok(None));
        assert_eq!(metadata().bool("flag").if_present(), Ok(Some(true)));
        assert!(metadata().bool("name").if_present().is_err());
    }

    #[test]
    fn the_order_of_the_file_is_kept() {
        assert_eq!(metadata().iter().map(|(key, _)| key.to_owned()).next(), Some("zebra".to_owned()));
    }

    #[test]
    fn a_key_that_comes_twice_is_refused() {
        let twice = ["a", "b", "a"].map(|key| (key.to_owned(), Value::U8(0))).to_vec();
        assert_eq!(Metadata::from_entries(twice), Err("a".to_owned()));
    }
}
