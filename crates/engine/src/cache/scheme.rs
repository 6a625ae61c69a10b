//! A KV scheme: how keys and values are stored, as one string.
//!
//! ```text
//! NAME[:key=value,...]        k2v2 · kivi2:group_size=64 · k3v2:sinks=16,residual=256,first=2:f16
//!
//! sinks=N       the first N tokens stay exact
//! residual=N    so many recent tokens at least stay exact (whole pages of 128 are)
//! first=N:TYPE  the first N layers are stored exactly, as f16
//! last=N:TYPE   and the last N
//! ```
//! A name belongs to a [`Family`]: one file, one line in [`FAMILIES`].

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use lossy_kernels::KvType;

use super::code::PageCode;
use super::layout::{CacheLayout, PackedLayers};
use super::{Calibration, KvGeometry, PAGE_TOKENS, calibrated, exact, kivi, q8};

/// The families of schemes.
const FAMILIES: [&Family; 4] = [&exact::FAMILY, &q8::FAMILY, &kivi::FAMILY, &calibrated::FAMILY];

/// The storage that a name means, or why its parameters cannot be.
pub(super) type Parsed = Result<Arc<dyn KvStorage>, KvSchemeError>;

/// Schemes of one kind.
pub(super) struct Family {
    /// their names, for messages
    pub names: &'static str,
    /// the storage that a name means; `None` if the name is of another family
    pub parse: fn(name: &str, parameters: &mut Parameters) -> Option<Parsed>,
}

/// What a scheme needs to know of a model to be used with it.
pub struct Context<'a> {
    /// heads and layers
    pub geometry: &'a KvGeometry,
    /// statistics of its keys and values, if there are any
    pub calibration: Option<&'a Calibration>,
}

/// A way to store a layer's keys and values.
pub(super) trait KvStorage: fmt::Debug + Send + Sync {
    /// Its name, with those of its own parameters that are not the defaults.
    fn name(&self) -> String;
    /// Sinks and residual unless the user says otherwise.
    fn defaults(&self) -> Defaults;
    /// The type, if nothing is packed.
    fn exact(&self) -> Option<KvType> {
        None
    }
    /// Whether values come transformed.
    fn transforms_values(&self) -> bool {
        false
    }
    /// Whether statistics of the model are needed.
    fn needs_calibration(&self) -> bool {
        false
    }
    /// The code of each layer's pages.
    fn codes(&self, context: &Context<'_>) -> Result<Vec<Arc<dyn PageCode>>, KvSchemeError>;
}

/// Exact tokens at both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Defaults {
    pub sinks: usize,
    pub residual: usize,
}

/// Why a scheme cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KvSchemeError {
    /// no family has the name
    #[error("unknown KV scheme `{name}`; there are {known}")]
    Unknown {
        /// what was asked for
        name: String,
        /// names
        known: String,
    },
    /// another engine's name for what is not stored that way here
    #[error("KV scheme `{name}` is llama.cpp's and not stored here; {instead}")]
    Foreign {
        /// what was asked for
        name: String,
        /// what to use
        instead: &'static str,
    },
    /// a parameter that the scheme does not have
    #[error("KV scheme `{name}` has no parameter `{key}`")]
    UnknownParameter {
        /// the scheme
        name: String,
        /// the parameter
        key: String,
    },
    /// a parameter with a value that cannot be
    #[error("`{key}={value}`: expected {expected}")]
    Parameter {
        /// the parameter
        key: String,
        /// what was given
        value: String,
        /// what is possible
        expected: String,
    },
    /// the model does not fit
    #[error("KV scheme `{name}` cannot be used with this model: {reason}")]
    Model {
        /// the scheme
        name: String,
        /// why, and what to do
        reason: String,
    },
    /// there are no statistics yet
    #[error("KV scheme `{name}` needs the model to be calibrated first")]
    NotCalibrated {
        /// the scheme
        name: String,
    },
}

