//! `model.safetensors.index.json`: which shard each tensor is in.
//!
//! ```text
//! {"metadata": {…}, "weight_map": {"NAME": "model-00001-of-00002.safetensors", …}}
//! ```
//!
//! A shard lies beside the index. Its name must be a plain one, so that an index cannot name files elsewhere; the file
//! itself may be a link, as it is in the hub's cache.

use super::error::HfError;
use crate::{name, without_bom};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Component, Path};

/// The tensors that the index says each shard has, by the shard's file name.
pub(crate) type Shards = BTreeMap<String, Vec<String>>;

#[derive(Deserialize)]
struct Index {
    weight_map: WeightMap,
}

/// Tensor and shard, in the order of the file, with tensors that come twice.
struct WeightMap(Vec<(String, String)>);

impl<'de> Deserialize<'de> for WeightMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;

        impl<'de> Visitor<'de> for Pairs {
            type Value = WeightMap;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object from tensor names to file names")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<WeightMap, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(WeightMap(pairs))
            }
        }

        deserializer.deserialize_map(Pairs)
    }
}

/// Reads the text of the index file at `path`.
pub(crate) fn parse(path: &Path, text: &[u8]) -> Result<Shards, HfError> {
    let Index { weight_map: WeightMap(mut pairs) } = serde_json::from_slice(without_bom(text))
        .map_err(|error| HfError::Json { path: path.to_owned(), error })?;
    if let Some((tensor, shard)) = pairs.iter().find(|(_, shard)| !is_plain(shard)) {
        let (tensor, shard) = (tensor.escape_debug().to_string(), shard.clone());
        return Err(HfError::ShardName { index: path.to_owned(), tensor, shard });
    }
    pairs.sort();
    if let Some(pair) = pairs.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(HfError::ListedTwice { index: path.to_owned(), tensor: pair[0].0.clone() });
    }
    let mut shards = Shards::new();
    for (tensor, shard) in pairs {
        shards.entry(shard).or_default().push(tensor);
    }
    Ok(shards)
}

/// Whether a name stays in its directory, on every system.
fn is_plain(name: &str) -> bool {
    let mut components = Path::new(name).components();
    let single = matches!((components.next(), components.next()), (Some(Component::Normal(_)), None));
    single && name::fault(name).is_none() && !name.contains(['/', '\\', ':'])
}

#[cfg(test)]
mod tests {
    use super::is_plain;

    #[test]
    fn only_names_that_stay_in_the_directory_are_plain() {
        assert!(is_plain("model-00001-of-00002.safetensors"));
        assert!(is_plain("a..b"));
        for name in ["", ".", "..", "/a", "a/", "./a", "../a", "a/b", "a\\b", "C:a", "a\0", "a\n"] {
            assert!(!is_plain(name), "{name:?}");
        }
    }
}
