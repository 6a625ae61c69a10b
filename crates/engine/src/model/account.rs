//! The account of a file: every tensor and every key of the configuration is computed, known to change nothing, or told.
//!
//! What is known to change the result and is not computed is an error in any case. What is not known may change it: by
//! default the model is refused ([`Unread::Refuse`]), and whoever wants to go on without it is told each time.

use std::collections::HashSet;

use lossy_formats::gguf::{Array, Gguf, Value};
use lossy_formats::hf::HfDir;
use serde_json::Value as Json;

use super::ModelSource;
use super::keys::{self, Verdict, verdict};
use super::tensors::{self, BiasGroup, Expected};
use crate::{LoadError, Unread, UnreadParts};

/// What a file was found to have.
#[derive(Debug, Default)]
pub(super) struct Account {
    /// groups of biases that every layer has
    pub biases: Vec<BiasGroup>,
    /// the output matrix is a tensor of its own
    pub has_own_output: bool,
    pub unread: UnreadParts,
}

impl Account {
    /// Checks names and shapes of all tensors, and all keys of the configuration.
    ///
    /// # Errors
    /// A tensor is missing or of another shape, the configuration contradicts the tensors, or asks for something that is
    /// not computed.
    pub(super) fn of(source: &ModelSource) -> Result<Account, LoadError> {
        let info = source.info();
        let mut account = Account {
            unread: UnreadParts { keys: unread_keys(source)?, ..Default::default() },
            ..Default::default()
        };
        let mut wanted = tensors::weights(info);
        let has = |expected: &Expected| source.tensor(&expected.name).is_some();
        for group in BiasGroup::ALL {
            let biases = tensors::biases(info, group);
            let found = biases.iter().find(|bias| has(bias));
            if source.has_biases(group, found.map(|bias| bias.name.as_str()))? {
                account.biases.push(group);
                wanted.extend(biases);
            }
        }
        let output = tensors::output(info);
        account.has_own_output = source.has_own_output()?;
        if has(&output) {
            wanted.push(output);
        }
        for Expected { name, shape } in &wanted {
            source.tensor_of_shape(name, shape)?;
        }
        let names: HashSet<String> = wanted.iter().map(|expected| source.own_name(&expected.name)).collect();
        let others = source.tensors().map(|tensor| tensor.name).filter(|name| {
            !names.contains(*name) && !tensors::changes_nothing(name) && !source.is_of_rotation(name)
        });
        account.unread.tensors = others.map(str::to_owned).collect();
        Ok(account)
    }
}

impl Account {
    /// Tells what is not read, or refuses the model for it.
    ///
    /// # Errors
    /// [`LoadError::Unread`] if there is something and it is to be refused.
    pub(super) fn tell(&self, unread: &Unread) -> Result<(), LoadError> {
        match unread {
            _ if self.unread == UnreadParts::default() => Ok(()),
            Unread::Refuse => Err(LoadError::Unread(self.unread.clone())),
            Unread::Warn(warn) => {
                warn(&self.unread);
                Ok(())
            }
        }
    }
}

/// The keys that no table has.
fn unread_keys(source: &ModelSource) -> Result<Vec<String>, LoadError> {
    match (source.gguf(), source.hf()) {
        (Some(gguf), _) => unread_keys_of_gguf(gguf, &source.info().architecture),
        (_, Some(dir)) => unread_keys_of_hf(dir),
        (None, None) => Ok(Vec::new()),
    }
}