/// The `key=value` parts of a scheme that are still to be read.
#[derive(Debug)]
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    fn parse(text: &str) -> Result<Parameters, KvSchemeError> {
        let parts = text.split(',').filter(|part| !part.trim().is_empty());
        let pairs = parts.map(|part| match part.split_once('=') {
            Some((key, value)) => Ok((key.trim().to_owned(), value.trim().to_owned())),
            None => Err(KvSchemeError::Parameter {
                key: part.trim().to_owned(),
                value: String::new(),
                expected: "key=value".to_owned(),
            }),
        });
        Ok(Parameters(pairs.collect::<Result<_, _>>()?))
    }

    /// The value of one of `keys`, which is taken out.
    fn take(&mut self, keys: &[&str]) -> Option<(String, String)> {
        let index = self.0.iter().position(|(key, _)| keys.contains(&key.as_str()))?;
        Some(self.0.remove(index))
    }

    /// The number called one of `keys`, if it is there.
    pub(super) fn number(&mut self, keys: &[&str]) -> Result<Option<usize>, KvSchemeError> {
        let Some((key, value)) = self.take(keys) else { return Ok(None) };
        match value.parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(KvSchemeError::Parameter { key, value, expected: "a number".to_owned() }),
        }
    }

    /// `N:TYPE` under `key`.
    fn layers(&mut self, key: &str) -> Result<usize, KvSchemeError> {
        let Some((key, value)) = self.take(&[key]) else { return Ok(0) };
        let number =
            value.split_once(':').filter(|(_, kind)| *kind == "f16").and_then(|(n, _)| n.parse().ok());
        number.ok_or(KvSchemeError::Parameter {
            key,
            value,
            expected: "a number of layers and f16, such as 2:f16".to_owned(),
        })
    }
}

/// How keys and values are stored.
#[derive(Clone, Debug)]
pub struct KvScheme {
    storage: Arc<dyn KvStorage>,
    sinks: usize,
    residual: usize,
    /// layers at both ends that are exact
    first: usize,
    last: usize,
}

impl KvScheme {
    /// Everything as it is.
    pub fn exact(kv_type: KvType) -> KvScheme {
        KvScheme { storage: exact::storage(kv_type), sinks: 0, residual: 0, first: 0, last: 0 }
    }

    /// Names of all schemes, for messages.
    pub fn known() -> String {
        FAMILIES.map(|family| family.names).join(", ")
    }

    /// Whether nothing is packed.
    pub fn is_exact(&self) -> bool {
        self.storage.exact().is_some()
    }

    /// Whether statistics of the model are needed.
    pub fn needs_calibration(&self) -> bool {
        self.storage.needs_calibration()
    }

    /// Tokens that stay exact at the beginning.
    pub fn sinks(&self) -> usize {
        self.sinks
    }

    /// Recent tokens that stay exact at least.
    pub fn residual(&self) -> usize {
        self.residual
    }

    /// The cache of a model in this scheme.
    ///
    /// # Errors
    /// The scheme does not fit the model, or needs a calibration that is not there.
    pub fn layout(&self, context: &Context<'_>) -> Result<CacheLayout, KvSchemeError> {
        if let Some(kv_type) = self.storage.exact() {
            return Ok(CacheLayout::exact(kv_type));
        }
        let n_layers = context.geometry.n_layers;
        if self.first + self.last > n_layers {
            return Err(KvSchemeError::Model {
                name: self.to_string(),
                reason: format!(
                    "first and last name {} layers, but it has {n_layers}",
                    self.first + self.last
                ),
            });
        }
        let mut codes = self.storage.codes(context)?;
        let as_it_is = exact::page_code(KvType::F16, context.geometry.head_dim);
        codes[..self.first].fill(as_it_is.clone());
        codes[n_layers - self.last..].fill(as_it_is);
        Ok(CacheLayout {
            name: self.to_string(),
            exact: KvType::F16,
            transforms_values: self.storage.transforms_values(),
            packed: Some(PackedLayers {
                codes,
                sinks: self.sinks,
                recent_pages: self.residual.div_ceil(PAGE_TOKENS),
            }),
        })
    }
}

impl FromStr for KvScheme {
    type Err = KvSchemeError;

