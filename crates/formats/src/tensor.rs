use lossy_quant::DType;

/// A tensor in a mapped file.
#[derive(Debug, Clone, Copy)]
pub struct TensorView<'a> {
    /// Name, as the file has it.
    pub name: &'a str,
    /// What the bytes are.
    pub dtype: DType,
    /// Row-major: a matrix is `[n_rows, n_cols]` and a row is contiguous. No dimension is 0; a scalar has none.
    pub shape: &'a [usize],
    /// The blocks, exactly as many as the shape implies.
    pub bytes: &'a [u8],
}

impl TensorView<'_> {
    /// Number of values.
    pub fn n_values(&self) -> usize {
        self.bytes.len() / self.dtype.block_bytes() * self.dtype.block_len()
    }
}
