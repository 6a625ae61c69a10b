//! The header of a safetensors file.
//!
//! ```text
//! bytes of the header: u64, little-endian │ header: JSON │ data
//!
//! {"NAME": {"dtype": "BF16", "shape": [n_rows, n_cols], "data_offsets": [start, end]}, …, "__metadata__": {…}}
//! ```
//!
//! Offsets count from the start of the data; the tensors fill the data without gaps and without sharing bytes. Source:
//! the format's own description in the safetensors project. This reader is our own because its errors name the tensor
//! and the numbers, and because it sees names that come twice, where a map would keep the last; a test compares its
//! verdicts with those of the `safetensors` crate.
//!
//! What the format has and this does not read: types that ggml has no number for (8-bit floats, unsigned integers,
//! booleans) and tensors with a dimension of 0.

use crate::name::{self, NameFault};
use lossy_quant::DType;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;

/// The longest header that the format allows.
const MAX_HEADER_BYTES: u64 = 100_000_000;
const METADATA: &str = "__metadata__";

/// The rules of a safetensors file, as what breaks them.
#[derive(Debug, thiserror::Error)]
pub enum SafetensorsError {
    /// The length of the header is there.
    #[error("the file has {file_bytes} bytes, which is too short for the length of a header")]
    NoLength {
        /// Length of the file.
        file_bytes: usize,
    },
    /// The header is not longer than the format allows.
    #[error("the header has {header_bytes} bytes, but {MAX_HEADER_BYTES} is the most")]
    HeaderTooLong {
        /// Length of the header as the file says.
        header_bytes: u64,
    },
    /// The header lies within the file.
    #[error("the header ends at byte {end}, but the file has {file_bytes}")]
    HeaderPastEnd {
        /// Where it ends.
        end: u64,
        /// Length of the file.
        file_bytes: usize,
    },
    /// The header starts with a brace, without space before it.
    #[error("the header does not start with `{{`")]
    NotAnObject,
    /// The header is UTF-8.
    #[error("the header is not UTF-8")]
    NotUtf8,
    /// The header is a JSON object of tensors.
    #[error("the header is not what it should be: {0}")]
    Json(#[from] serde_json::Error),
    /// Names can be printed.
    #[error("the name of tensor {index} {fault}")]
    Name {
        /// Which tensor, in the order of the header.
        index: usize,
        /// What is wrong with its name.
        fault: NameFault,
    },
    /// Each tensor comes once.
    #[error("tensor `{tensor}` comes twice")]
    DuplicateTensor {
        /// The tensor.
        tensor: String,
    },
    /// The type is one that can be read.
    #[error("tensor `{tensor}` has type `{}`, which is not supported", dtype.escape_debug())]
    UnsupportedType {
        /// The tensor.
        tensor: String,
        /// Its type, as the file spells it.
        dtype: String,
    },
    /// No dimension is 0.
    #[error("tensor `{tensor}` has a dimension of 0: {shape:?}")]
    ZeroDim {
        /// The tensor.
        tensor: String,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// The number of bytes of a tensor is a number.
    #[error("tensor `{tensor}` has shape {shape:?}, whose product is too large")]
    TooLarge {
        /// The tensor.
        tensor: String,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// The offsets hold exactly what the shape implies.
    #[error(
        "tensor `{tensor}` has offsets {start} to {end}, but its shape {shape:?} ({dtype}) takes {bytes} bytes"
    )]
    WrongBytes {
        /// The tensor.
        tensor: String,
        /// First byte of its data.
        start: usize,
        /// End of its data.
        end: usize,
        /// Its shape.
        shape: Vec<usize>,
        /// Its type.
        dtype: DType,
        /// Bytes that shape and type imply.
        bytes: usize,
    },
    /// Tensors follow each other without gaps and without sharing bytes.
    #[error("tensor `{tensor}` starts at offset {start}, but the tensors before it end at {expected}")]
    NotContiguous {
        /// The tensor.
        tensor: String,
        /// Where it starts.
        start: usize,
        /// Where it should start.
        expected: usize,
    },
    /// The data is what the tensors take.
    #[error("the tensors take {expected} bytes, but {found} bytes of data follow the header")]
    DataBytes {
        /// Bytes that the tensors take.
        expected: usize,
        /// Bytes after the header.
        found: usize,
    },
}

/// Where a tensor is and what it is.
#[derive(Debug)]
pub(crate) struct TensorInfo {
    pub name: String,
    pub dtype: DType,
    /// Row-major.
    pub shape: Vec<usize>,
    /// Its bytes, counted from the start of the file.
    pub range: Range<usize>,
}

/// Reads and checks the header of a file; tensors come in the order of the header.
pub(crate) fn parse(bytes: &[u8]) -> Result<Vec<TensorInfo>, SafetensorsError> {
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(SafetensorsError::NoLength { file_bytes: bytes.len() });
    };
    let header_bytes = u64::from_le_bytes(*length);
    if header_bytes > MAX_HEADER_BYTES {
        return Err(SafetensorsError::HeaderTooLong { header_bytes });
    }
    // At most 100 million, so neither the conversion nor the sums can overflow.
    let Some((header, data)) = rest.split_at_checked(header_bytes as usize) else {
        return Err(SafetensorsError::HeaderPastEnd { end: 8 + header_bytes, file_bytes: bytes.len() });
    };
    if !header.starts_with(b"{") {
        return Err(SafetensorsError::NotAnObject);
    }
    let text = str::from_utf8(header).map_err(|_| SafetensorsError::NotUtf8)?;
    let Entries(entries) = serde_json::from_str(text)?;
    check_names(&entries)?;
    let tensors = entries
        .into_iter()
        .map(|(tensor, entry)| entry.check(tensor, 8 + header.len()))
        .collect::<Result<Vec<_>, _>>()?;
    check_places(&tensors, 8 + header.len(), data.len())?;
    Ok(tensors)
}

