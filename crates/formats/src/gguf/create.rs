//! Writes GGUF files, version 3: whole or not at all, tensors one after another, so that only a part of one is in memory.
//!
//! ```text
//! Layout::new(entries, tensors)     all names, shapes and values checked; every offset known
//!     .split(parts)                 if it is to be several files
//! GgufFile::create(path, layout)    the header, in temporary files
//!     .put(name, bytes)             … tensor after tensor, each in as many pieces as suits
//!     .commit()                     the files take their places
//! ```

use super::encode::{self, RawTensor};
use super::split::Part;
use super::value::{Array, Value};
use crate::name::{self, NameFault};
use crate::{AtomicFile, WriteError};
use lossy_quant::DType;
use std::collections::HashSet;
use std::io::Write;
use std::path::{Path, PathBuf};

const ALIGNMENT: usize = 32;
pub(super) const VERSION: u32 = 3;
/// What ggml has room for, its final 0 apart.
const MAX_TENSOR_NAME: usize = 63;
const MAX_DIMS: usize = 4;
const MAX_ARRAY_DEPTH: usize = 4;
/// Keys that follow from the layout.
const OWN_KEYS: [&str; 4] = ["general.alignment", "split.no", "split.count", "split.tensors.count"];

/// Why a file cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// A name can be read again.
    #[error("{what} `{}` {fault}", crate::Escaped(name))]
    Name {
        /// Key or tensor.
        what: &'static str,
        /// Its name.
        name: String,
        /// What is wrong with it.
        fault: NameFault,
    },
    /// Other programs have room for a name.
    #[error("tensor `{tensor}` has a name of {} bytes, but ggml has room for {MAX_TENSOR_NAME}", tensor.len())]
    LongTensorName {
        /// The tensor.
        tensor: String,
    },
    /// Each key, and each tensor, comes once.
    #[error("{what} `{name}` comes twice")]
    Twice {
        /// Key or tensor.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// Arrays hold arrays only so deep, and these are of one type.
    #[error("the value of key `{key}` is an array of arrays that no reader accepts")]
    Array {
        /// The key.
        key: String,
    },
    /// A tensor has one to four dimensions, none of which is 0, and its bytes can be counted.
    #[error("tensor `{tensor}` has the shape {shape:?}, which a GGUF file cannot hold")]
    Shape {
        /// The tensor.
        tensor: String,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// A row is whole blocks.
    #[error("tensor `{tensor}` has rows of {n_cols} values, which are not whole blocks of {} ({dtype})", dtype.block_len())]
    PartialRow {
        /// The tensor.
        tensor: String,
        /// Values in a row.
        n_cols: usize,
        /// Its type.
        dtype: DType,
    },
    /// Every part has a tensor, and every tensor a part, in order.
    #[error("{n_tensors} tensors cannot be split as {parts:?}")]
    Parts {
        /// Tensors.
        n_tensors: usize,
        /// The part of each.
        parts: Vec<usize>,
    },
    /// Data come in the order of the layout, and as many as it says.
    #[error("{found} bytes of tensor `{name}` came, but {expected}")]
    Data {
        /// The tensor of the data.
        name: String,
        /// How many there are.
        found: usize,
        /// What should have come.
        expected: String,
    },
    /// The system refuses.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// A tensor that is to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTensor {
    /// Its name.
    pub name: String,
    /// What its bytes are.
    pub dtype: DType,
    /// Row-major: a matrix is `[n_rows, n_cols]`.
    pub shape: Vec<usize>,
}

impl NewTensor {
    /// Bytes that it takes, without padding.
    ///
    /// # Errors
    /// The shape is none that a file can hold, or rows are not whole blocks.
    pub fn bytes(&self) -> Result<usize, CreateError> {
        let NewTensor { name, dtype, shape } = self;
        let wrong = || CreateError::Shape { tensor: name.clone(), shape: shape.clone() };
        if shape.len() > MAX_DIMS || shape.contains(&0) {
            return Err(wrong());
        }
        let n_values =
            shape.iter().try_fold(1usize, |product, &n| product.checked_mul(n)).ok_or_else(wrong)?;
        let n_cols = shape.last().copied().unwrap_or(1);
        if !n_cols.is_multiple_of(dtype.block_len()) {
            return Err(CreateError::PartialRow { tensor: name.clone(), n_cols, dtype: *dtype });
        }
        dtype.bytes_for(n_values).ok_or_else(wrong)
    }
}

/// Everything about a model but the bytes of its tensors, checked.
#[derive(Debug, Clone)]
pub struct Layout {
    parts: Vec<LayoutPart>,
}

#[derive(Debug, Clone)]
struct LayoutPart {
    /// with the padding after it
    header: Vec<u8>,
    tensors: Vec<Placed>,
}

#[derive(Debug, Clone)]
struct Placed {
    name: String,
    bytes: usize,
}

impl Layout {
    /// One file with these keys and tensors, in this order.
    ///
    /// # Errors
    /// A name, a value or a shape breaks a rule of the format, or comes twice.
    pub fn new(entries: Vec<(String, Value)>, tensors: &[NewTensor]) -> Result<Layout, CreateError> {
        Layout::split(entries, tensors, &vec![0; tensors.len()])
    }

    /// Several files. `parts` is the part of each tensor, from 0, rising. The first part has the keys.
    ///
    /// # Errors
    /// As [`Layout::new`]; the parts do not rise by one.
    pub fn split(
        mut entries: Vec<(String, Value)>,
        tensors: &[NewTensor],
        parts: &[usize],
    ) -> Result<Layout, CreateError> {
        entries.retain(|(key, _)| !OWN_KEYS.contains(&key.as_str()));
        check_entries(&entries)?;
        let sizes = check_tensors(tensors)?;
        let rises = parts.windows(2).all(|pair| pair[1] == pair[0] || pair[1] == pair[0] + 1);
        if parts.len() != tensors.len() || !rises || parts.first().is_some_and(|&first| first != 0) {
            return Err(CreateError::Parts { n_tensors: tensors.len(), parts: parts.to_vec() });
        }
        let n_parts = parts.last().map_or(1, |last| last + 1);
        let of_part = |part: usize| {
            let mine = (0..tensors.len()).filter(move |&i| parts[i] == part);
            let mut own = if part == 0 { entries.clone() } else { Vec::new() };
            if n_parts > 1 {
                own.push(("split.no".to_owned(), Value::U16(part as u16)));
                own.push(("split.count".to_owned(), Value::U16(n_parts as u16)));
                own.push(("split.tensors.count".to_owned(), Value::I32(tensors.len() as i32)));
            }
            LayoutPart::new(&own, mine.map(|i| (&tensors[i], sizes[i])))
        };
        Ok(Layout { parts: (0..n_parts).map(of_part).collect() })
    }

    /// Number of files.
    pub fn n_parts(&self) -> usize {
        self.parts.len()
    }

    /// Length of all files together.
    pub fn file_bytes(&self) -> u64 {
        let tensors =
            |part: &LayoutPart| part.tensors.iter().map(|tensor| padded(tensor.bytes) as u64).sum::<u64>();
        self.parts.iter().map(|part| part.header.len() as u64 + tensors(part)).sum()
    }

    /// The paths of all files: `path` itself, or for several `NAME-00001-of-00003.gguf` and so on beside it.
    pub fn paths(&self, path: &Path) -> Vec<PathBuf> {
        match self.parts.len() {
            1 => vec![path.to_owned()],
            count => Part::paths_from(path, count as u64),
        }
    }
}

impl LayoutPart {
    fn new<'a>(
        entries: &[(String, Value)],
        tensors: impl Iterator<Item = (&'a NewTensor, usize)>,
    ) -> LayoutPart {
        let (mut raw, mut placed, mut offset) = (Vec::new(), Vec::new(), 0);
        for (tensor, bytes) in tensors {
            let ne = tensor.shape.iter().rev().map(|&n| n as u64).collect();
            raw.push(RawTensor { name: tensor.name.clone(), ne, ggml_type: tensor.dtype.to_ggml(), offset });
            placed.push(Placed { name: tensor.name.clone(), bytes });
            offset += padded(bytes) as u64;
        }
        let mut header = encode::header(VERSION, entries, &raw);
        header.resize(padded(header.len()), 0);
        LayoutPart { header, tensors: placed }
    }
}

fn padded(bytes: usize) -> usize {
    bytes.next_multiple_of(ALIGNMENT)
}

fn check_entries(entries: &[(String, Value)]) -> Result<(), CreateError> {
    let mut keys = HashSet::new();
    for (key, value) in entries {
        check_name("key", key)?;
        if !keys.insert(key) {
            return Err(CreateError::Twice { what: "key", name: key.clone() });
        }
        if let Value::Array(array) = value
            && !is_readable(array, 1)
        {
            return Err(CreateError::Array { key: key.clone() });
        }
    }
    Ok(())
}

/// Whether arrays are no deeper than readers follow them.
fn is_readable(array: &Array, depth: usize) -> bool {
    match array {
        Array::Array(arrays) => {
            depth < MAX_ARRAY_DEPTH && arrays.iter().all(|array| is_readable(array, depth + 1))
        }
        _ => true,
    }
}

fn check_tensors(tensors: &[NewTensor]) -> Result<Vec<usize>, CreateError> {
    let mut names = HashSet::new();
    let mut sizes = Vec::new();
    for tensor in tensors {
        check_name("tensor", &tensor.name)?;
        if tensor.name.len() > MAX_TENSOR_NAME {
            return Err(CreateError::LongTensorName { tensor: tensor.name.clone() });
        }
        if !names.insert(&tensor.name) {
            return Err(CreateError::Twice { what: "tensor", name: tensor.name.clone() });
        }
        sizes.push(tensor.bytes()?);
    }
    Ok(sizes)
}

fn check_name(what: &'static str, name: &str) -> Result<(), CreateError> {
    match name::fault(name) {
        Some(fault) => Err(CreateError::Name { what, name: name.to_owned(), fault }),
        None => Ok(()),
    }
}

/// A model in the making. What is dropped before [`commit`](GgufFile::commit) leaves nothing behind.
#[derive(Debug)]
pub struct GgufFile {
    parts: Vec<(PathBuf, AtomicFile)>,
    /// part and tensor of all data, in order
    tensors: Vec<(usize, Placed)>,
    /// the tensor that is being written
    at: usize,
    /// bytes of it that are written
    written: usize,
}

impl GgufFile {
    /// Begins the files of a layout; see [`Layout::paths`] for where.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn create(path: &Path, layout: &Layout) -> Result<GgufFile, CreateError> {
        let mut parts = Vec::new();
        for (path, part) in layout.paths(path).into_iter().zip(&layout.parts) {
            let mut file = AtomicFile::create(&path)?;
            write_all(&path, &mut file, &part.header)?;
            parts.push((path, file));
        }
        let tensors = layout.parts.iter().enumerate();
        let tensors =
            tensors.flat_map(|(no, part)| part.tensors.iter().map(move |tensor| (no, tensor.clone())));
        Ok(GgufFile { parts, tensors: tensors.collect(), at: 0, written: 0 })
    }

    /// Writes the next bytes of the tensor of this name, whose turn it must be.
    ///
    /// # Errors
    /// It is another tensor's turn, there are more bytes than the tensor has, or the disk fails.
    pub fn put(&mut self, name: &str, bytes: &[u8]) -> Result<(), CreateError> {
        let wrong = |expected| CreateError::Data { name: name.to_owned(), found: bytes.len(), expected };
        let Some((part, tensor)) = self.tensors.get(self.at) else {
            return Err(wrong("all tensors are written".to_owned()));
        };
        let left = tensor.bytes - self.written;
        if tensor.name != name || bytes.len() > left {
            return Err(wrong(format!("{left} of `{}` were due", tensor.name)));
        }
        let (path, file) = &mut self.parts[*part];
        write_all(path, file, bytes)?;
        self.written += bytes.len();
        if self.written == tensor.bytes {
            write_all(path, file, &[0; ALIGNMENT][..padded(tensor.bytes) - tensor.bytes])?;
            (self.at, self.written) = (self.at + 1, 0);
        }
        Ok(())
    }

    /// Puts the files in their places: all of them, or none.
    ///
    /// # Errors
    /// A tensor is missing, or the disk fails.
    pub fn commit(self) -> Result<(), CreateError> {
        if let Some((_, tensor)) = self.tensors.get(self.at) {
            let expected = format!("it has {}", tensor.bytes);
            return Err(CreateError::Data { name: tensor.name.clone(), found: self.written, expected });
        }
        Ok(AtomicFile::commit_all(self.parts.into_iter().map(|(_, file)| file).collect())?)
    }
}

fn write_all(path: &Path, file: &mut AtomicFile, bytes: &[u8]) -> Result<(), CreateError> {
    file.write_all(bytes).map_err(|error| WriteError::Io { path: path.to_owned(), error }.into())
}

#[cfg(test)]
mod tests;
