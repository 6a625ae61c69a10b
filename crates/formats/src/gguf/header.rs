//! The header of one file: what comes before the data.
//!
//! ```text
//! "GGUF" │ version: u32 │ n_tensors: u64 │ n_keys: u64
//! n_keys ×     key: string │ type: u32 │ value
//! n_tensors ×  name: string │ n_dims: u32 │ n_dims × ne: u64 │ type: u32 │ offset: u64
//! padding to a multiple of the alignment
//! data: each tensor at its offset, a multiple of the alignment
//!
//! string   bytes: u64 │ UTF-8
//! array    element type: u32 │ count: u64 │ elements
//! ne[0]    is the length of a row, the last dimension as everybody else counts
//! ```
//!
//! All numbers are little-endian. The alignment is `general.alignment`, else 32. Source: the GGUF specification of the
//! ggml project, versions 2 and 3, which differ in that version 3 may be big-endian.

use super::cursor::Cursor;
use super::error::GgufError;
use super::metadata::{IfPresent, Metadata};
use super::value::{Array, StringArray, Value, ValueType};
use crate::{Instead, name};
use lossy_quant::DType;
use std::ops::Range;

const DEFAULT_ALIGNMENT: u32 = 32;
const MAX_DIMS: usize = 4;
const MAX_ARRAY_DEPTH: usize = 4;
/// A key of one byte, a type and a value of one byte.
const MIN_ENTRY_BYTES: u64 = 8 + 1 + 4 + 1;
/// A name of one byte, no dimensions, a type and an offset.
const MIN_TENSOR_BYTES: u64 = 8 + 1 + 4 + 4 + 8;

/// What the header of one file says, checked against the length of the file.
pub(crate) struct Header {
    pub version: u32,
    pub metadata: Metadata,
    pub tensors: Vec<TensorInfo>,
}

/// Where a tensor is and what it is.
#[derive(Debug)]
pub(crate) struct TensorInfo {
    pub name: String,
    pub dtype: DType,
    /// Row-major: the dimensions of the file in reverse.
    pub shape: Vec<usize>,
    /// Its bytes, counted from the start of the file.
    pub range: Range<usize>,
}

impl Header {
    /// Reads and checks the header of a file.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Header, GgufError> {
        if let Some(instead) = Instead::of(bytes) {
            return Err(GgufError::Instead(instead));
        }
        let mut cursor = Cursor::new(bytes);
        let version = preamble(&mut cursor)?;
        let n_tensors = cursor.u64("the number of tensors")?;
        let n_keys = cursor.u64("the number of keys")?;
        let n_keys = cursor.checked_count(n_keys, MIN_ENTRY_BYTES, "keys")?;
        let mut entries = Vec::new();
        for _ in 0..n_keys {
            entries.push(entry(&mut cursor)?);
        }
        let metadata = Metadata::from_entries(entries).map_err(|key| GgufError::DuplicateKey { key })?;
        let alignment = alignment(&metadata)?;
        let n_tensors = cursor.checked_count(n_tensors, MIN_TENSOR_BYTES, "tensors")?;
        let mut placed = Vec::new();
        for _ in 0..n_tensors {
            placed.push(PlacedTensor::read(&mut cursor, alignment)?);
        }
        let data_start = cursor.at().checked_next_multiple_of(alignment as usize).unwrap_or(usize::MAX);
        let tensors = placed
            .into_iter()
            .map(|tensor| tensor.locate(data_start, bytes.len()))
            .collect::<Result<Vec<_>, _>>()?;
        check_overlap(&tensors)?;
        Ok(Header { version, metadata, tensors })
    }
}

fn preamble(cursor: &mut Cursor<'_>) -> Result<u32, GgufError> {
    let found: [u8; 4] = cursor.array("the magic `GGUF`")?;
    if &found != b"GGUF" {
        return Err(GgufError::NotGguf { found });
    }
    let version = cursor.u32("the version")?;
    match version {
        2 | 3 => Ok(version),
        _ if (1..1 << 16).contains(&version.swap_bytes()) => Err(GgufError::BigEndian { version }),
        _ => Err(GgufError::Version { version }),
    }
}

/// A key or a tensor's name.
fn read_name(cursor: &mut Cursor<'_>, what: &'static str) -> Result<String, GgufError> {
    let bytes = cursor.string(what)?;
    let at = cursor.at() - bytes.len();
    let name = str::from_utf8(bytes).map_err(|_| GgufError::NameNotUtf8 { what, at })?;
    match name::fault(name) {
        Some(fault) => Err(GgufError::Name { what, at, fault }),
        None => Ok(name.to_owned()),
    }
}

