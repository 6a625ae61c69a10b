//! Error feedback: the rounding error of each column is carried to the columns that come after it.
//!
//! A row w of a matrix is used as w·x. What counts is therefore not Σ (w − q)², but (w − q)ᵀ H (w − q) with `H = E[x xᵀ]`. Columns
//! are rounded one after another, and what one loses is made up for by those that are still open:
//!
//! ```text
//! H + damping = R Rᵀ, R upper triangular;  U = R⁻¹, so that H⁻¹ = Uᵀ U
//! for each column j:   q_j = round(w_j)      e = (w_j − q_j) / U_jj      w_k −= e · U_jk  for all k > j
//! ```
//!
//! Source: GPTQ (Frantar et al. 2022) with *static groups*: scales are found first, for the weights as they are
//! ([`lossy_quant::fit`]), and stay. So columns can come in any order, and those with the largest `E[x²]` come first, while most
//! columns are left to make up for them. A code has its place in the file whatever the order, so the file is an ordinary one.
//!
//! With H = 1 nothing is carried, and the result is that of plain rounding, bit for bit. Rows do not know of each other, and are
//! computed in groups of a fixed size; so the result is the same for any number of threads.

use faer::linalg::matmul::matmul;
use faer::linalg::triangular_inverse::invert_lower_triangular;
use faer::{Accum, Mat, MatMut, MatRef, Par, Side};
use lossy_quant::{DType, QuantError, fit};

/// What is added to the diagonal at first, as a part of its mean.
const DAMPING: f32 = 0.01;
/// Each time that the factorization fails.
const MORE: f32 = 10.0;
/// Above it H is no matrix of second moments.
const MAX_DAMPING: f32 = 1e3;
/// Columns between two products of matrices.
const BLOCK: usize = 64;
/// Rows that are computed together.
const ROWS: usize = 64;

/// `E[x xᵀ]` of a matrix's input.
#[derive(Debug, Clone, PartialEq)]
pub struct Moments {
    n: usize,
    values: Vec<f32>,
}

/// Why a matrix cannot be rounded with feedback.
#[derive(Debug, thiserror::Error)]
pub enum FeedbackError {
    /// The moments are those of another matrix.
    #[error("they have {found} numbers, but the matrix has {n_cols} columns")]
    Size {
        /// Numbers that there are.
        found: usize,
        /// Columns of the matrix.
        n_cols: usize,
    },
    /// A moment is no number, or a mean square is below 0.
    #[error("the mean product of columns {row} and {col} is {value}")]
    NotFinite {
        /// One column, from 0.
        row: usize,
        /// The other.
        col: usize,
        /// What stands there.
        value: f32,
    },
    /// No damping helps.
    #[error(
        "they are no second moments: not even with a thousand times their mean on the diagonal are they positive definite"
    )]
    Indefinite,
    /// A row cannot be encoded.
    #[error("row {row}: {error}")]
    Row {
        /// The row, from 0.
        row: usize,
        /// Why.
        error: QuantError,
    },
    /// Whoever has the statistics could not give them.
    #[error(transparent)]
    Source(#[from] Box<dyn std::error::Error + Send + Sync>),
}

impl Moments {
    /// Of `n × n` numbers, symmetric; only the lower triangle counts.
    ///
    /// # Errors
    /// There is another number of them, one is none, or a mean square is below 0.
    pub fn new(n: usize, values: Vec<f32>) -> Result<Moments, FeedbackError> {
        if n.checked_mul(n) != Some(values.len()) {
            return Err(FeedbackError::Size { found: values.len(), n_cols: n });
        }
        let is_wrong = |at: usize| !values[at].is_finite() || (at / n == at % n && values[at] < 0.0);
        if let Some(at) = (0..values.len()).find(|&at| is_wrong(at)) {
            return Err(FeedbackError::NotFinite { row: at / n, col: at % n, value: values[at] });
        }
        Ok(Moments { n, values })
    }

    /// Columns of the matrix.
    pub fn n_cols(&self) -> usize {
        self.n
    }

    /// The mean square of each column's input.
    pub fn mean_squares(&self) -> Vec<f32> {
        (0..self.n).map(|i| self.values[i * self.n + i]).collect()
    }

