//! A directory seen as a GGUF: other names, and for a few tensors other bytes.
//!
//! ```text
//! as it lies        bytes stay in the mapped shard
//! rows in an order  copied once into a file without a name, and mapped from there: no more memory than the shard takes
//! values            float32 in memory, for what is small
//! ```

use super::{HfDir, HfError, ShardTensor};
use crate::gguf::{Gguf, PartTensor, TensorInfo, Value};
use crate::map::Source;
use lossy_quant::DType;
use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::path::Path;

/// Tensors begin at multiples of this, as in GGUF files.
const ALIGNMENT: usize = 32;

/// Where the bytes of a tensor come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Origin {
    /// The directory's tensor of this name, as it lies.
    Tensor(String),
    /// The same with its rows in another order: the new row `i` is the old row `rows[i]`.
    Rows {
        /// the directory's name of it
        tensor: String,
        /// each row once
        rows: Vec<usize>,
    },
    /// These values, as F32.
    Values {
        /// the directory's tensor that they are of, if there is one: it says to which shard they belong
        tensor: Option<String>,
        /// row-major
        shape: Vec<usize>,
        /// as many as the shape says
        values: Vec<f32>,
    },
}

impl HfDir {
    /// A GGUF with these keys and tensors, by their new names, in this order. A split one is written with a part for each shard.
    ///
    /// `scratch` is a folder for the bytes of [`Origin::Rows`], which are as many as those tensors have. `None`: the weights will not
    /// be read; then rows stay in their order.
    ///
    /// # Errors
    /// The directory has no such tensor, a name comes twice, or the system does not let us write into `scratch`.
    ///
    /// # Panics
    /// If rows or values are not as many as a shape says.
    pub fn as_gguf(
        &self,
        entries: Vec<(String, Value)>,
        tensors: Vec<(String, Origin)>,
        scratch: Option<&Path>,
    ) -> Result<Gguf, HfError> {
        let shard_of = self.shards_in_use(&tensors)?;
        let mut rows = scratch.map(Scratch::new).transpose()?;
        let mut values = Vec::new();
        let (at_rows, at_values) = (self.shards.len(), self.shards.len() + 1);
        let mut placed = Vec::new();
        for (name, origin) in tensors {
            let part = match origin.tensor() {
                Some(tensor) => shard_of[&self.place(tensor)?.shard],
                None => 0,
            };
            let (source, info) = match origin {
                Origin::Values { shape, values: new, .. } => {
                    assert_eq!(shape.iter().product::<usize>(), new.len(), "values of {name}");
                    let start = values.len();
                    values.extend(new.iter().flat_map(|value| value.to_le_bytes()));
                    (at_values, TensorInfo { name, dtype: DType::F32, shape, range: start..values.len() })
                }
                Origin::Rows { tensor, rows: order } if rows.is_some() => {
                    let old = self.view(self.place(&tensor)?);
                    let scratch = rows.as_mut().expect("it was just there");
                    let range = scratch.put(old.bytes, &order)?;
                    (at_rows, TensorInfo { name, dtype: old.dtype, shape: old.shape.to_vec(), range })
                }
                Origin::Tensor(tensor) | Origin::Rows { tensor, .. } => {
                    let ShardTensor { shard, info } = self.place(&tensor)?;
                    let (dtype, shape, range) = (info.dtype, info.shape.clone(), info.range.clone());
                    (*shard, TensorInfo { name, dtype, shape, range })
                }
            };
            placed.push(PartTensor { part, source, info });
        }
        let files = self.shards.iter().map(|shard| {
            let opened = Source::open(&shard.path);
            Ok((shard.path.clone(), opened.map_err(|error| HfError::Io { path: shard.path.clone(), error })?))
        });
        let rows = rows.map_or_else(|| Ok(Source::Bytes(Vec::new())), Scratch::finish)?;
        let derived = vec![rows, Source::Bytes(values)];
        Ok(Gguf::of_other_files(entries, placed, files.collect::<Result<_, HfError>>()?, derived)?)
    }

    fn place(&self, name: &str) -> Result<&ShardTensor, HfError> {
        let found = self.sorted.binary_search_by(|&tensor| self.tensors[tensor].info.name.as_str().cmp(name));
        match found {
            Ok(found) => Ok(&self.tensors[self.sorted[found]]),
            Err(_) => Err(HfError::NoTensor { directory: self.directory.clone(), tensor: name.to_owned() }),
        }
    }

    /// The shards that any tensor is of, and which part each becomes: counted without gaps.
    fn shards_in_use(&self, tensors: &[(String, Origin)]) -> Result<BTreeMap<usize, usize>, HfError> {
        let mut used = BTreeMap::new();
        for tensor in tensors.iter().filter_map(|(_, origin)| origin.tensor()) {
            used.insert(self.place(tensor)?.shard, 0);
        }
        for (part, of_shard) in used.values_mut().enumerate() {
            *of_shard = part;
        }
        Ok(used)
    }
}

impl Origin {
    fn tensor(&self) -> Option<&str> {
        match self {
            Origin::Tensor(tensor) | Origin::Rows { tensor, .. } => Some(tensor),
            Origin::Values { tensor, .. } => tensor.as_deref(),
        }
    }
}

/// A file without a name, which is gone when it is closed.
struct Scratch<'a> {
    file: BufWriter<std::fs::File>,
    bytes: usize,
    folder: &'a Path,
}

impl<'a> Scratch<'a> {
    fn new(folder: &'a Path) -> Result<Scratch<'a>, HfError> {
        let file = tempfile::tempfile_in(folder)
            .map_err(|error| HfError::Scratch { folder: folder.to_owned(), error })?;
        Ok(Scratch { file: BufWriter::with_capacity(1 << 20, file), bytes: 0, folder })
    }

    /// Appends rows in an order.
    fn put(&mut self, bytes: &[u8], order: &[usize]) -> Result<std::ops::Range<usize>, HfError> {
        assert!(bytes.len().is_multiple_of(order.len()), "{} rows in {} bytes", order.len(), bytes.len());
        let row_bytes = bytes.len() / order.len();
        let start = self.bytes;
        let padding = bytes.len().next_multiple_of(ALIGNMENT) - bytes.len();
        let rows = order.iter().map(|&row| &bytes[row * row_bytes..][..row_bytes]);
        for piece in rows.chain([&[0; ALIGNMENT][..padding]]) {
            self.file
                .write_all(piece)
                .map_err(|error| HfError::Scratch { folder: self.folder.to_owned(), error })?;
        }
        self.bytes += bytes.len() + padding;
        Ok(start..start + bytes.len())
    }

    fn finish(self) -> Result<Source, HfError> {
        let failed = |error| HfError::Scratch { folder: self.folder.to_owned(), error };
        let mut file = self.file.into_inner().map_err(|error| failed(error.into_error()))?;
        Source::of_file(&mut file).map_err(failed)
    }
}