fn entry(cursor: &mut Cursor<'_>) -> Result<(String, Value), GgufError> {
    let key = read_name(cursor, "a key")?;
    let value_type = value_type(cursor, &key)?;
    let value = match value_type {
        ValueType::U8 => Value::U8(cursor.array::<1>("a u8")?[0]),
        ValueType::I8 => Value::I8(cursor.array("an i8").map(i8::from_le_bytes)?),
        ValueType::U16 => Value::U16(cursor.array("a u16").map(u16::from_le_bytes)?),
        ValueType::I16 => Value::I16(cursor.array("an i16").map(i16::from_le_bytes)?),
        ValueType::U32 => Value::U32(cursor.u32("a u32")?),
        ValueType::I32 => Value::I32(cursor.array("an i32").map(i32::from_le_bytes)?),
        ValueType::F32 => Value::F32(cursor.array("an f32").map(f32::from_le_bytes)?),
        ValueType::U64 => Value::U64(cursor.u64("a u64")?),
        ValueType::I64 => Value::I64(cursor.array("an i64").map(i64::from_le_bytes)?),
        ValueType::F64 => Value::F64(cursor.array("an f64").map(f64::from_le_bytes)?),
        ValueType::Bool => Value::Bool(read_bool(cursor.array::<1>("a bool")?[0], &key)?),
        ValueType::String => match str::from_utf8(cursor.string("a string")?) {
            Ok(string) => Value::String(string.to_owned()),
            Err(_) => return Err(GgufError::StringNotUtf8 { key }),
        },
        ValueType::Array => Value::Array(array(cursor, &key, 1)?),
    };
    Ok((key, value))
}

fn value_type(cursor: &mut Cursor<'_>, key: &str) -> Result<ValueType, GgufError> {
    let number = cursor.u32("the type of a value")?;
    ValueType::from_number(number).ok_or_else(|| GgufError::UnknownValueType { key: key.to_owned(), number })
}

fn read_bool(byte: u8, key: &str) -> Result<bool, GgufError> {
    match byte {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(GgufError::Bool { key: key.to_owned(), byte }),
    }
}

fn array(cursor: &mut Cursor<'_>, key: &str, depth: usize) -> Result<Array, GgufError> {
    if depth > MAX_ARRAY_DEPTH {
        return Err(GgufError::Nesting { key: key.to_owned(), limit: MAX_ARRAY_DEPTH });
    }
    let element = value_type(cursor, key)?;
    let count = cursor.u64("the length of an array")?;
    // After this check the count is no larger than the bytes that follow it.
    let count = cursor.checked_count(count, element.min_bytes(), "elements").map_err(|_| {
        GgufError::Array { key: key.to_owned(), count, element, at: cursor.at(), left: cursor.left() }
    })?;
    Ok(match element {
        ValueType::U8 => Array::U8(numbers(cursor, count, u8::from_le_bytes)?),
        ValueType::I8 => Array::I8(numbers(cursor, count, i8::from_le_bytes)?),
        ValueType::U16 => Array::U16(numbers(cursor, count, u16::from_le_bytes)?),
        ValueType::I16 => Array::I16(numbers(cursor, count, i16::from_le_bytes)?),
        ValueType::U32 => Array::U32(numbers(cursor, count, u32::from_le_bytes)?),
        ValueType::I32 => Array::I32(numbers(cursor, count, i32::from_le_bytes)?),
        ValueType::F32 => Array::F32(numbers(cursor, count, f32::from_le_bytes)?),
        ValueType::U64 => Array::U64(numbers(cursor, count, u64::from_le_bytes)?),
        ValueType::I64 => Array::I64(numbers(cursor, count, i64::from_le_bytes)?),
        ValueType::F64 => Array::F64(numbers(cursor, count, f64::from_le_bytes)?),
        ValueType::Bool => {
            let bytes = cursor.take(count as u64, "an array")?;
            Array::Bool(bytes.iter().map(|&byte| read_bool(byte, key)).collect::<Result<_, _>>()?)
        }
        ValueType::String => Array::String(strings(cursor, count, key)?),
        ValueType::Array => {
            let mut arrays = Vec::new();
            for _ in 0..count {
                arrays.push(array(cursor, key, depth + 1)?);
            }
            Array::Array(arrays)
        }
    })
}

