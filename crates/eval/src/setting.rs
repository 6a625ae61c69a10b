//! A setting: whatever differs from the reference.
//!
//! That is the way in which keys and values are stored, and the positions. Another lossy step is one more field, with its
//! words in the name: `k2v2 self-extend:group=8`, where what is as in the reference is not written.

use std::fmt;
use std::str::FromStr;

use lossy_engine::{KvScheme, KvSchemeError, PositionError, PositionScheme};

/// What differs from the reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// how keys and values are stored
    pub kv: KvScheme,
    /// how positions are told to the model; `None`: as to the reference
    pub positions: Option<PositionScheme>,
}

/// Why a setting is invalid.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SettingError {
    /// its KV scheme cannot be
    #[error(transparent)]
    Kv(#[from] KvSchemeError),
    /// its positions cannot be
    #[error(transparent)]
    Positions(#[from] PositionError),
}

impl From<KvScheme> for Setting {
    fn from(kv: KvScheme) -> Setting {
        Setting { kv, positions: None }
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kv)?;
        self.positions.as_ref().map_or(Ok(()), |positions| write!(f, " {positions}"))
    }
}

impl FromStr for Setting {
    type Err = SettingError;

    fn from_str(text: &str) -> Result<Setting, SettingError> {
        let (kv, positions) = match text.trim().split_once(' ') {
            Some((kv, positions)) => (kv, Some(positions.parse()?)),
            None => (text, None),
        };
        Ok(Setting { kv: kv.parse()?, positions })
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
        for name in ["f16", "k2v2", "k2v2:layers=0+3:k4v4", "k2v2 self-extend:group=8,window=1024"] {
            assert_eq!(name.parse::<Setting>().unwrap().to_string(), name);
        }
        assert!("x9".parse::<Setting>().unwrap_err().to_string().contains("x9"));
    }
}