/// What the header says about one tensor.
#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (usize, usize),
}

/// All of them, with names that come twice.
struct Entries(Vec<(String, Entry)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EntriesVisitor)
    }
}

struct EntriesVisitor;

impl<'de> Visitor<'de> for EntriesVisitor {
    type Value = Entries;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with an entry for each tensor")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
        let (mut entries, mut has_metadata) = (Vec::new(), false);
        while let Some(name) = map.next_key::<String>()? {
            if name != METADATA {
                entries.push((name, map.next_value()?));
            } else if std::mem::replace(&mut has_metadata, true) {
                return Err(A::Error::duplicate_field(METADATA));
            } else {
                map.next_value::<BTreeMap<String, String>>()?;
            }
        }
        Ok(Entries(entries))
    }
}

fn check_names(entries: &[(String, Entry)]) -> Result<(), SafetensorsError> {
    let mut seen = BTreeSet::new();
    for (index, (name, _)) in entries.iter().enumerate() {
        if let Some(fault) = name::fault(name) {
            return Err(SafetensorsError::Name { index, fault });
        }
        if !seen.insert(name) {
            return Err(SafetensorsError::DuplicateTensor { tensor: name.clone() });
        }
    }
    Ok(())
}

fn dtype(name: &str) -> Option<DType> {
    Some(match name {
        "F64" => DType::F64,
        "F32" => DType::F32,
        "F16" => DType::F16,
        "BF16" => DType::BF16,
        "I64" => DType::I64,
        "I32" => DType::I32,
        "I16" => DType::I16,
        "I8" => DType::I8,
        _ => return None,
    })
}

impl Entry {
    /// Checks what can be checked without the other tensors. The range may lie outside the file.
    fn check(self, tensor: String, data_start: usize) -> Result<TensorInfo, SafetensorsError> {
        let Entry { dtype: dtype_name, shape, data_offsets: (start, end) } = self;
        let Some(dtype) = dtype(&dtype_name) else {
            return Err(SafetensorsError::UnsupportedType { tensor, dtype: dtype_name });
        };
        if shape.contains(&0) {
            return Err(SafetensorsError::ZeroDim { tensor, shape });
        }
        let n_values = shape.iter().try_fold(1usize, |product, &n| product.checked_mul(n));
        let Some(bytes) = n_values.and_then(|n_values| dtype.bytes_for(n_values)) else {
            return Err(SafetensorsError::TooLarge { tensor, shape });
        };
        let range = end
            .checked_sub(start)
            .filter(|&found| found == bytes)
            .and_then(|_| Some(start.checked_add(data_start)?..end.checked_add(data_start)?));
        match range {
            Some(range) => Ok(TensorInfo { name: tensor, dtype, shape, range }),
            None => Err(SafetensorsError::WrongBytes { tensor, start, end, shape, dtype, bytes }),
        }
    }
}

/// The tensors, put in order, fill the data.
fn check_places(tensors: &[TensorInfo], data_start: usize, found: usize) -> Result<(), SafetensorsError> {
    let mut by_start: Vec<&TensorInfo> = tensors.iter().collect();
    by_start.sort_by_key(|tensor| tensor.range.start);
    let mut end = data_start;
    for tensor in by_start {
        if tensor.range.start != end {
            return Err(SafetensorsError::NotContiguous {
                tensor: tensor.name.clone(),
                start: tensor.range.start - data_start,
                expected: end - data_start,
            });
        }
        end = tensor.range.end;
    }
    if end - data_start != found {
        return Err(SafetensorsError::DataBytes { expected: end - data_start, found });
    }
    Ok(())
}
