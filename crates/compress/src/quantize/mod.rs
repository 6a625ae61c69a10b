//! A model in other types: from a GGUF, as it is, to a GGUF that every program of the kind reads.
//!
//! ```text
//! Plan::new(source, recipe, changes)     headers only: types, fallbacks, bytes
//!     .check_weights()                   reads all weights once: no NaN, no infinity
//!     .write(out, how)                   tensor after tensor, some rows at a time; whole or not at all
//! ```
//!
//! Tensors are written by layers, as llama.cpp's quantizer does, so that whoever has statistics for
//! [error feedback](crate::feedback) needs those of one layer at a time. A tensor that has its type already is copied, bit for bit.
//! The file is the same for any number of threads.

mod entries;
mod job;
mod planned;
#[cfg(test)]
mod tests;

use self::entries::entries;
pub(crate) use self::job::SLAB_VALUES;
use self::job::{Job, n_cols};
pub use self::planned::Planned;
use self::planned::named;
use crate::feedback::{Factor, FeedbackError, Moments};
use crate::imatrix::{Imatrix, ImatrixError};
use crate::kept::{Kept, KeptError, piece_name};
use crate::recipe::{Changes, Recipe, RecipeError, Shape, SourceTensor, choose};
use lossy_formats::gguf::{CreateError, Gguf, GgufFile, Layout, NewTensor};
use lossy_formats::{TensorView, WriteError};
use lossy_quant::{DType, QuantError, first_not_finite};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

/// Why a model cannot be quantized.
#[derive(Debug, thiserror::Error)]
pub enum QuantizeError {
    /// Types cannot be chosen.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// Importances do not fit.
    #[error(transparent)]
    Imatrix(#[from] ImatrixError),
    /// A tensor of the source is of a type that cannot be read.
    #[error("tensor `{tensor}` is {dtype}, which cannot be read")]
    Unreadable {
        /// The tensor.
        tensor: String,
        /// Its type.
        dtype: DType,
    },
    /// A weight is no number.
    #[error(
        "tensor `{tensor}` has NaN or infinity in row {row}, between columns {first} and {last}: the file is damaged, or was written by a training that had failed"
    )]
    NotFinite {
        /// The tensor.
        tensor: String,
        /// The row, from 0, of all its matrices.
        row: usize,
        /// The first column of the block, from 0.
        first: usize,
        /// The last column of the block.
        last: usize,
    },
    /// A row cannot be encoded.
    #[error("tensor `{tensor}`, row {row}: {error}")]
    Row {
        /// The tensor.
        tensor: String,
        /// The row, from 0, of all its matrices.
        row: usize,
        /// Why.
        error: QuantError,
    },
    /// Statistics do not fit, or cannot be had.
    #[error("statistics of `{tensor}`: {error}")]
    Feedback {
        /// The matrix.
        tensor: String,
        /// Why.
        error: FeedbackError,
    },
    /// The file cannot be written.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// A finished piece cannot be kept.
    #[error(transparent)]
    Kept(#[from] KeptError),
    /// The caller wants to stop.
    #[error("stopped")]
    Stopped,
}

impl From<WriteError> for QuantizeError {
    fn from(error: WriteError) -> QuantizeError {
        QuantizeError::Create(error.into())
    }
}

/// Where importances came from, as the new file tells.
#[derive(Debug, Clone)]
pub struct Provenance {
    /// The file of the importances.
    pub file: String,
    /// Where their text came from.
    pub dataset: String,
    /// Matrices.
    pub n_entries: u32,
    /// Pieces of text.
    pub n_chunks: u32,
}

impl Provenance {
    /// Of importances in a file of this name.
    pub fn of(imatrix: &Imatrix, file: &Path) -> Provenance {
        Provenance {
            file: file.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            dataset: imatrix.datasets.join(", "),
            n_entries: imatrix.entries.len() as u32,
            n_chunks: imatrix.chunk_count,
        }
    }
}

/// What is to be made, but for the weights.
#[derive(Debug, Clone)]
pub struct Options {
    /// Types by name.
    pub recipe: Recipe,
    /// Changes to these.
    pub changes: Changes,
    /// As many files as the source has, split at the same tensors.
    pub keeps_split: bool,
    /// Where importances came from, if there are any.
    pub provenance: Option<Provenance>,
    /// Whether errors are fed back, as the new file tells.
    pub has_feedback: bool,
    /// The program, for `general.quantized_by`.
    pub program: String,
}

/// A new file, before its weights.
pub struct Plan<'a> {
    tensors: Vec<Planned<'a>>,
    layout: Layout,
}

