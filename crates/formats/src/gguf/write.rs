//! Makes small GGUF files, right ones and wrong ones, for tests and fuzzing.
//!
//! Everything is kept in memory; the writer checks nothing, so that it can break every rule of the format.

use super::encode::{self, RawTensor};
use super::value::Value;
use lossy_quant::{DType, bf16, f16};

/// A file in the making.
#[derive(Debug, Clone, Default)]
pub struct GgufWriter {
    version: Option<u32>,
    entries: Vec<(String, Value)>,
    tensors: Vec<RawTensor>,
    data: Vec<u8>,
}

impl GgufWriter {
    /// An empty file of version 3.
    pub fn new() -> Self {
        GgufWriter::default()
    }

    /// Changes the version.
    pub fn version(mut self, version: u32) -> Self {
        self.version = Some(version);
        self
    }

    /// Adds a key. `general.alignment` must come before the tensors that it places.
    pub fn set(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.entries.push((key.to_owned(), value.into()));
        self
    }

    /// Adds a tensor at the next aligned offset. `shape` is row-major, `[n_rows, n_cols]`.
    pub fn tensor(mut self, name: &str, dtype: DType, shape: &[usize], bytes: &[u8]) -> Self {
        let offset = self.data.len().next_multiple_of(self.alignment());
        self.data.resize(offset, 0);
        self.data.extend_from_slice(bytes);
        let ne: Vec<u64> = shape.iter().rev().map(|&n| n as u64).collect();
        self.raw_tensor(name, dtype.to_ggml(), &ne, offset as u64)
    }

    /// Adds a tensor whose values are quantized to `dtype`. Floats may be NaN or infinite.
    ///
    /// # Panics
    /// When the values are not whole blocks of numbers, or the format has no encoder.
    pub fn tensor_from_f32(self, name: &str, dtype: DType, shape: &[usize], values: &[f32]) -> Self {
        let bytes = match dtype {
            DType::F32 => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
            DType::F16 => values.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect(),
            DType::BF16 => values.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect(),
            _ => {
                let mut bytes = vec![0; dtype.bytes_for(values.len()).expect("whole blocks")];
                lossy_quant::quantize(dtype, values, None, &mut bytes).expect("an encoder, and numbers");
                bytes
            }
        };
        self.tensor(name, dtype, shape, &bytes)
    }

    /// Adds what a header can say about a tensor, without data. `ne` is in the order of the file.
    pub fn raw_tensor(mut self, name: &str, ggml_type: u32, ne: &[u64], offset: u64) -> Self {
        self.tensors.push(RawTensor { name: name.to_owned(), ne: ne.to_owned(), ggml_type, offset });
        self
    }

    /// Adds data that belongs to no tensor, for those of [`GgufWriter::raw_tensor`].
    pub fn raw_data(mut self, bytes: &[u8]) -> Self {
        self.data.extend_from_slice(bytes);
        self
    }

    fn alignment(&self) -> usize {
        let set = self.entries.iter().find(|(key, _)| key == "general.alignment");
        match set {
            Some((_, Value::U32(alignment))) => *alignment as usize,
            _ => 32,
        }
    }

    /// The header without the padding after it.
    pub fn header_bytes(&self) -> Vec<u8> {
        encode::header(self.version.unwrap_or(3), &self.entries, &self.tensors)
    }

    /// The file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = self.header_bytes();
        let alignment = self.alignment();
        if alignment > 0 {
            out.resize(out.len().next_multiple_of(alignment), 0);
        }
        out.extend_from_slice(&self.data);
        out
    }
}
