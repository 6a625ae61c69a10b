//! The weights of a model as float32, by GGUF's names: of a file, or of a file with changes.
//!
//! Whoever computes with weights asks for one block of layers at a time, so a model is never in memory as float32. A
//! candidate (another type, a trained norm) is an [`Edited`] source: it is measured without a file.

use std::collections::HashMap;
use std::sync::Arc;

use lossy_engine::{LoadError, ModelInfo, ModelSource, PositionError, RequestError};
use lossy_formats::TensorView;

/// Where weights come from.
pub trait WeightSource: Sync {
    /// Shapes and constants.
    fn info(&self) -> &ModelInfo;

    /// Whether the rows of Q and K are in the order of interleaved rotary pairs (2i, 2i + 1), and not of half-split ones.
    fn is_interleaved(&self) -> bool;

    /// Rows and columns of a tensor, or the values of a vector; `None`: there is none.
    fn shape(&self, name: &str) -> Option<Vec<usize>>;

    /// All values of a tensor, row by row.
    ///
    /// # Errors
    /// There is no such tensor, or a value is no number.
    fn values(&self, name: &str) -> Result<Vec<f32>, WeightError>;

    /// One row of a matrix.
    ///
    /// # Errors
    /// There is no such row, or a value is no number.
    fn row(&self, name: &str, row: usize) -> Result<Vec<f32>, WeightError>;

    /// What was read is not needed soon.
    fn release(&self) {}
}

/// Why weights cannot be computed with.
#[derive(Debug, thiserror::Error)]
pub enum WeightError {
    /// the model has something that is not computed
    #[error(transparent)]
    Load(#[from] LoadError),
    /// a tensor that is not there
    #[error("the model has no tensor `{name}`")]
    NoSuchTensor {
        /// its name
        name: String,
    },
    /// a row that is not there
    #[error("tensor `{name}` has {n_rows} rows, so there is no row {row}")]
    NoSuchRow {
        /// its name
        name: String,
        /// the row, from 0
        row: usize,
        /// rows
        n_rows: usize,
    },
    /// a tensor of another shape
    #[error("tensor `{name}` has the shape {found:?}, not {wanted:?}")]
    Shape {
        /// its name
        name: String,
        /// what it has
        found: Vec<usize>,
        /// what is needed
        wanted: Vec<usize>,
    },
    /// a type that cannot be read
    #[error("tensor `{name}`: {problem}")]
    Type {
        /// its name
        name: String,
        /// why
        problem: lossy_quant::QuantError,
    },
    /// a weight that is no number
    #[error(
        "tensor `{name}` has the value {value} at index {index}: fetch the file again, or take another one"
    )]
    NotFinite {
        /// its name
        name: String,
        /// NaN or infinite
        value: f32,
        /// index of the value
        index: usize,
    },
    /// a text that is longer than what the model's positions are good for
    #[error(transparent)]
    Positions(#[from] PositionError),
    /// a token that the vocabulary does not have
    #[error(transparent)]
    Token(#[from] RequestError),
}

impl WeightSource for ModelSource {
    fn info(&self) -> &ModelInfo {
        self.info()
    }

    fn is_interleaved(&self) -> bool {
        self.gguf().is_some() && self.info().family.interleaved_in_gguf
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.tensor(name).map(|tensor| tensor.shape.to_vec())
    }

    fn values(&self, name: &str) -> Result<Vec<f32>, WeightError> {
        let tensor = find(self, name)?;
        dequantized(name, &tensor, tensor.bytes)
    }

    fn row(&self, name: &str, row: usize) -> Result<Vec<f32>, WeightError> {
        let tensor = find(self, name)?;
        let n_rows = tensor.shape[0];
        let bytes = tensor.bytes.chunks_exact(tensor.bytes.len() / n_rows).nth(row);
        let bytes = bytes.ok_or_else(|| WeightError::NoSuchRow { name: name.to_owned(), row, n_rows })?;
        dequantized(name, &tensor, bytes)
    }

    fn release(&self) {
        self.release_pages();
    }
}

fn find<'a>(source: &'a ModelSource, name: &str) -> Result<TensorView<'a>, WeightError> {
    source.tensor(name).ok_or_else(|| WeightError::NoSuchTensor { name: name.to_owned() })
}

fn dequantized(name: &str, tensor: &TensorView<'_>, bytes: &[u8]) -> Result<Vec<f32>, WeightError> {
    let mut values = vec![0.0; bytes.len() / tensor.dtype.block_bytes() * tensor.dtype.block_len()];
    lossy_quant::dequantize(tensor.dtype, bytes, &mut values)
        .map_err(|problem| WeightError::Type { name: name.to_owned(), problem })?;
    check_finite(name, &values)?;
    Ok(values)
}