fn unread_keys_of_gguf(gguf: &Gguf, architecture: &str) -> Result<Vec<String>, LoadError> {
    let mut unread = Vec::new();
    for (key, value) in gguf.metadata().iter() {
        let own = key.strip_prefix(architecture).and_then(|rest| rest.strip_prefix('.'));
        let json = plain_json(value);
        let found = match own {
            Some(own) => verdict(keys::gguf::ARCHITECTURE, own, &json),
            None => verdict(keys::gguf::GENERAL, key, &json),
        };
        match found {
            Verdict::Fine => {}
            Verdict::Refused(wanted) => return Err(refused(&format!("key `{key}`"), &json, &wanted)),
            // A name of its own before the point belongs to whoever made the file, by GGUF's specification, and no other
            // program computes by it; but for the name of an architecture.
            Verdict::Unread if own.is_some() || super::Family::of_gguf(before_point(key)).is_some() => {
                unread.push(format!("{key} = {json}"));
            }
            Verdict::Unread if !key.contains('.') => unread.push(format!("{key} = {json}")),
            Verdict::Unread => {}
        }
    }
    Ok(unread)
}

fn before_point(key: &str) -> &str {
    key.split('.').next().unwrap_or(key)
}

fn unread_keys_of_hf(dir: &HfDir) -> Result<Vec<String>, LoadError> {
    let mut unread = Vec::new();
    let mut look = |prefix: &str, table: &[keys::Row], object: &Json| {
        for (key, value) in object.as_object().into_iter().flatten() {
            match verdict(table, key, value) {
                Verdict::Fine => {}
                Verdict::Refused(wanted) => {
                    return Err(refused(&format!("config.json: `{prefix}{key}`"), value, &wanted));
                }
                Verdict::Unread => unread.push(format!("{prefix}{key} = {}", shortened(value))),
            }
        }
        Ok(())
    };
    look("", keys::hf::CONFIG, dir.config())?;
    for key in ["rope_parameters", "rope_scaling"] {
        look(&format!("{key}."), keys::hf::ROPE, dir.config().get(key).unwrap_or(&Json::Null))?;
    }
    Ok(unread)
}

fn refused(key: &str, value: &Json, wanted: &str) -> LoadError {
    let value = shortened(value);
    let message = match wanted {
        "" => format!("{key} is {value}, but no model that has it can be computed"),
        _ => format!("{key} is {value}, which cannot be computed (known: {wanted})"),
    };
    LoadError::Config(message)
}

/// A value of a file as one short line.
fn shortened(value: &Json) -> String {
    const MAX_CHARS: usize = 60;
    let text = value.to_string();
    match text.char_indices().nth(MAX_CHARS) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

/// A value of a GGUF file: numbers, words and truth values as they are, a list of the same number as that number.
fn plain_json(value: &Value) -> Json {
    match value {
        Value::Bool(value) => Json::from(*value),
        Value::String(value) => Json::from(value.as_str()),
        Value::F32(value) if value.is_finite() => Json::from(*value),
        Value::F64(value) if value.is_finite() => Json::from(*value),
        Value::F32(value) => Json::from(value.to_string()),
        Value::F64(value) => Json::from(value.to_string()),
        Value::Array(array) => plain_list(array),
        other => match other.integer().map(i64::try_from) {
            Some(Ok(value)) => Json::from(value),
            _ => Json::from(other.integer().map_or_else(String::new, |value| value.to_string())),
        },
    }
}

fn plain_list(array: &Array) -> Json {
    let first = array.get(0);
    match first {
        Some(first)
            if !matches!(first, Value::Array(_))
                && (1..array.len()).all(|at| array.get(at).as_ref() == Some(&first)) =>
        {
            plain_json(&first)
        }
        _ => Json::from(format!("a list of {} values", array.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_a_file_are_compared_as_json() {
        assert_eq!(plain_json(&Value::U32(3)), Json::from(3));
        assert_eq!(plain_json(&Value::F32(0.5)), Json::from(0.5));
        assert_eq!(plain_json(&Value::F32(f32::NAN)), Json::from("NaN"));
        assert_eq!(plain_json(&Value::U64(u64::MAX)), Json::from("18446744073709551615"));
        assert_eq!(plain_json(&Value::Array(Array::I32(vec![4, 4]))), Json::from(4));
        assert_eq!(plain_json(&Value::Array(Array::I32(vec![4, 5]))), Json::from("a list of 2 values"));
        assert_eq!(shortened(&Json::from("é".repeat(100))).chars().count(), 61);
    }
}
