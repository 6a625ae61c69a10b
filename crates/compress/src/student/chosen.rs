//! What is trained of a whole model.

use lossy_engine::ModelSource;
use lossy_eval::Random;
use lossy_quant::DType;

use super::{Adapter, Factors, Student};
use crate::block::{Norm, Projection};
use crate::network::OUTPUT_NORM;
use crate::weights::WeightError;

/// The rank of adapters, if nobody says another.
pub const RANK: usize = 16;

/// Why something cannot be trained of a model.
#[derive(Debug, thiserror::Error)]
pub enum StudentError {
    /// a model that is no GGUF
    #[error(
        "the student is a Hugging Face directory, but a GGUF file is what is trained here: quantize it first"
    )]
    NoGguf,
    /// a quantized matrix whose values were to be trained
    #[error(
        "`{tensor}` is {dtype}: what is trained of whole matrices would be rounded to its grid again. Train the file of floats that it \
         was made of, and quantize that; or train what the grid has room for (scales)"
    )]
    Quantized {
        /// the first such matrix
        tensor: String,
        /// its type
        dtype: DType,
    },
    /// a weight that cannot be read
    #[error(transparent)]
    Weights(#[from] WeightError),
}

impl<'a> Student<'a> {
    /// All is trained that a quantized GGUF has room for without another type: norms, biases, and a factor for the half-precision
    /// numbers of every block.
    ///
    /// # Errors
    /// The model is no GGUF, or a weight cannot be read.
    pub fn of_file(source: &'a ModelSource) -> Result<Student<'a>, StudentError> {
        let mut student = Student::with_vectors(source)?;
        for (projection, name) in projections(source) {
            if let Some(dtype) = student.dtype(&name).filter(|dtype| dtype.has_scales()) {
                let [n_rows, n_cols] = projection.shape(source.info());
                student.train_factors(&name, Factors::uniform(n_rows, n_cols, dtype.block_len()))?;
            }
        }
        Ok(student)
    }

    /// Norms, biases, and an adapter for each matrix of a layer, which become part of the matrix when the file is written.
    ///
    /// # Errors
    /// The model is no GGUF, a matrix is quantized, or a weight cannot be read.
    pub fn with_merged_adapters(
        source: &'a ModelSource,
        rank: usize,
        seed: u64,
    ) -> Result<Student<'a>, StudentError> {
        let mut student = Student::with_vectors(source)?;
        student.check_floats(source)?;
        student.add_adapters(source, rank, seed)?;
        Ok(student)
    }

    /// An adapter for each matrix of a layer, of a model in any types. What is written is the adapters alone.
    ///
    /// # Errors
    /// A matrix is not there.
    pub fn with_adapters(
        source: &'a ModelSource,
        rank: usize,
        seed: u64,
    ) -> Result<Student<'a>, StudentError> {
        let mut student = Student::new(source);
        student.add_adapters(source, rank, seed)?;
        Ok(student)
    }

    /// Norms, biases, and all values of the matrices of layers. The embedding and the output matrix stay.
    ///
    /// # Errors
    /// The model is no GGUF, a matrix is quantized, or a weight cannot be read.
    pub fn with_matrices(source: &'a ModelSource) -> Result<Student<'a>, StudentError> {
        let mut student = Student::with_vectors(source)?;
        student.check_floats(source)?;
        for (_, name) in projections(source) {
            student.train_matrix(&name)?;
        }
        Ok(student)
    }

    /// Norms and biases.
    fn with_vectors(source: &'a ModelSource) -> Result<Student<'a>, StudentError> {
        let file = source.gguf().ok_or(StudentError::NoGguf)?;
        let mut student = Student { file: Some(file), ..Student::new(source) };
        let norms: &[Norm] = match source.info().family.qk_norm {
            true => &[Norm::Attention, Norm::Query, Norm::Key, Norm::Mlp],
            false => &[Norm::Attention, Norm::Mlp],
        };
        for layer in 0..source.info().n_layers {
            for norm in norms {
                student.train_vector(&norm.weight(layer))?;
            }
            for bias in Projection::ALL.map(|projection| projection.bias(layer)) {
                if source.tensor(&bias).is_some() {
                    student.train_vector(&bias)?;
                }
            }
        }
        student.train_vector(OUTPUT_NORM)?;
        Ok(student)
    }

    fn add_adapters(&mut self, source: &ModelSource, rank: usize, seed: u64) -> Result<(), WeightError> {
        for (at, (projection, name)) in projections(source).enumerate() {
            let adapter = Adapter::new(projection.shape(source.info()), rank, Random::new(seed, at as u64));
            self.train_adapter(&name, adapter)?;
        }
        Ok(())
    }

    fn check_floats(&self, source: &ModelSource) -> Result<(), StudentError> {
        let quantized = projections(source).find_map(|(_, tensor)| {
            let dtype = self.dtype(&tensor).filter(|dtype| dtype.block_len() > 1)?;
            Some(StudentError::Quantized { tensor, dtype })
        });
        quantized.map_or(Ok(()), Err)
    }

    fn dtype(&self, name: &str) -> Option<DType> {
        Some(self.file?.tensor(name)?.dtype)
    }
}

/// The matrices of all layers, with their names.
fn projections(source: &ModelSource) -> impl Iterator<Item = (Projection, String)> {
    let layers = 0..source.info().n_layers;
    layers.flat_map(|layer| Projection::ALL.map(|projection| (projection, projection.weight(layer))))
}
