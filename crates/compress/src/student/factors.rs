//! One factor for the half-precision numbers of each block of a matrix.

/// The factors of one matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct Factors {
    /// where each block of a row ends, in columns; the last is the row's end
    pub ends: Vec<usize>,
    /// `[n_rows, n_blocks]`, multiples of what the file has: 1 before training
    pub values: Vec<f32>,
}

impl Factors {
    /// Ones, for rows of `n_cols` in blocks of `block_len`.
    pub fn uniform(n_rows: usize, n_cols: usize, block_len: usize) -> Factors {
        let ends: Vec<usize> =
            (1..=n_cols.div_ceil(block_len)).map(|end| n_cols.min(end * block_len)).collect();
        Factors { values: vec![1.0; n_rows * ends.len()], ends }
    }

    pub(super) fn n_cols(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Multiplies the values of rows, the first of which is row `first` of the matrix.
    pub(super) fn apply(&self, first: usize, rows: &mut [f32]) {
        let factors = self.values.chunks_exact(self.ends.len()).skip(first);
        for (row, factors) in rows.chunks_exact_mut(self.n_cols()).zip(factors) {
            for (columns, factor) in self.blocks().zip(factors) {
                row[columns].iter_mut().for_each(|value| *value *= factor);
            }
        }
    }

    pub(super) fn blocks(&self) -> impl Iterator<Item = std::ops::Range<usize>> + '_ {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| start..end)
    }

    /// The gradient of every factor from that of the weights they make, both `[n_rows, n_cols]`.
    pub(crate) fn gradient(&self, weight: &[f32], d_weight: &[f32]) -> Vec<f32> {
        let rows = weight.chunks_exact(self.n_cols()).zip(d_weight.chunks_exact(self.n_cols()));
        let sums = rows.flat_map(|(weight, d_weight)| {
            self.blocks().map(|columns| crate::real::dot(&weight[columns.clone()], &d_weight[columns]))
        });
        sums.zip(&self.values).map(|(sum, factor)| sum / factor).collect()
    }
}