    fn from_str(text: &str) -> Result<KvScheme, KvSchemeError> {
        let (name, parameters) = text.trim().split_once(':').unwrap_or((text.trim(), ""));
        let mut parameters = Parameters::parse(parameters)?;
        let storage = FAMILIES.iter().find_map(|family| (family.parse)(name, &mut parameters));
        let storage = storage.unwrap_or_else(|| Err(unknown(name)))?;
        let defaults = storage.defaults();
        let mut scheme = KvScheme {
            sinks: parameters.number(&["sinks"])?.unwrap_or(defaults.sinks),
            residual: parameters.number(&["residual", "residual_length"])?.unwrap_or(defaults.residual),
            first: parameters.layers("first")?,
            last: parameters.layers("last")?,
            storage,
        };
        if let Some((key, _)) = parameters.0.pop() {
            return Err(KvSchemeError::UnknownParameter { name: name.to_owned(), key });
        }
        if scheme.is_exact() {
            (scheme.sinks, scheme.residual, scheme.first, scheme.last) = (0, 0, 0, 0);
        }
        let check = |key: &str, value: usize, most: usize| {
            let expected = format!("at most {most}");
            let error = KvSchemeError::Parameter { key: key.to_owned(), value: value.to_string(), expected };
            if value <= most { Ok(()) } else { Err(error) }
        };
        check("sinks", scheme.sinks, PAGE_TOKENS - 1)?;
        check("residual", scheme.residual, 1 << 20)?;
        Ok(scheme)
    }
}

/// The error for a name of no family.
fn unknown(name: &str) -> KvSchemeError {
    let instead = match name {
        "q4_0" | "q4_1" | "iq4_nl" => "k4v4 takes as many bits, k2v2 about half as many",
        "q5_0" | "q5_1" => "k4v4 is the next smaller, f16 the next larger",
        "bf16" => "f16 takes as many bits",
        _ => return KvSchemeError::Unknown { name: name.to_owned(), known: KvScheme::known() },
    };
    KvSchemeError::Foreign { name: name.to_owned(), instead }
}

impl fmt::Display for KvScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.storage.name();
        f.write_str(&name)?;
        let defaults = self.storage.defaults();
        let mut separator = if name.contains(':') { ',' } else { ':' };
        let mut put = |is_there: bool, text: String| {
            if is_there {
                write!(f, "{separator}{text}")?;
                separator = ',';
            }
            Ok(())
        };
        put(self.sinks != defaults.sinks, format!("sinks={}", self.sinks))?;
        put(self.residual != defaults.residual, format!("residual={}", self.residual))?;
        put(self.first != 0, format!("first={}:f16", self.first))?;
        put(self.last != 0, format!("last={}:f16", self.last))
    }
}

impl PartialEq for KvScheme {
    fn eq(&self, other: &KvScheme) -> bool {
        self.to_string() == other.to_string()
    }
}

impl Eq for KvScheme {}

#[cfg(test)]
mod tests {
    use super::*;

    fn scheme(text: &str) -> KvScheme {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn error(text: &str) -> String {
        text.parse::<KvScheme>().expect_err(text).to_string()
    }

    #[test]
    fn a_scheme_is_printed_as_it_is_read() {
        for text in [
            "f16",
            "f32",
            "q8",
            "kivi2",
            "kivi4:group_size=64",
            "kivi2:group_size=64,residual=256",
            "k2v2",
            "k4v2",
            "k3v3:sinks=16,residual=256,first=2:f16,last=1:f16",
        ] {
            assert_eq!(scheme(text).to_string(), text);
            assert_eq!(scheme(&scheme(text).to_string()), scheme(text));
        }
    }

    #[test]
    fn defaults_are_not_printed_and_spaces_do_not_matter() {
        assert_eq!(scheme(" k2v2:residual=128 ").to_string(), "k2v2");
        assert_eq!(scheme("k2v2: sinks = 0 , residual_length=0").to_string(), "k2v2:sinks=0,residual=0");
    }

    #[test]
    fn what_cannot_be_is_an_error_that_says_what_can() {
        assert!(error("k2").contains("k2v2"));
        assert!(error("").contains("f16"));
        assert!(error("k9v2").contains("unknown"));
        assert!(error("q4_0").contains("k4v4"));
        assert!(error("k2v2:sinks").contains("key=value"));
        assert!(error("k2v2:sinks=x").contains("a number"));
        assert!(error("k2v2:sinks=-1").contains("a number"));
        assert!(error("k2v2:sinks=1000").contains("at most 127"));
        assert!(error("kivi2:group_size=48").contains("32, 64 or 128"));
        assert!(error("k2v2:depth=3").contains("no parameter `depth`"));
        assert!(error("k2v2:first=2:q8").contains("2:f16"));
        assert!(error("f16:group_size=32").contains("no parameter"));
    }
}
