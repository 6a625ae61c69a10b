//! The pruned model as a GGUF: tensors under their new names, and the keys that count layers and channels.

use std::borrow::Cow;
use std::path::Path;

use lossy_formats::TensorView;
use lossy_formats::gguf::{Array, CreateError, Gguf, GgufFile, Layout, NewTensor, Value};

use super::view::{Part, split_name};
use super::{Narrowed, PruneError, Pruned};

/// What the new file tells of how it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Provenance {
    /// divergence from the source on text that chose nothing, nats a token; `None` if it was not measured
    pub kl: Option<f64>,
}

/// A tensor of the new file.
struct Planned<'a, 'm> {
    new: NewTensor,
    source: TensorView<'a>,
    mlp: Option<(&'m Narrowed, Part)>,
}

/// A new file, before its weights.
pub struct Plan<'a, 'm> {
    tensors: Vec<Planned<'a, 'm>>,
    layout: Layout,
}

impl<'a, 'm> Plan<'a, 'm> {
    /// Lays the file out.
    ///
    /// # Errors
    /// The model is no GGUF, a key by layer does not fit, or a matrix cannot lose rows: their blocks are not its own.
    pub fn new(model: &'m Pruned<'a>, provenance: Provenance) -> Result<Plan<'a, 'm>, PruneError> {
        let source: &'a Gguf = model.source().gguf().ok_or(PruneError::NoGguf)?;
        let mut tensors = Vec::new();
        for tensor in source.tensors() {
            tensors.extend(planned(model, tensor));
        }
        let new: Vec<NewTensor> = tensors.iter().map(|tensor| tensor.new.clone()).collect();
        let layout = Layout::new(entries(model, source, provenance)?, &new)?;
        Ok(Plan { tensors, layout })
    }

    /// Where everything will be.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Values in all tensors.
    pub fn n_params(&self) -> u64 {
        self.tensors.iter().map(|tensor| tensor.new.shape.iter().product::<usize>() as u64).sum()
    }

    /// Bytes that a token reads: all tensors but the embedding, of which it reads one row, unless that makes the logits too.
    pub fn bytes_per_token(&self) -> u64 {
        let has_output = self.tensors.iter().any(|tensor| tensor.new.name == "output.weight");
        let is_read = |tensor: &&Planned<'_, '_>| !(has_output && tensor.new.name == "token_embd.weight");
        self.tensors.iter().filter(is_read).map(|tensor| tensor.new.bytes().unwrap_or(0) as u64).sum()
    }

    /// Writes the file: whole or not at all.
    ///
    /// # Errors
    /// The disk fails.
    pub fn write(&self, out: &Path) -> Result<(), CreateError> {
        let mut file = GgufFile::create(out, &self.layout)?;
        for tensor in &self.tensors {
            file.put(&tensor.new.name, &tensor.bytes())?;
        }
        file.commit()
    }
}

/// A tensor under its new name, or none if its layer goes.
fn planned<'a, 'm>(model: &'m Pruned<'a>, source: TensorView<'a>) -> Option<Planned<'a, 'm>> {
    let mut new =
        NewTensor { name: source.name.to_owned(), dtype: source.dtype, shape: source.shape.to_vec() };
    let Some((layer, rest)) = split_name(source.name) else {
        return Some(Planned { new, source, mlp: None });
    };
    let at = model.layers().iter().position(|&kept| kept == layer)?;
    new.name = format!("blk.{at}.{rest}");
    let mlp = model.mlps().map(|mlps| &mlps[at]).zip(Part::of(rest));
    match mlp {
        Some((mlp, Part::Rows)) => new.shape[0] = mlp.keep.len(),
        Some((mlp, Part::Columns)) => (new.shape[1], new.dtype) = (mlp.keep.len(), mlp.dtype),
        None => {}
    }
    Some(Planned { new, source, mlp })
}

impl<'a> Planned<'a, '_> {
    fn bytes(&self) -> Cow<'a, [u8]> {
        match self.mlp {
            None => Cow::Borrowed(self.source.bytes),
            Some((mlp, Part::Columns)) => Cow::Owned(mlp.down.clone()),
            Some((mlp, Part::Rows)) => {
                let row_bytes = self.source.bytes.len() / self.source.shape[0];
                let rows =
                    mlp.keep.iter().flat_map(|&row| &self.source.bytes[row * row_bytes..][..row_bytes]);
                Cow::Owned(rows.copied().collect())
            }
        }
    }
}