    /// Whether any input was seen that is not 0.
    pub fn is_seen(&self) -> bool {
        (0..self.n).any(|i| self.values[i * self.n + i] > 0.0)
    }
}

/// A matrix of float32 numbers, row-major.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    /// `[n_rows, n_cols]`
    pub values: &'a [f32],
    /// Columns.
    pub n_cols: usize,
}

/// The order of the columns, and how far the error of each goes to those after it.
pub struct Factor {
    /// The column at each place of the order.
    order: Vec<usize>,
    /// `U`, in that order, row-major, with what is below the diagonal 0.
    upper: Mat<f32>,
}

impl Factor {
    /// Factorizes moments.
    ///
    /// # Errors
    /// They are no second moments.
    pub fn of(moments: &Moments) -> Result<Factor, FeedbackError> {
        let n = moments.n;
        let squares = moments.mean_squares();
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by(|&a, &b| squares[b].total_cmp(&squares[a]));
        let mean = (squares.iter().map(|&x| f64::from(x)).sum::<f64>() / n as f64) as f32;
        // The factor of H with its order reversed is lower triangular; reversed again it is the R that we want.
        let at = |place: usize| order[n - 1 - place];
        let moment = |i: usize, j: usize| {
            let (a, b) = (at(i).max(at(j)), at(i).min(at(j)));
            moments.values[a * n + b]
        };
        let mut damping = DAMPING;
        let lower = loop {
            let damped = Mat::from_fn(n, n, |i, j| moment(i, j) + if i == j { damping * mean } else { 0.0 });
            if let Ok(factor) = damped.llt(Side::Lower) {
                let mut inverse = Mat::<f32>::zeros(n, n);
                invert_lower_triangular(inverse.as_mut(), factor.L(), Par::Seq);
                if (0..n).all(|i| inverse[(i, i)].is_finite() && inverse[(i, i)] > 0.0) {
                    break inverse;
                }
            }
            damping *= MORE;
            if damping > MAX_DAMPING {
                return Err(FeedbackError::Indefinite);
            }
        };
        let upper = Mat::from_fn(n, n, |i, j| if i <= j { lower[(n - 1 - i, n - 1 - j)] } else { 0.0 });
        Ok(Factor { order, upper })
    }
}

/// Encodes a matrix as blocks of `dtype`, on the scales that [`fit`] finds with `weights` of its columns, or with the mean squares of
/// their inputs if there are none.
///
/// # Errors
/// The moments do not fit the matrix, or a row cannot be encoded.
///
/// # Panics
/// When the values are not whole rows.
pub fn quantize(
    dtype: DType,
    matrix: Matrix<'_>,
    weights: Option<&[f32]>,
    moments: &Moments,
    factor: &Factor,
    n_threads: usize,
) -> Result<Vec<u8>, FeedbackError> {
    let n_cols = matrix.n_cols;
    assert!(matrix.values.len().is_multiple_of(n_cols), "whole rows");
    if moments.n != n_cols {
        return Err(FeedbackError::Size { found: moments.values.len(), n_cols });
    }
    let squares = moments.mean_squares();
    let weights = weights.unwrap_or(&squares);
    let row_bytes = dtype.bytes_for(n_cols).ok_or(FeedbackError::Row {
        row: 0,
        error: QuantError::PartialBlock { dtype, n_values: n_cols, block_len: dtype.block_len() },
    })?;
    // U row by row, for the products of rows.
    let rows_of_upper: Vec<f32> =
        (0..n_cols).flat_map(|i| (0..n_cols).map(move |j| (i, j))).map(|at| factor.upper[at]).collect();
    let n_rows = matrix.values.len() / n_cols;
    let mut out = vec![0; n_rows * row_bytes];
    in_parallel(n_threads, &mut out, ROWS * row_bytes, |group, out| {
        let first = group * ROWS;
        let n_rows = out.len() / row_bytes;
        let values = &matrix.values[first * n_cols..][..n_rows * n_cols];
        let group = Group { dtype, values, weights, n_cols, order: &factor.order, upper: &rows_of_upper };
        group.encode(out).map_err(|(row, error)| FeedbackError::Row { row: first + row, error })
    })?;
    Ok(out)
}