fn numbers<const N: usize, T>(
    cursor: &mut Cursor<'_>,
    count: usize,
    from_le_bytes: fn([u8; N]) -> T,
) -> Result<Vec<T>, GgufError> {
    let bytes = cursor.take(count as u64 * N as u64, "an array")?;
    Ok(bytes.as_chunks::<N>().0.iter().map(|&chunk| from_le_bytes(chunk)).collect())
}

fn strings(cursor: &mut Cursor<'_>, count: usize, key: &str) -> Result<StringArray, GgufError> {
    let mut ahead = cursor.clone();
    let mut text_bytes = 0;
    for _ in 0..count {
        text_bytes += ahead.string("a string of an array")?.len();
    }
    // Both are there: every string takes at least the bytes of its length.
    let (mut text, mut ends) = (Vec::with_capacity(text_bytes), Vec::with_capacity(count));
    for _ in 0..count {
        text.extend_from_slice(cursor.string("a string of an array")?);
        ends.push(text.len());
    }
    StringArray::from_parts(text, ends)
        .map_err(|index| GgufError::ElementNotUtf8 { key: key.to_owned(), index })
}

fn alignment(metadata: &Metadata) -> Result<u32, GgufError> {
    let alignment = metadata.u32("general.alignment").if_present()?.unwrap_or(DEFAULT_ALIGNMENT);
    if alignment.is_power_of_two() { Ok(alignment) } else { Err(GgufError::Alignment { alignment }) }
}

/// A tensor as the header describes it, its shape and offset checked, its end not yet.
struct PlacedTensor {
    name: String,
    dtype: DType,
    shape: Vec<usize>,
    offset: u64,
    bytes: usize,
}

impl PlacedTensor {
    fn read(cursor: &mut Cursor<'_>, alignment: u32) -> Result<PlacedTensor, GgufError> {
        let name = read_name(cursor, "a tensor name")?;
        let n_dims = cursor.u32("the number of dimensions")?;
        if n_dims > MAX_DIMS as u32 {
            return Err(GgufError::TooManyDims { tensor: name, n_dims, limit: MAX_DIMS });
        }
        let ne = (0..n_dims).map(|_| cursor.u64("a dimension")).collect::<Result<Vec<u64>, _>>()?;
        let number = cursor.u32("the type of a tensor")?;
        let offset = cursor.u64("the offset of a tensor")?;

        let Some(dtype) = DType::from_ggml(number) else {
            return Err(GgufError::UnknownTensorType { tensor: name, number });
        };
        if ne.contains(&0) {
            return Err(GgufError::ZeroDim { tensor: name, ne });
        }
        let Some(n_values) = product(&ne) else {
            return Err(GgufError::TooLarge { tensor: name, ne });
        };
        let shape: Vec<usize> = ne.iter().rev().map(|&n| n as usize).collect();
        let n_cols = shape.last().copied().unwrap_or(1);
        if !n_cols.is_multiple_of(dtype.block_len()) {
            return Err(GgufError::PartialRow { tensor: name, n_cols, dtype });
        }
        let Some(bytes) = dtype.bytes_for(n_values) else {
            return Err(GgufError::TooLarge { tensor: name, ne });
        };
        if !offset.is_multiple_of(alignment.into()) {
            return Err(GgufError::Unaligned { tensor: name, offset, alignment });
        }
        Ok(PlacedTensor { name, dtype, shape, offset, bytes })
    }

    fn locate(self, data_start: usize, file_bytes: usize) -> Result<TensorInfo, GgufError> {
        let start = data_start as u128 + u128::from(self.offset);
        let end = start + self.bytes as u128;
        if end > file_bytes as u128 {
            return Err(GgufError::PastEnd { tensor: self.name, end, file_bytes });
        }
        // Both are at most the length of the file.
        let range = start as usize..end as usize;
        Ok(TensorInfo { name: self.name, dtype: self.dtype, shape: self.shape, range })
    }
}

/// The product, if it and all its factors fit in memory's own counts.
fn product(ne: &[u64]) -> Option<usize> {
    ne.iter().try_fold(1usize, |product, &n| product.checked_mul(usize::try_from(n).ok()?))
}

fn check_overlap(tensors: &[TensorInfo]) -> Result<(), GgufError> {
    let mut by_start: Vec<&TensorInfo> = tensors.iter().collect();
    by_start.sort_by_key(|tensor| tensor.range.start);
    match by_start.windows(2).find(|pair| pair[1].range.start < pair[0].range.end) {
        Some(pair) => Err(GgufError::Overlap {
            first: pair[0].name.clone(),
            end: pair[0].range.end,
            second: pair[1].name.clone(),
            start: pair[1].range.start,
        }),
        None => Ok(()),
    }
}