fn check_finite(name: &str, values: &[f32]) -> Result<(), WeightError> {
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(index) => Err(WeightError::NotFinite { name: name.to_owned(), value: values[index], index }),
    }
}

/// A source some of whose tensors have other values.
pub struct Edited<'a> {
    base: &'a dyn WeightSource,
    values: HashMap<String, Arc<[f32]>>,
}

impl<'a> Edited<'a> {
    /// Nothing is changed yet.
    pub fn new(base: &'a dyn WeightSource) -> Edited<'a> {
        Edited { base, values: HashMap::new() }
    }

    /// Gives a tensor other values; the shape stays.
    ///
    /// # Errors
    /// There is no such tensor, it has another number of values, or one of them is no number.
    pub fn replace(&mut self, name: &str, values: Arc<[f32]>) -> Result<(), WeightError> {
        let wanted =
            self.base.shape(name).ok_or_else(|| WeightError::NoSuchTensor { name: name.to_owned() })?;
        if values.len() != wanted.iter().product::<usize>() {
            return Err(WeightError::Shape { name: name.to_owned(), found: vec![values.len()], wanted });
        }
        check_finite(name, &values)?;
        self.values.insert(name.to_owned(), values);
        Ok(())
    }

    /// Gives a tensor its own values back.
    pub fn restore(&mut self, name: &str) {
        self.values.remove(name);
    }
}

impl WeightSource for Edited<'_> {
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
        self.values.get(name).map_or_else(|| self.base.values(name), |values| Ok(values.to_vec()))
    }

    fn row(&self, name: &str, row: usize) -> Result<Vec<f32>, WeightError> {
        let Some(values) = self.values.get(name) else { return self.base.row(name, row) };
        let shape = self.shape(name).unwrap_or_default();
        let n_rows = shape.first().copied().unwrap_or(0);
        let values = values.chunks_exact((values.len() / n_rows.max(1)).max(1)).nth(row);
        values.map(<[f32]>::to_vec).ok_or_else(|| WeightError::NoSuchRow {
            name: name.to_owned(),
            row,
            n_rows,
        })
    }

    fn release(&self) {
        self.base.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lossy_testkit::testdata;

    fn tiny() -> ModelSource {
        ModelSource::open(&testdata().join("tiny/llama/model.gguf")).unwrap()
    }

    #[test]
    fn a_row_is_that_of_all_values_and_what_is_not_there_is_named() {
        let source = tiny();
        let name = "token_embd.weight";
        let all = source.values(name).unwrap();
        let n_embd = source.info().n_embd;
        assert_eq!(source.row(name, 3).unwrap(), all[3 * n_embd..4 * n_embd]);
        let error = source.row(name, 80).unwrap_err().to_string();
        assert_eq!(error, "tensor `token_embd.weight` has 80 rows, so there is no row 80");
        assert!(source.values("blk.9.no.weight").unwrap_err().to_string().contains("`blk.9.no.weight`"));
    }

    #[test]
    fn a_change_is_seen_until_it_is_taken_back() {
        let source = tiny();
        let name = "output_norm.weight";
        let own = source.values(name).unwrap();
        let mut edited = Edited::new(&source);
        edited.replace(name, vec![2.0; own.len()].into()).unwrap();
        assert_eq!(edited.values(name).unwrap(), vec![2.0; own.len()]);
        let mut rows = source.values("token_embd.weight").unwrap();
        rows.iter_mut().for_each(|value| *value += 1.0);
        edited.replace("token_embd.weight", rows.clone().into()).unwrap();
        assert_eq!(edited.row("token_embd.weight", 1).unwrap(), rows[own.len()..2 * own.len()]);
        edited.restore(name);
        assert_eq!(edited.values(name).unwrap(), own);
    }

    #[test]
    fn a_change_of_another_length_or_to_no_number_is_refused() {
        let source = tiny();
        let mut edited = Edited::new(&source);
        let len = source.info().n_embd;
        let error = edited.replace("output_norm.weight", vec![1.0; 3].into()).unwrap_err().to_string();
        assert_eq!(error, format!("tensor `output_norm.weight` has the shape [3], not [{len}]"));
        let error = edited.replace("output_norm.weight", vec![f32::NAN; len].into()).unwrap_err();
        assert!(error.to_string().contains("the value NaN at index 0"), "{error}");
        assert!(edited.replace("none", vec![].into()).unwrap_err().to_string().contains("`none`"));
    }
}