/// Rows that are rounded together.
struct Group<'a> {
    dtype: DType,
    values: &'a [f32],
    weights: &'a [f32],
    n_cols: usize,
    order: &'a [usize],
    upper: &'a [f32],
}

impl Group<'_> {
    fn encode(&self, out: &mut [u8]) -> Result<(), (usize, QuantError)> {
        let n = self.n_cols;
        let n_rows = self.values.len() / n;
        let mut grids = Vec::with_capacity(n_rows);
        for (row, values) in self.values.chunks_exact(n).enumerate() {
            grids.push(fit(self.dtype, values, Some(self.weights)).map_err(|error| (row, error))?);
        }
        // In the order of rounding.
        let mut open: Vec<f32> =
            self.values.chunks_exact(n).flat_map(|row| self.order.iter().map(|&col| row[col])).collect();
        let mut codes = vec![0u8; n_rows * n];
        let mut errors = vec![0.0f32; n_rows * BLOCK];
        for start in (0..n).step_by(BLOCK) {
            let end = (start + BLOCK).min(n);
            for (row, grid) in grids.iter().enumerate() {
                let open = &mut open[row * n..][start..end];
                let errors = &mut errors[row * BLOCK..][..end - start];
                for j in 0..open.len() {
                    let upper = &self.upper[(start + j) * n..][start + j..end];
                    let rounded = grid.round(self.order[start + j], open[j]);
                    codes[row * n + self.order[start + j]] = rounded.code;
                    let error = (open[j] - rounded.value) / upper[0];
                    errors[j] = error;
                    for (open, upper) in open[j + 1..].iter_mut().zip(&upper[1..]) {
                        *open -= error * upper;
                    }
                }
            }
            if end < n {
                let errors = MatRef::from_row_major_slice(&errors, n_rows, BLOCK).subcols(0, end - start);
                let upper = MatRef::from_row_major_slice(self.upper, n, n);
                let upper = upper.submatrix(start, end, end - start, n - end);
                let rest = MatMut::from_row_major_slice_mut(&mut open, n_rows, n).subcols_mut(end, n - end);
                matmul(rest, Accum::Add, errors, upper, -1.0, Par::Seq);
            }
        }
        let row_bytes = out.len() / n_rows;
        for ((grid, codes), out) in
            grids.iter().zip(codes.chunks_exact(n)).zip(out.chunks_exact_mut(row_bytes))
        {
            grid.encode(codes, out);
        }
        Ok(())
    }
}

/// Calls `work` with the number of every piece of `out`, of `piece` bytes, and the piece itself, on some threads. The error is that of
/// the first piece that has one.
pub(crate) fn in_parallel<E: Send>(
    n_threads: usize,
    out: &mut [u8],
    piece: usize,
    work: impl Fn(usize, &mut [u8]) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let n_pieces = out.len().div_ceil(piece);
    let n_threads = n_threads.clamp(1, n_pieces.max(1));
    let mut shares: Vec<Vec<(usize, &mut [u8])>> = (0..n_threads).map(|_| Vec::new()).collect();
    for (no, bytes) in out.chunks_mut(piece).enumerate() {
        shares[no % n_threads].push((no, bytes));
    }
    let do_share = |share: Vec<(usize, &mut [u8])>| {
        share.into_iter().find_map(|(no, bytes)| work(no, bytes).err().map(|error| (no, error)))
    };
    let failed = std::thread::scope(|scope| {
        let mut shares = shares.into_iter();
        let mine = shares.next();
        let others: Vec<_> = shares.map(|share| scope.spawn(|| do_share(share))).collect();
        let mut failed: Vec<(usize, E)> = mine.and_then(do_share).into_iter().collect();
        for other in others {
            match other.join() {
                Ok(error) => failed.extend(error),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        failed
    });
    failed.into_iter().min_by_key(|(no, _)| *no).map_or(Ok(()), |(_, error)| Err(error))
}

#[cfg(test)]
mod tests;
