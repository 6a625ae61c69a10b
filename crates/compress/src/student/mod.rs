//! A model some of whose numbers can be moved without another format.
//!
//! ```text
//! vectors     norms and biases
//! factors     a row of a quantized matrix is factor(block) · base(column): the factor is a half-precision number of the file, and
//!             the base is what codes and inner scales make. Training moves the factors and leaves the codes
//! adapters    W + B A, of low rank (LoRA, arXiv 2106.09685)
//! matrices    W itself
//! ```
//!
//! The last two need a matrix of floats: on the grid of a quantized one most of what they learn would be rounded away.

mod adapter;
mod chosen;
mod factors;
mod written;

pub use adapter::Adapter;
pub use chosen::{RANK, StudentError};
pub use factors::Factors;

use std::collections::BTreeMap;

use lossy_engine::ModelInfo;
use lossy_formats::gguf::Gguf;

use crate::weights::{WeightError, WeightSource};

/// A source with trained vectors and factors.
pub struct Student<'a> {
    base: &'a dyn WeightSource,
    /// what `base` is, if it is to be written again
    file: Option<&'a Gguf>,
    /// norms and biases, by name
    pub(crate) vectors: BTreeMap<String, Vec<f32>>,
    /// of matrices, by name
    pub(crate) factors: BTreeMap<String, Factors>,
    /// of matrices, by name
    pub(crate) adapters: BTreeMap<String, Adapter>,
    /// by name
    pub(crate) matrices: BTreeMap<String, Vec<f32>>,
}

impl<'a> Student<'a> {
    /// Nothing is trained.
    pub fn new(base: &'a dyn WeightSource) -> Student<'a> {
        Student {
            base,
            file: None,
            vectors: BTreeMap::new(),
            factors: BTreeMap::new(),
            adapters: BTreeMap::new(),
            matrices: BTreeMap::new(),
        }
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

    /// A matrix gets an adapter.
    ///
    /// # Errors
    /// There is no such matrix, or the adapter is not one of its shape.
    pub fn train_adapter(&mut self, name: &str, adapter: Adapter) -> Result<(), WeightError> {
        let found = self.shape(name).ok_or_else(|| WeightError::NoSuchTensor { name: name.to_owned() })?;
        let wanted = adapter.shape().to_vec();
        if found != wanted {
            return Err(WeightError::Shape { name: name.to_owned(), found, wanted });
        }
        self.adapters.insert(name.to_owned(), adapter);
        Ok(())
    }

    /// All values of a matrix are trained.
    ///
    /// # Errors
    /// There is no such tensor, or a value is no number.
    pub fn train_matrix(&mut self, name: &str) -> Result<(), WeightError> {
        self.matrices.insert(name.to_owned(), self.base.values(name)?);
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

    /// The adapters, by the names of their matrices.
    pub fn adapters(&self) -> &BTreeMap<String, Adapter> {
        &self.adapters
    }

    /// What is trained of a matrix, for rows from `first` on.
    fn apply(&self, name: &str, first: usize, rows: &mut [f32]) {
        if let Some(factors) = self.factors.get(name) {
            factors.apply(first, rows);
        }
        if let Some(adapter) = self.adapters.get(name) {
            adapter.apply(first, rows);
        }
    }

    /// Values that are trained.
    pub fn n_values(&self) -> usize {
        self.parameters().map(<[f32]>::len).sum()
    }

    /// Whether anything of a tensor is trained.
    pub fn is_trained(&self, name: &str) -> bool {
        self.vectors.contains_key(name)
            || self.factors.contains_key(name)
            || self.adapters.contains_key(name)
            || self.matrices.contains_key(name)
    }

    /// All that is trained, in one order.
    pub(crate) fn parameters(&self) -> impl Iterator<Item = &[f32]> {
        let factors = self.factors.values().map(|factors| &factors.values[..]);
        let adapters = self.adapters.values().flat_map(|adapter| [&adapter.a[..], &adapter.b[..]]);
        let vectors = self.vectors.values().map(Vec::as_slice);
        vectors.chain(factors).chain(adapters).chain(self.matrices.values().map(Vec::as_slice))
    }

    /// The same, to be moved.
    pub(crate) fn parameters_mut(&mut self) -> impl Iterator<Item = &mut [f32]> {
        let factors = self.factors.values_mut().map(|factors| &mut factors.values[..]);
        let adapters =
            self.adapters.values_mut().flat_map(|adapter| [&mut adapter.a[..], &mut adapter.b[..]]);
        let vectors = self.vectors.values_mut().map(Vec::as_mut_slice);
        vectors.chain(factors).chain(adapters).chain(self.matrices.values_mut().map(Vec::as_mut_slice))
    }

    /// What each of them is called, in the same order; the two parts of an adapter as in a file of llama.cpp.
    pub(crate) fn parameter_names(&self) -> impl Iterator<Item = String> {
        let adapters = self.adapters.keys().flat_map(|name| Adapter::names(name));
        let plain = self.vectors.keys().chain(self.factors.keys()).cloned();
        plain.chain(adapters).chain(self.matrices.keys().cloned())
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
        if let Some(matrix) = self.matrices.get(name) {
            return Ok(matrix.clone());
        }
        let mut values = self.base.values(name)?;
        self.apply(name, 0, &mut values);
        Ok(values)
    }

    fn row(&self, name: &str, row: usize) -> Result<Vec<f32>, WeightError> {
        let mut values = self.base.row(name, row)?;
        if let Some(matrix) = self.matrices.get(name) {
            let len = values.len();
            values.copy_from_slice(&matrix[row * len..][..len]);
        }
        self.apply(name, row, &mut values);
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
