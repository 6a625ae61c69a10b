//! A weight matrix, packed once at load.

use super::formats;
use super::strips::Strips;
use super::tile::ROWS;
use crate::Compute;
use crate::memory::{AlignedBytes, Slabs};
use lossy_quant::DType;
use std::{fmt, io};

/// Weights of all models.
static SLABS: Slabs = Slabs::new(32 << 20);

/// Why a matrix cannot be packed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// there are no kernels for the type
    #[error("matrices of type {0} cannot be computed")]
    Unsupported(&'static str),
    /// the rows are not whole blocks
    #[error("rows of {n_cols} columns are not whole blocks of {block_len} ({dtype})")]
    Columns {
        /// columns
        n_cols: usize,
        /// columns of a block
        block_len: usize,
        /// the type
        dtype: &'static str,
    },
    /// the bytes are not those of the shape
    #[error("{n_rows} x {n_cols} values of type {dtype} take {wanted} bytes, not {found}")]
    Bytes {
        /// rows
        n_rows: usize,
        /// columns
        n_cols: usize,
        /// the type
        dtype: &'static str,
        /// bytes that the shape takes
        wanted: u128,
        /// bytes given
        found: usize,
    },
    /// the system has no memory for the packed matrix
    #[error("the system gives no {bytes} bytes for a matrix: {source}")]
    Memory {
        /// bytes of the packed matrix
        bytes: usize,
        /// the system's reason
        source: io::Error,
    },
}

/// Memory for the strips of a matrix.
fn memory(bytes: usize) -> Result<AlignedBytes, PackError> {
    SLABS.zeroed(bytes).map_err(|source| PackError::Memory { bytes, source })
}

/// A weight matrix `[n_rows, n_cols]`, packed into strips of eight rows for the kernels.
pub struct Matrix {
    n_rows: usize,
    n_cols: usize,
    reads_floats: bool,
    strips: &'static dyn Strips,
    bytes: AlignedBytes,
}

impl Matrix {
    /// Packs a matrix from the bytes of a file, row after row.
    ///
    /// # Errors
    /// The type has no kernels, the rows are not whole blocks, `bytes` has another length than the shape takes, or the system has
    /// no memory.
    pub fn pack(
        cx: &Compute,
        dtype: DType,
        n_rows: usize,
        n_cols: usize,
        bytes: &[u8],
    ) -> Result<Matrix, PackError> {
        let name = dtype.name();
        let strips = formats::of(dtype).ok_or(PackError::Unsupported(name))?;
        let block_len = dtype.block_len();
        if n_cols == 0 || !n_cols.is_multiple_of(block_len) {
            return Err(PackError::Columns { n_cols, block_len, dtype: name });
        }
        let wanted = n_rows as u128 * (n_cols / block_len) as u128 * dtype.block_bytes() as u128;
        if wanted != bytes.len() as u128 {
            return Err(PackError::Bytes { n_rows, n_cols, dtype: name, wanted, found: bytes.len() });
        }
        // The shape is now as large as `bytes`, so nothing below overflows.
        let row_bytes = n_cols / block_len * dtype.block_bytes();
        let strip_bytes = strips.strip_bytes(n_cols);
        let mut packed = memory(n_rows.div_ceil(ROWS) * strip_bytes)?;
        let mut tasks: Vec<(&mut [u8], &[u8])> =
            packed.chunks_exact_mut(strip_bytes).zip(bytes.chunks(ROWS * row_bytes)).collect();
        cx.pool.run_mut(&mut tasks, |_, (strip, rows)| {
            let mut eight: [&[u8]; ROWS] = [&[]; ROWS];
            let mut n = 0;
            for row in rows.chunks_exact(row_bytes) {
                eight[n] = row;
                n += 1;
            }
            strips.pack_strip(&eight[..n], strip);
        });
        // Types whose blocks are single values are those of floats.
        Ok(Matrix { n_rows, n_cols, reads_floats: block_len == 1, strips, bytes: packed })
    }

    /// Rows: values of the product.
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// Columns: values of an activation row.
    pub fn n_cols(&self) -> usize {
        self.n_cols
    }

    /// Whether its products read activations as float32, of whatever kind they are.
    pub fn reads_floats(&self) -> bool {
        self.reads_floats
    }

    /// Bytes that the packed matrix takes.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The format as ggml spells it, such as `Q4_1`.
    pub fn format_name(&self) -> &'static str {
        self.strips.name()
    }

    /// Writes the values of one row, `[n_cols]`: the embedding of a token, where the matrix is a table of them.
    ///
    /// # Panics
    /// `row` is not below `n_rows`, or `out` has another length than `n_cols`.
    pub fn row(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.n_rows && out.len() == self.n_cols, "row {row} of {self:?}");
        self.strips.values(self.strip(row / ROWS), row % ROWS, out);
    }

    pub(super) fn strips(&self) -> &'static dyn Strips {
        self.strips
    }

    pub(super) fn n_strips(&self) -> usize {
        self.n_rows.div_ceil(ROWS)
    }

    pub(super) fn strip_bytes(&self) -> usize {
        self.strips.strip_bytes(self.n_cols)
    }

    pub(super) fn strip(&self, index: usize) -> &[u8] {
        let strip_bytes = self.strip_bytes();
        &self.bytes[index * strip_bytes..][..strip_bytes]
    }
}

impl fmt::Debug for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Matrix({} {} x {})", self.format_name(), self.n_rows, self.n_cols)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_memory_is_an_error_that_names_the_bytes() {
        let error = memory(1 << 62).unwrap_err().to_string();
        assert!(error.starts_with("the system gives no 4611686018427387904 bytes for a matrix: "), "{error}");
    }
}
