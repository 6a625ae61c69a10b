//! A KV scheme: how keys and values are stored, as one string.
//!
//! ```text
//! NAME[:key=value,...]        k2v2 · kivi2:group_size=64 · k3v2:sinks=16,residual=256,first=2:f16
//!
//! sinks=N        the first N tokens stay exact
//! residual=N     so many recent tokens at least stay exact: whole pages of 128, and the one that is not full
//! layers=L:NAME  these layers are stored as the scheme NAME stores them: 0+7-9:k4v4, 29:f16
//! first=N:TYPE   the first N layers are stored exactly, as f16
//! last=N:TYPE    and the last N
//! ```
//! A name belongs to a [`Family`]: one file, one line in [`FAMILIES`].

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use lossy_kernels::KvType;

use super::code::PageCode;
use super::layout::{CacheLayout, PackedLayers, Window};
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
    /// What a token sees as it is, where so many recent tokens stay exact.
    fn window(&self, residual: usize) -> Window {
        Window::Pages(residual.div_ceil(PAGE_TOKENS))
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
    /// keys and values that are not stored together
    #[error("keys as {keys} with values as {values} are not stored here; {instead}")]
    Mixture {
        /// scheme of the keys
        keys: String,
        /// scheme of the values
        values: String,
        /// what to use
        instead: String,
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

    /// Whether `key` is there, with the one value that it may have.
    pub(super) fn flag(&mut self, key: &str, wanted: &str) -> Result<bool, KvSchemeError> {
        match self.take(&[key]) {
            Some((_, value)) if value == wanted => Ok(true),
            Some((key, value)) => Err(KvSchemeError::Parameter { key, value, expected: wanted.to_owned() }),
            None => Ok(false),
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

    /// `LIST:NAME` under `layers`.
    fn exceptions(&mut self) -> Result<Option<Exceptions>, KvSchemeError> {
        let Some((key, value)) = self.take(&["layers"]) else { return Ok(None) };
        let Some((layers, name)) = value.split_once(':') else {
            return Err(KvSchemeError::Parameter {
                key,
                value,
                expected: "layers and a scheme without parameters, such as 0+7-9:k4v4".to_owned(),
            });
        };
        let storage = storage(name, &mut Parameters(Vec::new()))?;
        match layer_list(layers) {
            Some(layers) => Ok(Some(Exceptions { layers, storage })),
            None => Err(KvSchemeError::Parameter {
                key,
                expected: format!("layers from 0 to {}, such as 0+7-9:{name}", MAX_LAYERS - 1),
                value,
            }),
        }
    }
}

/// More than any model has; bounds what a range in a scheme can stand for.
const MAX_LAYERS: usize = 1 << 12;

/// Layers that are stored as another scheme stores them.
#[derive(Clone, Debug)]
struct Exceptions {
    /// rising
    layers: Vec<usize>,
    storage: Arc<dyn KvStorage>,
}

/// `0+7-9`: rising, each once.
fn layer_list(text: &str) -> Option<Vec<usize>> {
    let mut layers = Vec::new();
    for part in text.split('+') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if first > last || last >= MAX_LAYERS {
            return None;
        }
        layers.extend(first..=last);
    }
    layers.sort_unstable();
    layers.dedup();
    Some(layers)
}

impl fmt::Display for Exceptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for range in self.layers.chunk_by(|a, b| a + 1 == *b) {
            match range {
                [layer] => write!(f, "{separator}{layer}")?,
                [first, second] => write!(f, "{separator}{first}+{second}")?,
                [first, .., last] => write!(f, "{separator}{first}-{last}")?,
                [] => {}
            }
            separator = "+";
        }
        write!(f, ":{}", self.storage.name())
    }
}

/// How keys and values are stored.
#[derive(Clone, Debug)]
pub struct KvScheme {
    storage: Arc<dyn KvStorage>,
    sinks: usize,
    residual: usize,
    exceptions: Option<Exceptions>,
    /// layers at both ends that are exact
    first: usize,
    last: usize,
}

impl KvScheme {
    /// Everything as it is.
    pub fn exact(kv_type: KvType) -> KvScheme {
        let storage = exact::storage(kv_type);
        KvScheme { storage, sinks: 0, residual: 0, exceptions: None, first: 0, last: 0 }
    }