/// Second moments of a matrix's input, by the name of the matrix.
pub type MomentsOf<'a> = dyn FnMut(&str) -> Result<Option<Arc<Moments>>, FeedbackError> + 'a;

/// How weights are rounded.
pub struct How<'a> {
    /// Importances; none: the errors of all weights of a row count the same.
    pub imatrix: Option<&'a Imatrix>,
    /// The statistics for error feedback of a matrix by its name, asked for in the order of layers, the embedding and the output
    /// matrix before them; `None` if there are none.
    pub moments: Option<&'a mut MomentsOf<'a>>,
    /// Threads.
    pub n_threads: usize,
    /// Is told the bytes of the source that are done, and of how many; may stop.
    pub progress: &'a mut dyn FnMut(u64, u64) -> ControlFlow<()>,
}

/// What there is to tell about a file that was written.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Written {
    /// Matrices that were copied, since they had their type already.
    pub n_copied: usize,
    /// Experts, as `name, expert 3`, whose importances had seen nothing; their weights count the same.
    pub unseen: Vec<String>,
    /// Matrices without feedback, though it was wanted: nothing was known of their inputs.
    pub without_feedback: Vec<String>,
}

impl<'a> Plan<'a> {
    /// Chooses types and lays the file out.
    ///
    /// # Errors
    /// The recipe does not fit, or the new file would break a rule of its format.
    pub fn new(source: &'a Gguf, options: &Options) -> Result<Plan<'a>, QuantizeError> {
        Plan::of(source, options, None)
    }

    /// With types by the names of tensors; those that are not named stay as they are. Of the recipe and its changes only the number
    /// of the file type counts: see [`Recipe::mostly`].
    ///
    /// # Errors
    /// The new file would break a rule of its format.
    pub fn with_types(
        source: &'a Gguf,
        options: &Options,
        types: &BTreeMap<String, DType>,
    ) -> Result<Plan<'a>, QuantizeError> {
        Plan::of(source, options, Some(types))
    }

    fn of(
        source: &'a Gguf,
        options: &Options,
        types: Option<&BTreeMap<String, DType>>,
    ) -> Result<Plan<'a>, QuantizeError> {
        let shape = Shape::of(source.metadata()).map_err(RecipeError::from)?;
        let mut views: Vec<(usize, TensorView<'a>)> =
            source.parts_of_tensors().zip(source.tensors()).collect();
        let part = |part: usize| if options.keeps_split { part } else { 0 };
        views.sort_by_key(|(of_part, view)| (part(*of_part), crate::recipe::layer(view.name)));
        let sources: Vec<_> = views
            .iter()
            .map(|(_, view)| SourceTensor { name: view.name, dtype: view.dtype, shape: view.shape })
            .collect();
        let choices = match types {
            None => choose(options.recipe, &shape, &sources, &options.changes)?,
            Some(types) => sources.iter().map(|tensor| named(tensor, types)).collect(),
        };
        let mut new = Vec::new();
        let mut tensors = Vec::new();
        for ((_, view), choice) in views.iter().zip(choices) {
            if view.dtype != choice.dtype && !view.dtype.is_computable() {
                return Err(QuantizeError::Unreadable { tensor: view.name.to_owned(), dtype: view.dtype });
            }
            let tensor =
                NewTensor { name: view.name.to_owned(), dtype: choice.dtype, shape: view.shape.to_vec() };
            tensors.push(Planned { source: *view, choice, bytes: tensor.bytes()? });
            new.push(tensor);
        }
        let parts: Vec<usize> = views.iter().map(|(of_part, _)| part(*of_part)).collect();
        let layout = Layout::split(entries(source, options, types.is_some()), &new, &parts)?;
        Ok(Plan { tensors, layout })
    }

    /// All tensors, in the order of the new file.
    pub fn tensors(&self) -> &[Planned<'a>] {
        &self.tensors
    }

    /// Where everything will be.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Bits of the new file's tensors for each value.
    pub fn bits_per_weight(&self) -> f64 {
        let n_values: usize = self.tensors.iter().map(|tensor| tensor.source.n_values()).sum();
        let bytes: usize = self.tensors.iter().map(|tensor| tensor.bytes).sum();
        8.0 * bytes as f64 / n_values as f64
    }

