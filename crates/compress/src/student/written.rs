//! A student as its file will have it: factors become half-precision numbers, and all else what its type holds.

use std::borrow::Cow;

use lossy_engine::ModelInfo;
use lossy_formats::TensorView;
use lossy_quant::{dequantize, quantize, scale};

use super::Student;
use crate::weights::{WeightError, WeightSource};

impl Student<'_> {
    /// The bytes of a tensor of the student's file, with what is trained. Those of a tensor that is not trained, or whose factors are
    /// all 1, are the file's own, bit for bit.
    ///
    /// # Errors
    /// The tensor is none of a student's.
    pub fn bytes_of<'t>(&self, tensor: &TensorView<'t>) -> Result<Cow<'t, [u8]>, WeightError> {
        let failed = |problem| WeightError::Type { name: tensor.name.to_owned(), problem };
        let mut bytes = Cow::Borrowed(tensor.bytes);
        if let Some(factors) = self.factors.get(tensor.name) {
            scale(tensor.dtype, bytes.to_mut(), &factors.values).map_err(failed)?;
        } else if self.is_trained(tensor.name) {
            quantize(tensor.dtype, &self.values(tensor.name)?, None, bytes.to_mut()).map_err(failed)?;
        }
        Ok(bytes)
    }

    /// The student as its file will have it, or as it is if it came from none.
    pub fn as_written(&self) -> impl WeightSource + '_ {
        Written { student: self }
    }
}

struct Written<'a, 's> {
    student: &'a Student<'s>,
}

impl WeightSource for Written<'_, '_> {
    fn info(&self) -> &ModelInfo {
        self.student.info()
    }

    fn is_interleaved(&self) -> bool {
        self.student.is_interleaved()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.student.shape(name)
    }

    fn values(&self, name: &str) -> Result<Vec<f32>, WeightError> {
        let file = self.student.file.filter(|_| self.student.is_trained(name));
        let tensor = file.and_then(|file| file.tensor(name));
        let Some(tensor) = tensor else { return self.student.values(name) };
        let bytes = self.student.bytes_of(&tensor)?;
        let mut values = vec![0.0; tensor.n_values()];
        dequantize(tensor.dtype, &bytes, &mut values)
            .map_err(|problem| WeightError::Type { name: name.to_owned(), problem })?;
        Ok(values)
    }

    /// What is trained is read as a whole, and never row by row.
    fn row(&self, name: &str, row: usize) -> Result<Vec<f32>, WeightError> {
        self.student.row(name, row)
    }

    fn release(&self) {
        self.student.release();
    }
}