    /// This scheme, but with `layers` stored as `other` stores them (without its sinks, residual and exceptions).
    ///
    /// # Errors
    /// The two store values in different spaces, or one layer cannot be as `other` has it.
    pub fn with_layers(&self, layers: &[usize], other: &KvScheme) -> Result<KvScheme, KvSchemeError> {
        let mut layers = layers.to_vec();
        layers.sort_unstable();
        layers.dedup();
        let exceptions = Exceptions { layers, storage: other.storage.clone() };
        let scheme = KvScheme { exceptions: Some(exceptions), ..self.clone() };
        scheme.check_exceptions()?;
        Ok(scheme)
    }

    /// Keys as `keys` has them, and values as `values` has them.
    ///
    /// # Errors
    /// They are not the same, and not both of k2v2 to k4v4 with the same parameters.
    pub fn mixed(keys: &KvScheme, values: &KvScheme) -> Result<KvScheme, KvSchemeError> {
        if keys == values {
            return Ok(keys.clone());
        }
        let refused = |instead: String| KvSchemeError::Mixture {
            keys: keys.to_string(),
            values: values.to_string(),
            instead,
        };
        let (k, v) = (keys.storage.name(), values.storage.name());
        let Some(name) = calibrated::mixed(&k, &v) else {
            let scheme = if keys.is_exact() && !values.is_exact() { values } else { keys };
            return Err(refused(format!("give {scheme} for both, or a mixture such as k4v2")));
        };
        let renamed = |scheme: &KvScheme| format!("{name}{}", &scheme.to_string()[name.len()..]);
        if renamed(keys) != renamed(values) {
            return Err(refused("give both the same parameters".to_owned()));
        }
        renamed(keys).parse()
    }

    /// All layers share one pool: they are exact, or have their values in one space.
    fn check_exceptions(&self) -> Result<(), KvSchemeError> {
        let Some(exceptions) = &self.exceptions else { return Ok(()) };
        let is_possible = match exceptions.storage.exact() {
            Some(kv_type) => kv_type == KvType::F16 && !self.is_exact(),
            None => exceptions.storage.transforms_values() == self.storage.transforms_values(),
        };
        if is_possible && !exceptions.layers.is_empty() {
            return Ok(());
        }
        Err(KvSchemeError::Parameter {
            key: "layers".to_owned(),
            value: exceptions.to_string(),
            expected: format!(
                "layers and f16, or a scheme that can stand beside {} (k2v2 … k4v4 with each other, q8 and kivi with each \
                 other)",
                self.storage.name()
            ),
        })
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
        let others =
            self.exceptions.as_ref().is_some_and(|exceptions| exceptions.storage.needs_calibration());
        self.storage.needs_calibration() || others
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
        let mut named = self.exceptions.iter().flat_map(|exceptions| &exceptions.layers);
        if let Some(layer) = named.find(|layer| **layer >= n_layers) {
            return Err(KvSchemeError::Model {
                name: self.to_string(),
                reason: format!("there is no layer {layer}: it has {n_layers}, from 0"),
            });
        }
        let mut codes = self.storage.codes(context)?;
        let as_it_is = exact::page_code(KvType::F16, context.geometry.head_dim);
        if let Some(exceptions) = &self.exceptions {
            let others = match exceptions.storage.exact() {
                Some(_) => vec![as_it_is.clone(); n_layers],
                None => exceptions.storage.codes(context)?,
            };
            for &layer in &exceptions.layers {
                codes[layer] = others[layer].clone();
            }
        }
        codes[..self.first].fill(as_it_is.clone());
        codes[n_layers - self.last..].fill(as_it_is);
        Ok(CacheLayout {
            name: self.to_string(),
            exact: KvType::F16,
            transforms_values: self.storage.transforms_values(),
            packed: Some(PackedLayers {
                codes,
                sinks: self.sinks,
                window: self.storage.window(self.residual),
            }),
        })
    }
}

impl FromStr for KvScheme {
    type Err = KvSchemeError;

