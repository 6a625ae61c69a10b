//! The weights of one tensor in another type.

use super::{Planned, QuantizeError};
use crate::feedback::{self, Factor, Moments};
use lossy_formats::TensorView;
use lossy_quant::{QuantError, dequantize, quantize};

/// Values of a tensor that are in memory as float32 at a time, without feedback.
pub(crate) const SLAB_VALUES: usize = 4 << 20;

pub(super) fn n_cols(source: &TensorView<'_>) -> usize {
    source.shape.last().copied().unwrap_or(1)
}

/// One matrix, or a stack of experts.
pub(super) struct Job<'a> {
    pub(super) tensor: &'a Planned<'a>,
    /// of the columns, for each expert, or one for all
    pub(super) weights: &'a [Option<Vec<f32>>],
    pub(super) n_threads: usize,
}

impl Job<'_> {
    fn n_cols(&self) -> usize {
        n_cols(&self.tensor.source)
    }

    fn n_rows(&self) -> usize {
        self.tensor.source.n_values() / self.n_cols()
    }

    pub(super) fn row_bytes(&self) -> usize {
        self.tensor.source.bytes.len() / self.n_rows()
    }

    fn new_row_bytes(&self) -> usize {
        self.tensor.bytes / self.n_rows()
    }

    pub(super) fn slabs(&self) -> impl Iterator<Item = std::ops::Range<usize>> + use<> {
        let (n_rows, step) = (self.n_rows(), (SLAB_VALUES / self.n_cols()).max(1));
        (0..n_rows).step_by(step).map(move |first| first..(first + step).min(n_rows))
    }

    fn error(&self, row: usize) -> impl FnOnce(QuantError) -> QuantizeError + '_ {
        move |error| QuantizeError::Row { tensor: self.tensor.source.name.to_owned(), row, error }
    }

    /// The weights of a row's expert.
    fn weights_of(&self, row: usize) -> Option<&[f32]> {
        let rows_of_one = self.n_rows() / self.weights.len();
        self.weights[row / rows_of_one].as_deref()
    }

    /// The bytes of some rows.
    pub(super) fn encode(&self, rows: std::ops::Range<usize>) -> Result<Vec<u8>, QuantizeError> {
        let Planned { source, choice, .. } = self.tensor;
        let mut out = vec![0; rows.len() * self.new_row_bytes()];
        feedback::in_parallel(self.n_threads, &mut out, self.new_row_bytes(), |at, out| {
            let row = rows.start + at;
            let mut values = vec![0.0; self.n_cols()];
            let bytes = &source.bytes[row * self.row_bytes()..][..self.row_bytes()];
            dequantize(source.dtype, bytes, &mut values).map_err(self.error(row))?;
            quantize(choice.dtype, &values, self.weights_of(row), out).map_err(self.error(row))
        })?;
        Ok(out)
    }

    /// The bytes of some rows, with each column's error carried to the rest. Rows do not know of each other.
    pub(super) fn with_feedback(
        &self,
        rows: std::ops::Range<usize>,
        moments: &Moments,
        factor: &Factor,
    ) -> Result<Vec<u8>, QuantizeError> {
        let Planned { source, choice, .. } = self.tensor;
        let mut values = vec![0.0; rows.len() * self.n_cols()];
        let bytes = &source.bytes[rows.start * self.row_bytes()..][..rows.len() * self.row_bytes()];
        dequantize(source.dtype, bytes, &mut values).map_err(self.error(rows.start))?;
        let matrix = feedback::Matrix { values: &values, n_cols: self.n_cols() };
        feedback::quantize(choice.dtype, matrix, self.weights_of(0), moments, factor, self.n_threads)
            .map_err(|error| self.tensor.statistics_error(error))
    }
}
