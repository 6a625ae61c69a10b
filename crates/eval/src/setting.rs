//! A setting: whatever differs from the reference.
//!
//! That is the way in which keys and values are stored, and the positions. Another lossy step is one more field, with its
//! words in the name: `k2v2 self-extend:group=8`, where what is as in the reference is not written.

use std::fmt;
use std::str::FromStr;

use lossy_engine::{ActivationKind, KvScheme, KvSchemeError, KvType, PositionError, PositionScheme};

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
pub enum InvalidSetting {
    /// its KV scheme
    #[error(transparent)]
    Kv(#[from] KvSchemeError),
    /// its positions
    #[error(transparent)]
    Positions(#[from] PositionError),
}

impl Setting {
    /// An exact cache, as the reference has it with these activations: f16, or f32 with float32 activations.
    pub fn exact(activations: ActivationKind) -> Setting {
        let kv_type = if activations == ActivationKind::F32 { KvType::F32 } else { KvType::F16 };
        KvScheme::exact(kv_type).into()
    }

    /// What a budget chooses from unless settings are named: the [ladder](KvScheme::ladder) of KV schemes, by rising bits.
    pub fn ladder() -> Vec<Setting> {
        KvScheme::ladder().into_iter().map(Setting::from).collect()
    }

    /// This setting with each of `positions`; itself where there are none.
    pub fn with_each(&self, positions: &[PositionScheme]) -> Vec<Setting> {
        if positions.is_empty() {
            return vec![self.clone()];
        }
        let with =
            |positions: &PositionScheme| Setting { kv: self.kv.clone(), positions: Some(positions.clone()) };
        positions.iter().map(with).collect()
    }
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
    type Err = InvalidSetting;

    fn from_str(text: &str) -> Result<Setting, InvalidSetting> {
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

    #[test]
    fn a_setting_meets_all_positions_and_the_ladder_ends_with_the_reference() {
        let positions = ["linear", "dca"].map(|name| name.parse::<PositionScheme>().unwrap());
        let setting: Setting = "k2v2".parse().unwrap();
        let names: Vec<String> = setting.with_each(&positions).iter().map(Setting::to_string).collect();
        assert_eq!(names, ["k2v2 linear", "k2v2 dca"]);
        assert_eq!(setting.with_each(&[]), std::slice::from_ref(&setting));
        assert_eq!(Setting::ladder().last(), Some(&Setting::exact(ActivationKind::Q8)));
        assert_eq!(Setting::exact(ActivationKind::F32).to_string(), "f32");
    }
}