    fn from_str(text: &str) -> Result<KvScheme, KvSchemeError> {
        let (name, parameters) = text.trim().split_once(':').unwrap_or((text.trim(), ""));
        let mut parameters = Parameters::parse(parameters)?;
        let storage = storage(name, &mut parameters)?;
        let defaults = storage.defaults();
        let mut scheme = KvScheme {
            sinks: parameters.number(&["sinks"])?.unwrap_or(defaults.sinks),
            residual: parameters.number(&["residual"])?.unwrap_or(defaults.residual),
            exceptions: parameters.exceptions()?,
            first: parameters.layers("first")?,
            last: parameters.layers("last")?,
            storage,
        };
        if let Some((key, _)) = parameters.0.pop() {
            return Err(KvSchemeError::UnknownParameter { name: name.to_owned(), key });
        }
        scheme.check_exceptions()?;
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

/// The storage that `name` means.
fn storage(name: &str, parameters: &mut Parameters) -> Parsed {
    let storage = FAMILIES.iter().find_map(|family| (family.parse)(name, parameters));
    storage.unwrap_or_else(|| Err(unknown(name)))
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
        if let Some(exceptions) = &self.exceptions {
            put(true, format!("layers={exceptions}"))?;
        }
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
            "kivi2:residual_length=256,sinks=4",
            "kivi4:residual_length=0",
            "kivi4:residual=128",
            "k2v2",
            "k4v2",
            "k2v2:calibration=none,sinks=16",
            "k3v3:sinks=16,residual=256,first=2:f16,last=1:f16",
            "k2v2:layers=0+3+5-9+28+29:k4v4",
            "kivi2:group_size=64,layers=1:q8,first=1:f16",
        ] {
            assert_eq!(scheme(text).to_string(), text);
            assert_eq!(scheme(&scheme(text).to_string()), scheme(text));
        }
    }

    #[test]
    fn defaults_are_not_printed_and_spaces_do_not_matter() {
        assert_eq!(scheme(" k2v2:residual=128 ").to_string(), "k2v2");
        assert_eq!(scheme("k2v2: sinks = 0 , residual=0").to_string(), "k2v2:sinks=0,residual=0");
    }

    #[test]
    fn what_cannot_be_is_an_error_that_says_what_can() {
        assert!(error("k2").contains("k2v2"));
        assert!(error("k2v2:calibration=some").contains("expected none"));
        assert!(error("").contains("f16"));
        assert!(error("k9v2").contains("unknown"));
        assert!(error("q4_0").contains("k4v4"));
        assert!(error("k2v2:sinks").contains("key=value"));
        assert!(error("k2v2:sinks=x").contains("a number"));
        assert!(error("k2v2:sinks=-1").contains("a number"));
        assert!(error("k2v2:sinks=1000").contains("at most 127"));
        assert!(error("kivi2:group_size=48").contains("32, 64 or 128"));
        assert!(error("kivi2:residual_length=32").contains("a multiple of 128"));
        assert!(error("kivi2:residual_length=128,residual=128").contains("residual_length or residual"));
        assert!(error("k2v2:residual_length=128").contains("no parameter `residual_length`"));
        assert!(error("k2v2:depth=3").contains("no parameter `depth`"));
        assert!(error("k2v2:first=2:q8").contains("2:f16"));
        assert!(error("f16:group_size=32").contains("no parameter"));
        assert!(error("k2v2:layers=3").contains("0+7-9:k4v4"));
        assert!(error("k2v2:layers=3-1:k4v4").contains("layers from 0"));
        assert!(error("k2v2:layers=0-99999999:k4v4").contains("layers from 0"));
        assert!(error("k2v2:layers=0:x9").contains("unknown"));
        assert!(error("k2v2:layers=0:q8").contains("beside k2v2"));
        assert!(error("k2v2:layers=0:f32").contains("beside k2v2"));
        assert!(error("f16:layers=0:k2v2").contains("beside f16"));
    }

    #[test]
    fn layers_are_named_once_and_in_order() {
        assert_eq!(scheme("k2v2:layers=7+0+1-2+1:f16").to_string(), "k2v2:layers=0-2+7:f16");
        let mixed = scheme("k2v2").with_layers(&[4, 2, 3, 2], &scheme("k3v3:sinks=0")).unwrap();
        assert_eq!(mixed.to_string(), "k2v2:layers=2-4:k3v3");
        assert!(scheme("k2v2").with_layers(&[], &scheme("k3v3")).is_err());
        assert!(scheme("kivi2").with_layers(&[0], &scheme("k3v3")).is_err());
    }
}
