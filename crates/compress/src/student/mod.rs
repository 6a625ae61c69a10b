//! A quantized model some of whose numbers can be moved without another format: norms, biases, and the factors of blocks.
//!
//! A row of a quantized matrix is `factor(block) · base(column)`: the factor is a half-precision number of the file, and the
//! base is what codes and inner scales make. Training moves the factors and leaves the codes.

mod written;

use std::collections::BTreeMap;

use lossy_engine::{ModelInfo, ModelSource};
use lossy_formats::gguf::Gguf;

use crate::block::{Norm, Projection};
use crate::network::OUTPUT_NORM;
use crate::weights::{WeightError, WeightSource};

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

    fn n_cols(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Multiplies the values of rows, the first of which is row `first` of the matrix.
    fn apply(&self, first: usize, rows: &mut [f32]) {
        let factors = self.values.chunks_exact(self.ends.len()).skip(first);
        for (row, factors) in rows.chunks_exact_mut(self.n_cols()).zip(factors) {
            for (columns, factor) in self.blocks().zip(factors) {
                row[columns].iter_mut().for_each(|value| *value *= factor);
            }
        }
    }

    fn blocks(&self) -> impl Iterator<Item = std::ops::Range<usize>> + '_ {
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

/// A source with trained vectors and factors.
pub struct Student<'a> {
    base: &'a dyn WeightSource,
    /// what `base` is, if it is to be written again
    file: Option<&'a Gguf>,
    /// norms and biases, by name
    pub(crate) vectors: BTreeMap<String, Vec<f32>>,
    /// of matrices, by name
    pub(crate) factors: BTreeMap<String, Factors>,
}

impl<'a> Student<'a> {
    /// Nothing is trained.
    pub fn new(base: &'a dyn WeightSource) -> Student<'a> {
        Student { base, file: None, vectors: BTreeMap::new(), factors: BTreeMap::new() }
    }

    /// All is trained that a GGUF has room for without another type: norms, biases, and a factor for the half-precision numbers of
    /// every block. `None` for a model that is no GGUF.
    ///
    /// # Errors
    /// A norm cannot be read.
    pub fn of_file(source: &'a ModelSource) -> Result<Option<Student<'a>>, WeightError> {
        let Some(file) = source.gguf() else { return Ok(None) };
        let mut student = Student { file: Some(file), ..Student::new(source) };
        let norms: &[Norm] = match source.info().family.qk_norm {
            true => &[Norm::Attention, Norm::Query, Norm::Key, Norm::Mlp],
            false => &[Norm::Attention, Norm::Mlp],
        };
        for layer in 0..source.info().n_layers {
            for norm in norms {
                student.train_vector(&norm.weight(layer))?;
            }
            for projection in Projection::ALL {
                let bias = projection.bias(layer);
                if source.tensor(&bias).is_some() {
                    student.train_vector(&bias)?;
                }
                let name = projection.weight(layer);
                if let Some(matrix) = file.tensor(&name).filter(|matrix| matrix.dtype.has_scales()) {
                    let [n_rows, n_cols] = projection.shape(source.info());
                    let factors = Factors::uniform(n_rows, n_cols, matrix.dtype.block_len());
                    student.train_factors(&name, factors)?;
                }
            }
        }
        student.train_vector(OUTPUT_NORM)?;
        Ok(Some(student))
    }

    /// A vector (a norm, a bias) is trained.
    ///
    /// # Errors
    /// There is no such tensor, or it is a matrix.
    pub fn train_vector(&mut self, name: &str) -> Result<(), WeightError> {
        let shape = self.shape(name).ok_or_else(|| WeightError::NoSuchTensor { name: name.to_owned() })?;
        if shape.len() != 1 {
            let wanted = vec![shape.iter().product()];
            return Err(WeightError::Shape { name: name.to_owned(), found: shape, wanted });
        }
        self.vectors.insert(name.to_owned(), self.base.values(name)?);
        Ok(())
    }

    /// The factors of a matrix are trained.
    ///
    /// # Errors
    /// There is no such matrix, or the factors are not those of its shape.
    pub fn train_factors(&mut self, name: &str, factors: Factors) -> Result<(), WeightError> {
        let found = self.shape(name).ok_or_else(|| WeightError::NoSuchTensor { name: name.to_owned() })?;
        let n_blocks = factors.ends.len().max(1);
        let wanted = vec![factors.values.len() / n_blocks, factors.n_cols()];
        let rises = factors.blocks().all(|columns| columns.start < columns.end);
        if found != wanted || !rises || !factors.values.len().is_multiple_of(n_blocks) {
            return Err(WeightError::Shape { name: name.to_owned(), found, wanted });
        }
        self.factors.insert(name.to_owned(), factors);
        Ok(())
    }

    /// The file that it came from, if it can be written again.
    pub fn file(&self) -> Option<&'a Gguf> {
        self.file
    }

    /// The trained vectors, by name.
    pub fn vectors(&self) -> &BTreeMap<String, Vec<f32>> {
        &self.vectors
    }

    /// The trained factors, by name.
    pub fn factors(&self) -> &BTreeMap<String, Factors> {
        &self.factors
    }

    /// Values that are trained.
    pub fn n_values(&self) -> usize {
        self.parameters().map(<[f32]>::len).sum()
    }

    /// All that is trained, in one order.
    pub(crate) fn parameters(&self) -> impl Iterator<Item = &[f32]> {
        let factors = self.factors.values().map(|factors| &factors.values[..]);
        self.vectors.values().map(Vec::as_slice).chain(factors)
    }

    /// The same, to be moved.
    pub(crate) fn parameters_mut(&mut self) -> impl Iterator<Item = &mut [f32]> {
        let factors = self.factors.values_mut().map(|factors| &mut factors.values[..]);
        self.vectors.values_mut().map(Vec::as_mut_slice).chain(factors)
    }
}

impl WeightSource for Student<'_> {
    fn info(&self) -> &ModelInfo {
        self.base.info()
    }

