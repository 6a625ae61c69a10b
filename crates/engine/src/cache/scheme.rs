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
//! sparse=E       a token skips pages that together are estimated to have a share E of its attention's weights at most
//!                (k2v2 … k4v4 only)
//! ```
//! A name belongs to a [`Family`]: one file, one line in [`FAMILIES`].

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use lossy_kernels::KvType;

use super::family::{Context, Family, KvSchemeError, KvStorage, Parsed, Rung};
use super::layer_list::{LayerList, MAX_LAYERS};
use super::layout::{CacheLayout, PackedLayers};
use super::{PAGE_TOKENS, calibrated, exact, kivi, q8};
use crate::parameters::{ParameterError, Parameters, Spelling, split};

/// The families of schemes.
const FAMILIES: [&Family; 4] = [&exact::FAMILY, &q8::FAMILY, &kivi::FAMILY, &calibrated::FAMILY];

/// Layers that are stored as another scheme stores them.
#[derive(Clone, Debug)]
struct Exceptions {
    layers: LayerList,
    storage: Arc<dyn KvStorage>,
}

impl fmt::Display for Exceptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.layers, self.storage.name())
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
        let layers = LayerList::new(layers.to_vec());
        let exceptions = Exceptions { layers, storage: other.storage.clone() };
        let scheme = KvScheme { exceptions: Some(exceptions), ..self.clone() };
        let refused = |error| KvSchemeError::Parameter { name: self.storage.name(), error };
        scheme.check_exceptions().map_err(refused)?;
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
    fn check_exceptions(&self) -> Result<(), ParameterError> {
        let Some(exceptions) = &self.exceptions else { return Ok(()) };
        let is_possible = match exceptions.storage.exact() {
            Some(kv_type) => kv_type == KvType::F16 && !self.is_exact(),
            None => exceptions.storage.transforms_values() == self.storage.transforms_values(),
        };
        let reads_all = exceptions.storage.sparsity().is_none();
        if is_possible && reads_all && !exceptions.layers.layers().is_empty() {
            return Ok(());
        }
        let expected = format!(
            "layers and f16, or a scheme that can stand beside {} (k2v2 … k4v4 with each other, q8 and kivi with each other)",
            self.storage.name()
        );
        Err(ParameterError::value("layers", exceptions, expected))
    }

    /// Names of all schemes, for messages.
    pub fn known() -> String {
        FAMILIES.map(|family| family.names).join(", ")
    }

    /// The schemes that are worth trying on any model, by rising bits. The last is exact.
    pub fn ladder() -> Vec<KvScheme> {
        let mut rungs: Vec<&Rung> = FAMILIES.iter().flat_map(|family| family.ladder).collect();
        rungs.sort_by(|a, b| a.bits.total_cmp(&b.bits));
        rungs.iter().map(|rung| rung.name.parse().expect("a test reads every rung")).collect()
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
        let mut named = self.exceptions.iter().flat_map(|exceptions| exceptions.layers.layers());
        if let Some(layer) = named.find(|layer| **layer >= n_layers) {
            return Err(KvSchemeError::Model {
                name: self.to_string(),
                reason: format!("there is no layer {layer}: it has {n_layers}, from 0"),
            });
        }
        let others = self.exceptions.as_ref().map(|exceptions| &exceptions.storage);
        let multiples = [Some(&self.storage), others].into_iter().flatten();
        let channel_multiple = multiples.map(|storage| storage.channel_multiple()).max().unwrap_or(1);
        let stored_dim = context.geometry.head_dim.next_multiple_of(channel_multiple);
        let mut codes = self.storage.codes(context, stored_dim)?;
        let as_it_is = exact::page_code(KvType::F16, stored_dim);
        if let Some(exceptions) = &self.exceptions {
            let others = match exceptions.storage.exact() {
                Some(_) => vec![as_it_is.clone(); n_layers],
                None => exceptions.storage.codes(context, stored_dim)?,
            };
            for &layer in exceptions.layers.layers() {
                codes[layer] = others[layer].clone();
            }
        }
        codes[..self.first].fill(as_it_is.clone());
        codes[n_layers - self.last..].fill(as_it_is);
        Ok(CacheLayout {
            name: self.to_string(),
            exact: KvType::F16,
            transforms_values: self.storage.transforms_values(),
            channel_multiple,
            packed: Some(PackedLayers {
                codes,
                sinks: self.sinks,
                window: self.storage.window(self.residual),
                sparsity: self.storage.sparsity(),
            }),
        })
    }
}

impl FromStr for KvScheme {
    type Err = KvSchemeError;

    fn from_str(text: &str) -> Result<KvScheme, KvSchemeError> {
        let (name, parameters) = split(text);
        let refused = |error| KvSchemeError::Parameter { name: name.to_owned(), error };
        let mut parameters = Parameters::parse(parameters).map_err(refused)?;
        let storage = storage(name, &mut parameters).ok_or_else(|| unknown(name))?.map_err(refused)?;
        KvScheme::with_shared(storage, parameters).map_err(refused)
    }
}

