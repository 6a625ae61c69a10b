use super::metadata::MetadataError;
use super::value::ValueType;
use crate::Instead;
use crate::name::NameFault;
use lossy_quant::DType;
use std::path::PathBuf;

/// The rules of a GGUF file, as what breaks them.
#[derive(Debug, thiserror::Error)]
pub enum GgufError {
    /// Something is wrong with one file; the error inside says what.
    #[error("{}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: Box<GgufError>,
    },
    /// The system could not open or map the file.
    #[error(transparent)]
    Io(#[from] std::io::Error),

    /// The file is one that often lies in the place of a model.
    #[error("{0}")]
    Instead(Instead),
    /// The file starts with the four bytes `GGUF`.
    #[error("not a GGUF file: it starts with `{}`, not with `GGUF`", found.escape_ascii())]
    NotGguf {
        /// What it starts with.
        found: [u8; 4],
    },
    /// The version is 2 or 3.
    #[error("GGUF version {version} is not supported: versions 2 and 3 are; convert the file again")]
    Version {
        /// The version of the file.
        version: u32,
    },
    /// Numbers are little-endian.
    #[error(
        "the file is big-endian (its version reads {version:#010x}); only little-endian files are supported"
    )]
    BigEndian {
        /// The version as it reads.
        version: u32,
    },
    /// What the header announces is there.
    #[error("{what} at byte {at} takes {needs} bytes, but the file has {file_bytes}")]
    Truncated {
        /// What was being read.
        what: &'static str,
        /// Where it starts.
        at: usize,
        /// Bytes that it takes, at the least.
        needs: u64,
        /// Length of the file.
        file_bytes: usize,
    },
    /// A count is not larger than what the rest of the file can hold.
    #[error("{count} {what} take {needs} bytes at the least, but only {left} follow byte {at}", needs = needs(*count, *each))]
    Count {
        /// What is counted.
        what: &'static str,
        /// How many the file says there are.
        count: u64,
        /// Bytes that each takes at the least.
        each: u64,
        /// Where they start.
        at: usize,
        /// Bytes that follow.
        left: usize,
    },

    /// Keys and names are UTF-8.
    #[error("{what} at byte {at} is not UTF-8")]
    NameNotUtf8 {
        /// Key or tensor name.
        what: &'static str,
        /// Where its bytes start.
        at: usize,
    },
    /// Keys and names can be printed.
    #[error("{what} at byte {at} {fault}")]
    Name {
        /// Key or tensor name.
        what: &'static str,
        /// Where its bytes start.
        at: usize,
        /// What is wrong with it.
        fault: NameFault,
    },
    /// Each key comes once.
    #[error("key `{key}` comes twice")]
    DuplicateKey {
        /// The key.
        key: String,
    },
    /// A value's type has a number from 0 to 12.
    #[error("key `{key}` has type {number}, which GGUF does not know")]
    UnknownValueType {
        /// The key.
        key: String,
        /// The number.
        number: u32,
    },
    /// String values are UTF-8.
    #[error("the value of key `{key}` is not UTF-8")]
    StringNotUtf8 {
        /// The key.
        key: String,
    },
    /// Strings in arrays are UTF-8.
    #[error("string {index} of key `{key}` is not UTF-8")]
    ElementNotUtf8 {
        /// The key.
        key: String,
        /// Which string.
        index: usize,
    },
    /// A truth value is 0 or 1.
    #[error("key `{key}` is a bool with byte {byte}, which is neither 0 nor 1")]
    Bool {
        /// The key.
        key: String,
        /// The byte.
        byte: u8,
    },
    /// Arrays hold arrays only so deep.
    #[error("key `{key}` nests arrays more than {limit} deep")]
    Nesting {
        /// The key.
        key: String,
        /// The limit.
        limit: usize,
    },
    /// The elements of an array are in the file.
    #[error("key `{key}` is an array of {count} × {element}, but only {left} bytes follow byte {at}")]
    Array {
        /// The key.
        key: String,
        /// How many elements the file says there are.
        count: u64,
        /// What they are.
        element: ValueType,
        /// Where they start.
        at: usize,
        /// Bytes that follow.
        left: usize,
    },
    /// A key of the format itself has the value it should.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// The alignment is a power of two.
    #[error("general.alignment is {alignment}, which is not a power of two")]
    Alignment {
        /// The alignment.
        alignment: u32,
    },

    /// Each tensor comes once.
    #[error("tensor `{tensor}` comes twice")]
    DuplicateTensor {
        /// The tensor.
        tensor: String,
    },
    /// A tensor has at most four dimensions.
    #[error("tensor `{tensor}` has {n_dims} dimensions, but {limit} is the most")]
    TooManyDims {
        /// The tensor.
        tensor: String,
        /// Its number of dimensions.
        n_dims: u32,
        /// The most there may be.
        limit: usize,
    },
    /// No dimension is 0.
    #[error("tensor `{tensor}` has a dimension of 0: {ne:?}")]
    ZeroDim {
        /// The tensor.
        tensor: String,
        /// Dimensions in the order of the file.
        ne: Vec<u64>,
    },
    /// The number of bytes of a tensor is a number.
    #[error("tensor `{tensor}` has dimensions {ne:?}, whose product is too large")]
    TooLarge {
        /// The tensor.
        tensor: String,
        /// Dimensions in the order of the file.
        ne: Vec<u64>,
    },
    /// The type of a tensor is one of ggml's.
    #[error("tensor `{tensor}` has type {number}, which ggml does not have (or no longer)")]
    UnknownTensorType {
        /// The tensor.
        tensor: String,
        /// The number.
        number: u32,
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
    /// A tensor starts at a multiple of the alignment.
    #[error(
        "tensor `{tensor}` starts at offset {offset}, which is not a multiple of the alignment {alignment}"
    )]
    Unaligned {
        /// The tensor.
        tensor: String,
        /// Offset from the start of the data.
        offset: u64,
        /// The alignment of the file.
        alignment: u32,
    },
    /// A tensor lies within the file.
    #[error("tensor `{tensor}` ends at byte {end}, but the file has {file_bytes}")]
    PastEnd {
        /// The tensor.
        tensor: String,
        /// Where it ends.
        end: u128,
        /// Length of the file.
        file_bytes: usize,
    },
    /// No byte belongs to two tensors.
    #[error("tensor `{second}` starts at byte {start}, but tensor `{first}` before it ends at byte {end}")]
    Overlap {
        /// The tensor that starts first.
        first: String,
        /// Where it ends.
        end: usize,
        /// The tensor that starts before that.
        second: String,
        /// Where it starts.
        start: usize,
    },

    /// A part of a split file says so in its name.
    #[error(
        "the file is part {no} of {count}, but is not named …-{no:05}-of-{count:05}.gguf, so the others cannot be found"
    )]
    SplitName {
        /// Number of the part, from 1.
        no: u64,
        /// Number of parts.
        count: u64,
    },
    /// The parts agree with their names.
    #[error("the file says that it is part {no} of {count}, but its name says {name_no} of {name_count}")]
    SplitNumber {
        /// Number of the part, from 1.
        no: u64,
        /// Number of parts.
        count: u64,
        /// Number of the part in the name.
        name_no: u64,
        /// Number of parts in the name.
        name_count: u64,
    },
    /// All tensors are there.
    #[error("the parts have {found} tensors, but split.tensors.count is {expected}")]
    SplitTensors {
        /// Tensors in all parts.
        found: usize,
        /// Tensors that there should be.
        expected: u64,
    },
}

fn needs(count: u64, each: u64) -> u128 {
    u128::from(count) * u128::from(each)
}