    fn is_interleaved(&self) -> bool {
        self.base.is_interleaved()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.base.shape(name)
    }

    fn values(&self, name: &str) -> Result<Vec<f32>, WeightError> {
        if let Some(vector) = self.vectors.get(name) {
            return Ok(vector.clone());
        }
        let mut values = self.base.values(name)?;
        if let Some(factors) = self.factors.get(name) {
            factors.apply(0, &mut values);
        }
        Ok(values)
    }

    fn row(&self, name: &str, row: usize) -> Result<Vec<f32>, WeightError> {
        let mut values = self.base.row(name, row)?;
        if let Some(factors) = self.factors.get(name) {
            factors.apply(row, &mut values);
        }
        Ok(values)
    }

    fn release(&self) {
        self.base.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lossy_engine::ModelSource;
    use lossy_testkit::testdata;

    #[test]
    fn a_weight_is_its_blocks_factor_times_its_base_and_a_wrong_map_is_refused() {
        let source = ModelSource::open(&testdata().join("tiny/llama/model.gguf")).unwrap();
        let name = "blk.0.attn_q.weight";
        let [n_rows, n_cols] = source.shape(name).unwrap()[..] else { panic!("a matrix") };
        let base = WeightSource::values(&source, name).unwrap();
        let mut factors = Factors::uniform(n_rows, n_cols, 5);
        let n_blocks = n_cols.div_ceil(5);
        factors.values[n_blocks + 1] = 3.0;
        let mut student = Student::new(&source);
        student.train_factors(name, factors).unwrap();
        let found = student.values(name).unwrap();
        for (index, (found, base)) in found.iter().zip(&base).enumerate() {
            let is_scaled = index / n_cols == 1 && (5..10).contains(&(index % n_cols));
            assert_eq!(*found, if is_scaled { 3.0 * base } else { *base }, "{index}");
        }
        assert_eq!(student.row(name, 1).unwrap(), found[n_cols..2 * n_cols]);
        let error = student.train_factors(name, Factors::uniform(n_rows, n_cols + 1, 5)).unwrap_err();
        assert!(error.to_string().contains("has the shape"), "{error}");
        assert!(student.train_vector(name).unwrap_err().to_string().contains("has the shape"));
    }
}