impl KvScheme {
    /// Reads what all schemes share.
    fn with_shared(
        storage: Arc<dyn KvStorage>,
        mut parameters: Parameters<'_>,
    ) -> Result<KvScheme, ParameterError> {
        let defaults = storage.defaults();
        let mut scheme = KvScheme {
            sinks: parameters.number("sinks")?.unwrap_or(defaults.sinks),
            residual: parameters.number("residual")?.unwrap_or(defaults.residual),
            exceptions: exceptions(&mut parameters)?,
            first: n_exact_layers(&mut parameters, "first")?,
            last: n_exact_layers(&mut parameters, "last")?,
            storage,
        };
        parameters.end()?;
        scheme.check_exceptions()?;
        if scheme.is_exact() {
            (scheme.sinks, scheme.residual, scheme.first, scheme.last) = (0, 0, 0, 0);
        }
        for (key, value, most) in
            [("sinks", scheme.sinks, PAGE_TOKENS - 1), ("residual", scheme.residual, 1 << 20)]
        {
            if value > most {
                return Err(ParameterError::value(key, value, format!("at most {most}")));
            }
        }
        Ok(scheme)
    }
}

/// The storage that `name` means; `None` if no family has the name.
fn storage(name: &str, parameters: &mut Parameters<'_>) -> Option<Parsed> {
    FAMILIES.iter().find_map(|family| (family.parse)(name, parameters))
}

/// `N:TYPE` under `key`.
fn n_exact_layers(parameters: &mut Parameters<'_>, key: &'static str) -> Result<usize, ParameterError> {
    let Some(value) = parameters.text(key) else { return Ok(0) };
    let number = value.split_once(':').filter(|(_, kind)| *kind == "f16").and_then(|(n, _)| n.parse().ok());
    number.ok_or_else(|| ParameterError::value(key, value, "a number of layers and f16, such as 2:f16"))
}

/// `LIST:NAME` under `layers`.
fn exceptions(parameters: &mut Parameters<'_>) -> Result<Option<Exceptions>, ParameterError> {
    let Some(value) = parameters.text("layers") else { return Ok(None) };
    let refused = |expected: String| Err(ParameterError::value("layers", value, expected));
    let Some((layers, name)) = value.split_once(':') else {
        return refused("layers and a scheme without parameters, such as 0+7-9:k4v4".to_owned());
    };
    let Some(storage) = storage(name, &mut Parameters::default()) else {
        return refused(format!("a scheme behind the layers, one of {}", KvScheme::known()));
    };
    match LayerList::parse(layers) {
        Some(layers) => Ok(Some(Exceptions { layers, storage: storage? })),
        None => refused(format!("layers from 0 to {}, such as 0+7-9:{name}", MAX_LAYERS - 1)),
    }
}

/// The error for a name of no family.
fn unknown(name: &str) -> KvSchemeError {
    let instead = match name {
        "q4_0" | "q4_1" | "iq4_nl" => "k4v4 has about the same size, k2v2 about half of it",
        "q5_0" | "q5_1" => "k4v4 is the next smaller one, q8 the next larger one",
        "bf16" => "f16 has the same size",
        _ => return KvSchemeError::Unknown { name: name.to_owned(), known: KvScheme::known() },
    };
    KvSchemeError::Foreign { name: name.to_owned(), instead }
}

impl fmt::Display for KvScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let defaults = self.storage.defaults();
        let exact_layers = |n: usize| (n != 0).then(|| format!("{n}:f16"));
        let text = Spelling::new(self.storage.name())
            .with("sinks", Some(self.sinks).filter(|n| *n != defaults.sinks))
            .with("residual", Some(self.residual).filter(|n| *n != defaults.residual))
            .with("layers", self.exceptions.as_ref())
            .with("first", exact_layers(self.first))
            .with("last", exact_layers(self.last));
        f.write_str(&text.end())
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
            "k2v2:sparse=0.1",
            "k4v2:calibration=none,sparse=0.05,residual=256",
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
        assert_eq!(scheme("k2v2:sparse=0").to_string(), "k2v2");
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
        for value in ["1", "-0.1", "nan", "inf", "x", ""] {
            assert!(
                error(&format!("k2v2:sparse={value}")).contains("from 0 (nothing is skipped) to below 1"),
                "{value}"
            );
        }
        assert!(error("f16:sparse=0.1").contains("no parameter `sparse`"));
        assert!(error("k2v2:depth=3").contains("no parameter `depth`"));
        assert!(error("k2v2:first=2:q8").contains("2:f16"));
        assert!(error("f16:group_size=32").contains("no parameter"));
        assert!(error("k2v2:layers=3").contains("0+7-9:k4v4"));
        assert!(error("k2v2:layers=3-1:k4v4").contains("layers from 0"));
        assert!(error("k2v2:layers=0-99999999:k4v4").contains("layers from 0"));
        assert!(error("k2v2:layers=0:x9").contains("one of f16"));
        assert!(error("k2v2:layers=0:q8").contains("beside k2v2"));
        assert!(error("k2v2:layers=0:f32").contains("beside k2v2"));
        assert!(error("f16:layers=0:k2v2").contains("beside f16"));
    }

    #[test]
    fn layers_are_named_once_and_in_order() {
        assert_eq!(scheme("k2v2:layers=7+0+1-2+1:f16").to_string(), "k2v2:layers=0-2+7:f16");
        let mixed = scheme("k2v2").with_layers(&[4, 2, 3, 2], &scheme("k3v3:sinks=0")).unwrap();
        assert_eq!(mixed.to_string(), "k2v2:layers=2-4:k3v3");
        assert!(scheme("k2v2").with_layers(&[0], &scheme("k3v3:sparse=0.1")).is_err());
        assert!(scheme("k2v2").with_layers(&[], &scheme("k3v3")).is_err());
        assert!(scheme("kivi2").with_layers(&[0], &scheme("k3v3")).is_err());
    }
}