    /// The matrices that importances should be known of: all that are quantized, but for embeddings and what makes logits, whose
    /// inputs are not collected as a rule.
    pub fn weighted_matrices(&self) -> impl Iterator<Item = (&'a str, &'a [usize])> + '_ {
        self.tensors
            .iter()
            .filter(|tensor| tensor.takes_weights())
            .map(|tensor| (tensor.source.name, tensor.source.shape))
    }

    /// Fails if a weight is no number.
    ///
    /// # Errors
    /// One is; the error says where.
    pub fn check_weights(&self) -> Result<(), QuantizeError> {
        for Planned { source, .. } in &self.tensors {
            if let Some(block) = first_not_finite(source.dtype, source.bytes) {
                let (len, n_cols) = (source.dtype.block_len(), n_cols(source));
                let (row, first) = (block * len / n_cols, block * len % n_cols);
                let last = first + len - 1;
                return Err(QuantizeError::NotFinite { tensor: source.name.to_owned(), row, first, last });
            }
        }
        Ok(())
    }

    /// Writes the file.
    ///
    /// # Errors
    /// Importances are missing, a row cannot be encoded, the disk fails, or the caller stops. Then there is no file.
    pub fn write(&self, out: &Path, how: &mut How<'_>) -> Result<Written, QuantizeError> {
        self.write_with(out, how, None)
    }

    /// The same, with matrices that were finished before taken from `kept`, and those that are finished now put there.
    ///
    /// # Errors
    /// As [`write`](Plan::write).
    pub fn write_kept(&self, out: &Path, how: &mut How<'_>, kept: &Kept) -> Result<Written, QuantizeError> {
        self.write_with(out, how, Some(kept))
    }

    /// Writes a file that has zeros in the place of all weights whose type changes: as large as the real one, and as fast, since no
    /// kernel looks at what it multiplies.
    ///
    /// # Errors
    /// The disk fails.
    pub fn write_blank(&self, out: &Path) -> Result<(), QuantizeError> {
        let mut file = GgufFile::create(out, &self.layout)?;
        for tensor in &self.tensors {
            match tensor.source.dtype == tensor.choice.dtype {
                true => file.put(tensor.source.name, tensor.source.bytes)?,
                false => file.put(tensor.source.name, &vec![0; tensor.bytes])?,
            }
        }
        Ok(file.commit()?)
    }

    fn write_with(
        &self,
        out: &Path,
        how: &mut How<'_>,
        kept: Option<&Kept>,
    ) -> Result<Written, QuantizeError> {
        if let Some(imatrix) = how.imatrix {
            imatrix.check(self.weighted_matrices())?;
        }
        let total: u64 = self.tensors.iter().map(|tensor| tensor.source.bytes.len() as u64).sum();
        let (mut written, mut done) = (Written::default(), 0);
        // Queries, keys and values have one input, and so do gate and up.
        let mut last: Option<(Arc<Moments>, Factor)> = None;
        let mut file = GgufFile::create(out, &self.layout)?;
        for tensor in &self.tensors {
            let source = &tensor.source;
            if source.dtype == tensor.choice.dtype {
                written.n_copied += usize::from(tensor.choice.is_quantized);
                file.put(source.name, source.bytes)?;
                done += source.bytes.len() as u64;
                if (how.progress)(done, total).is_break() {
                    return Err(QuantizeError::Stopped);
                }
                continue;
            }
            let piece = piece_name(source.name, tensor.choice.dtype);
            if let Some(bytes) =
                kept.and_then(|kept| kept.get(&piece)).filter(|bytes| bytes.len() == tensor.bytes)
            {
                file.put(source.name, &bytes)?;
                done += source.bytes.len() as u64;
                if (how.progress)(done, total).is_break() {
                    return Err(QuantizeError::Stopped);
                }
                continue;
            }
            let weights = tensor.weights(how.imatrix, &mut written);
            let moments = tensor.moments(how.moments.as_deref_mut(), &mut written)?;
            if let Some(moments) = &moments
                && !last.as_ref().is_some_and(|(of, _)| Arc::ptr_eq(of, moments))
            {
                let factor = Factor::of(moments).map_err(|error| tensor.statistics_error(error))?;
                last = Some((moments.clone(), factor));
            }
            let feedback = last.as_ref().filter(|_| moments.is_some());
            let job = Job { tensor, weights: &weights, n_threads: how.n_threads };
            let mut whole = Vec::new();
            for rows in job.slabs() {
                let bytes = match feedback {
                    Some((moments, factor)) => job.with_feedback(rows.clone(), moments, factor)?,
                    None => job.encode(rows.clone())?,
                };
                file.put(source.name, &bytes)?;
                if kept.is_some() {
                    whole.extend(bytes);
                }
                done += (rows.len() * job.row_bytes()) as u64;
                if (how.progress)(done, total).is_break() {
                    return Err(QuantizeError::Stopped);
                }
            }
            if let Some(kept) = kept {
                kept.put(&piece, &whole)?;
            }
        }
        file.commit()?;
        Ok(written)
    }
}