/// The source's keys, with those that count layers and channels.
fn entries(
    model: &Pruned<'_>,
    source: &Gguf,
    provenance: Provenance,
) -> Result<Vec<(String, Value)>, PruneError> {
    let info = model.source().info();
    let prefix = format!("{}.", info.architecture);
    let gone: Vec<u32> = (0..info.n_layers)
        .filter(|layer| !model.layers().contains(layer))
        .map(|layer| layer as u32)
        .collect();
    let is_changed = !gone.is_empty() || model.mlps().is_some();
    let mut entries = Vec::new();
    for (key, value) in source.metadata().iter() {
        let own = key.strip_prefix(&prefix);
        let value = match (own, value) {
            (_, value) if !is_changed => value.clone(),
            (Some("block_count"), value) => with_number(value, model.layers().len()),
            (Some("feed_forward_length"), Value::Array(array)) => {
                let array = of_layers(key, array, model)?;
                match model.mlps().map(|mlps| mlps[0].keep.len()) {
                    Some(width) => each_with(&array, width),
                    None => Value::Array(array),
                }
            }
            (Some("feed_forward_length"), value) => match model.mlps() {
                Some(mlps) => with_number(value, mlps[0].keep.len()),
                None => value.clone(),
            },
            (Some(own), Value::Array(array)) if BY_LAYER.contains(&own) => {
                Value::Array(of_layers(key, array, model)?)
            }
            (_, value) => value.clone(),
        };
        if !(is_changed && key.starts_with("lossy.prune.")) {
            entries.push((key.to_owned(), value));
        }
    }
    if is_changed {
        let mut set = |key: &str, value: Value| entries.push((format!("lossy.prune.{key}"), value));
        set("layers", gone.into());
        set("mlp_channels", ((info.n_ff - model_width(model)) as u32).into());
        if let Some(kl) = provenance.kl {
            set("kl", (kl as f32).into());
        }
    }
    Ok(entries)
}

fn model_width(model: &Pruned<'_>) -> usize {
    model.mlps().map_or(model.source().info().n_ff, |mlps| mlps[0].keep.len())
}

/// Keys of an architecture whose value may be a list with one value for each layer. Others (`rope.dimension_sections`) are lists of
/// something else, also where these have the same length.
const BY_LAYER: [&str; 6] = [
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.sliding_window",
    "rope.dimension_count",
];

/// The values of the layers that stay. A list of one value is for all of them.
fn of_layers(key: &str, array: &Array, model: &Pruned<'_>) -> Result<Array, PruneError> {
    let n_layers = model.source().info().n_layers;
    if array.len() != n_layers {
        return Err(PruneError::Key { key: key.to_owned(), found: array.len(), n_layers });
    }
    let stays = |at: usize| model.layers().contains(&at);
    Ok(match array {
        Array::U8(x) => Array::U8(kept(x, stays)),
        Array::I8(x) => Array::I8(kept(x, stays)),
        Array::U16(x) => Array::U16(kept(x, stays)),
        Array::I16(x) => Array::I16(kept(x, stays)),
        Array::U32(x) => Array::U32(kept(x, stays)),
        Array::I32(x) => Array::I32(kept(x, stays)),
        Array::U64(x) => Array::U64(kept(x, stays)),
        Array::I64(x) => Array::I64(kept(x, stays)),
        other => return Err(PruneError::Key { key: key.to_owned(), found: other.len(), n_layers }),
    })
}

fn kept<T: Copy>(values: &[T], stays: impl Fn(usize) -> bool) -> Vec<T> {
    values.iter().enumerate().filter(|(at, _)| stays(*at)).map(|(_, value)| *value).collect()
}

/// A number of the same type.
fn with_number(old: &Value, n: usize) -> Value {
    match old {
        Value::U8(_) if n <= u8::MAX.into() => Value::U8(n as u8),
        Value::U16(_) if n <= u16::MAX.into() => Value::U16(n as u16),
        Value::I32(_) => Value::I32(n as i32),
        Value::U64(_) => Value::U64(n as u64),
        Value::I64(_) => Value::I64(n as i64),
        _ => Value::U32(n as u32),
    }
}

/// A list of the same type and length with one number everywhere.
fn each_with(old: &Array, n: usize) -> Value {
    match old {
        Array::I32(x) => Value::Array(Array::I32(vec![n as i32; x.len()])),
        other => Value::Array(Array::U32(vec![n as u32; other.len()])),
    }
}
