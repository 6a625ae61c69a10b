//! A view of some columns of a matrix.

use std::ops::Range;

/// Columns `offset..` of the rows of a row-major matrix: the q, k or v part of a fused projection.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    data: &'a [f32],
    stride: usize,
    offset: usize,
}

impl<'a> Rows<'a> {
    /// `data` is `[n_rows, stride]`; the view begins at column `offset`.
    ///
    /// # Panics
    /// `stride` is 0, `data` is not a whole number of rows, or `offset` is beyond a row.
    pub fn new(data: &'a [f32], stride: usize, offset: usize) -> Rows<'a> {
        assert!(stride > 0 && data.len().is_multiple_of(stride), "{} values in rows of {stride}", data.len());
        assert!(offset <= stride, "column {offset} of rows of {stride}");
        Rows { data, stride, offset }
    }

    /// Rows of the matrix.
    pub fn n_rows(&self) -> usize {
        self.data.len() / self.stride
    }

    /// The view that begins `n` columns further right.
    ///
    /// # Panics
    /// There are fewer columns.
    pub fn skip(&self, n: usize) -> Rows<'a> {
        Rows::new(self.data, self.stride, self.offset + n)
    }

    /// The rows in `range` only.
    ///
    /// # Panics
    /// There are fewer rows.
    pub fn select(&self, range: Range<usize>) -> Rows<'a> {
        Rows { data: &self.data[range.start * self.stride..range.end * self.stride], ..*self }
    }

    /// The first `width` columns of the view in row `row`.
    ///
    /// # Panics
    /// There is no such row, or it is shorter.
    pub fn row(&self, row: usize, width: usize) -> &'a [f32] {
        let row = &self.data[row * self.stride..(row + 1) * self.stride];
        &row[self.offset..self.offset + width]
    }
}
