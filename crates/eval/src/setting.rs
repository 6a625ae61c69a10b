//! A setting: whatever differs from the reference.
//!
//! Today that is the way in which keys and values are stored. Another lossy step is one more field, with its words in the
//! name: `k2v2 STEP`, where what is as in the reference is not written.

use std::fmt;
use std::str::FromStr;

use lossy_engine::{KvScheme, KvSchemeError};

/// What differs from the reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// how keys and values are stored
    pub kv: KvScheme,
}

impl From<KvScheme> for Setting {
    fn from(kv: KvScheme) -> Setting {
        Setting { kv }
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kv)
    }
}

impl FromStr for Setting {
    type Err = KvSchemeError;

    fn from_str(text: &str) -> Result<Setting, KvSchemeError> {
        Ok(Setting { kv: text.parse()? })
    }
}

/// A setting as it is known before it is measured.
#[derive(Clone, Debug, PartialEq)]
pub struct SettingCost {
    /// the setting
    pub setting: Setting,
    /// bits that a cached number takes, metadata included
    pub bits_per_value: f64,
    /// of the cache
    pub bytes_per_token: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_read_as_it_is_printed() {
        for name in ["f16", "k2v2", "k2v2:layers=0+3:k4v4"] {
            assert_eq!(name.parse::<Setting>().unwrap().to_string(), name);
        }
        assert!("x9".parse::<Setting>().unwrap_err().to_string().contains("x9"));
    }
}
