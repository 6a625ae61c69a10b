//! A file is trained until it predicts what its teacher predicts, and stays the file that it was: the same tensors in the same types.
//!
//! ```text
//! Student::of_file(student)      norms, biases, and a factor for the half-precision numbers of every block
//!         ::with_…(student)      adapters, or whole matrices of floats
//!     train(…)                   see `train`; held-out text looks at what the file will have, rounding included
//!     write(student, …)          the same tensors in the same order; what was not trained is copied
//!     write_adapters(student, …) adapters alone, as llama.cpp reads them
//! ```
//!
//! A matrix of a type without blocks (F32, F16, BF16) has no factors: with the first only the norms and biases around it are trained.

use std::path::Path;

use lossy_engine::{LoadError, ModelSource};
use lossy_formats::gguf::{CreateError, Gguf, GgufFile, Layout, NewTensor, Value};
use lossy_quant::DType;
use lossy_tokenizer::TokenizerError;

use crate::student::{Adapter, Student, StudentError};
use crate::train::{TrainError, Trained};
use crate::weights::{WeightError, WeightSource};

/// Why a student cannot be taught, or not be written.
#[derive(Debug, thiserror::Error)]
pub enum DistillError {
    /// something that is not trained
    #[error(transparent)]
    Student(#[from] StudentError),
    /// another vocabulary
    #[error(
        "token {id} is `{}` for the student and `{}` for the teacher: they must have one vocabulary. Take the model that \
         the student was made from", student.escape_debug(), teacher.escape_debug()
    )]
    Token {
        /// the first token that differs
        id: u32,
        /// what the student's vocabulary has
        student: String,
        /// what the teacher's has
        teacher: String,
    },
    /// a model without a tokenizer
    #[error(transparent)]
    Load(#[from] LoadError),
    /// a text that cannot be spelt
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// another size of vocabulary, no text, or weights that cannot be computed with
    #[error(transparent)]
    Train(#[from] TrainError),
    /// a tensor that cannot be written
    #[error(transparent)]
    Weights(#[from] WeightError),
    /// a file that cannot be written
    #[error(transparent)]
    Create(#[from] CreateError),
}

/// Fails unless student and teacher have one vocabulary, token by token.
///
/// # Errors
/// They have not: the sizes, or the first token that differs; or one of them has no tokenizer.
pub fn check_vocabulary(student: &ModelSource, teacher: &ModelSource) -> Result<(), DistillError> {
    let [ours, theirs] = [student, teacher].map(|model| model.info().n_vocab);
    if ours != theirs {
        return Err(TrainError::Vocabulary { teacher: theirs, student: ours }.into());
    }
    let (ours, theirs) = (student.tokenizer()?, teacher.tokenizer()?);
    let differs = |&id: &u32| {
        ours.token_bytes(id) != theirs.token_bytes(id) && !(ours.is_unused(id) && theirs.is_unused(id))
    };
    match (0..student.info().n_vocab as u32).find(differs) {
        None => Ok(()),
        Some(id) => {
            let [student, teacher] =
                [&ours, &theirs].map(|side| side.token_text(id).unwrap_or("nothing").to_owned());
            Err(DistillError::Token { id, student, teacher })
        }
    }
}

/// How many matrices of the layers have factors, and how many have none.
pub fn matrices(student: &ModelSource) -> (usize, usize) {
    let mut counts = (0, 0);
    for layer in 0..student.info().n_layers {
        for projection in crate::block::Projection::ALL {
            match student.tensor(&projection.weight(layer)) {
                Some(matrix) if matrix.dtype.has_scales() => counts.0 += 1,
                _ => counts.1 += 1,
            }
        }
    }
    counts
}

/// What the new file tells of its training.
#[derive(Clone, Debug)]
pub struct Provenance {
    /// the teacher's name, or that of its file
    pub teacher: String,
    /// what was trained: `scales`, `lora`, `all`
    pub trained: &'static str,
    /// what it came to
    pub result: Trained,
}

impl Provenance {
    fn entries(&self) -> [(String, Value); 5] {
        let own: [(&str, Value); 5] = [
            ("teacher", self.teacher.as_str().into()),
            ("train", self.trained.into()),
            ("steps", (self.result.best_step as u32).into()),
            ("kl_before", (self.result.before as f32).into()),
            ("kl_after", (self.result.after as f32).into()),
        ];
        own.map(|(key, value)| (format!("lossy.distill.{key}"), value))
    }
}

/// Where everything of the new file will be; with `keeps_split` of as many files as the student has.
///
/// # Errors
/// A name of the student's file breaks a rule of the format.
pub fn layout(
    file: &Gguf,
    provenance: Option<&Provenance>,
    keeps_split: bool,
) -> Result<Layout, CreateError> {
    let kept = file.metadata().iter().filter(|(key, _)| !key.starts_with("lossy.distill."));
    let mut entries: Vec<(String, Value)> =
        kept.map(|(key, value)| (key.to_owned(), value.clone())).collect();
    entries.extend(provenance.into_iter().flat_map(Provenance::entries));
    let tensors: Vec<NewTensor> = file
        .tensors()
        .map(|t| NewTensor { name: t.name.to_owned(), dtype: t.dtype, shape: t.shape.to_vec() })
        .collect();
    let parts: Vec<usize> = file.parts_of_tensors().map(|part| if keeps_split { part } else { 0 }).collect();
    Layout::split(entries, &tensors, &parts)
}

/// Writes the student's file with what was trained, with `keeps_split` as many files as it has: whole or not at all.
///
/// # Errors
/// It came from no GGUF, or the file cannot be written.
pub fn write(
    student: &Student<'_>,
    provenance: &Provenance,
    keeps_split: bool,
    out: &Path,
) -> Result<(), DistillError> {
    let file = student.file().ok_or(StudentError::NoGguf)?;
    let mut new = GgufFile::create(out, &layout(file, Some(provenance), keeps_split)?)?;
    for tensor in file.tensors() {
        new.put(tensor.name, &student.bytes_of(&tensor)?)?;
    }
    Ok(new.commit()?)
}

/// Where everything of a file of adapters will be, as llama.cpp reads it: two matrices for each that has an adapter.
///
/// # Errors
/// A name breaks a rule of the format.
pub fn adapter_layout(student: &Student<'_>, provenance: Option<&Provenance>) -> Result<Layout, CreateError> {
    // What llama.cpp multiplies an adapter with is alpha over the rank: with alpha as large as the rank, 1.
    let rank = student.adapters().values().next().map_or(1, Adapter::rank);
    let architecture = &student.info().architecture;
    let own: [(&str, Value); 4] = [
        ("general.type", "adapter".into()),
        ("general.architecture", architecture.as_str().into()),
        ("adapter.type", "lora".into()),
        ("adapter.lora.alpha", (rank as f32).into()),
    ];
    let mut entries = own.map(|(key, value)| (key.to_owned(), value)).to_vec();
    entries.extend(provenance.into_iter().flat_map(Provenance::entries));
    let tensors: Vec<NewTensor> = parts(student)
        .map(|(name, shape, _)| NewTensor { name, dtype: DType::F32, shape: shape.to_vec() })
        .collect();
    Layout::new(entries, &tensors)
}

/// Writes the adapters of a student alone: whole or not at all.
///
/// # Errors
/// The file cannot be written.
pub fn write_adapters(
    student: &Student<'_>,
    provenance: &Provenance,
    out: &Path,
) -> Result<(), DistillError> {
    let mut new = GgufFile::create(out, &adapter_layout(student, Some(provenance))?)?;
    for (name, _, values) in parts(student) {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        new.put(&name, &bytes)?;
    }
    Ok(new.commit()?)
}

/// The matrices of all adapters: name, rows and columns, values.
fn parts<'a>(student: &'a Student<'_>) -> impl Iterator<Item = (String, [usize; 2], &'a [f32])> {
    student.adapters().iter().flat_map(|(matrix, adapter)| {
        let ([n_rows, n_cols], rank) = (adapter.shape(), adapter.rank());
        let [a, b] = Adapter::names(matrix);
        [(a, [rank, n_cols], adapter.a()), (b, [n_rows, rank], adapter.b())]
    })
}
