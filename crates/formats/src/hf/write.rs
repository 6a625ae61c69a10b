//! Makes small safetensors files, right ones and wrong ones, for tests and fuzzing.

/// A file in the making; it checks nothing.
#[derive(Debug, Clone, Default)]
pub struct SafetensorsWriter {
    entries: Vec<String>,
    data: Vec<u8>,
}

impl SafetensorsWriter {
    /// A file without tensors.
    pub fn new() -> Self {
        SafetensorsWriter::default()
    }

    /// Adds a tensor behind the others. `dtype` is as the format spells it, such as `BF16`; `shape` is row-major.
    pub fn tensor(self, name: &str, dtype: &str, shape: &[usize], bytes: &[u8]) -> Self {
        let offsets = (self.data.len(), self.data.len() + bytes.len());
        let mut file = self.raw_tensor(name, dtype, shape, offsets);
        file.data.extend_from_slice(bytes);
        file
    }

    /// Adds what a header can say about a tensor, without data.
    pub fn raw_tensor(self, name: &str, dtype: &str, shape: &[usize], (start, end): (usize, usize)) -> Self {
        let name = serde_json::Value::from(name);
        self.raw_entry(&format!(
            r#"{name}:{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[{start},{end}]}}"#
        ))
    }

    /// Adds the JSON of an entry as it is.
    pub fn raw_entry(mut self, json: &str) -> Self {
        self.entries.push(json.to_owned());
        self
    }

    /// Adds data that belongs to no tensor, for those of [`SafetensorsWriter::raw_tensor`].
    pub fn raw_data(mut self, bytes: &[u8]) -> Self {
        self.data.extend_from_slice(bytes);
        self
    }

    /// The file; spaces fill the header up to a multiple of 8 bytes, as the format asks.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut header = format!("{{{}}}", self.entries.join(","));
        while !header.len().is_multiple_of(8) {
            header.push(' ');
        }
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &self.data].concat()
    }
}
