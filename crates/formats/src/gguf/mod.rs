//! GGUF files, versions 2 and 3: mapped, checked once, then read in place.
//!
//! `header` reads one file by the layout that its module text shows; `split` finds the other parts of a split one;
//! [`GgufError`] lists the rules. [`Layout`] and [`GgufFile`] write what these read (`create`). Tensor data is never copied. Metadata is: numbers and strings are small, and the
//! strings of an array (a vocabulary) share one allocation.
//!
//! What is not here: version 1, big-endian files, tensors of more than four dimensions or with a dimension of 0, names
//! with control characters. Each is an error.

mod create;
mod cursor;
mod encode;
mod error;
mod header;
mod metadata;
mod split;
#[cfg(test)]
mod tests;
mod value;
#[cfg(any(test, feature = "write"))]
pub mod write;

pub use create::{CreateError, GgufFile, Layout, NewTensor};
pub use error::GgufError;
pub use metadata::{IfPresent, Metadata, MetadataError};
pub use value::{Array, StringArray, Value, ValueType};

use crate::TensorView;
use crate::map::Source;
use header::{Header, TensorInfo};
use split::Part;
use std::path::{Path, PathBuf};

/// An open model: one file, or all parts of a split one.
#[derive(Debug)]
pub struct Gguf {
    version: u32,
    metadata: Metadata,
    parts: Vec<Source>,
    /// where they were opened; none for bytes in memory
    paths: Vec<PathBuf>,
    tensors: Vec<PartTensor>,
    /// Indices into `tensors`, by name.
    sorted: Vec<usize>,
}

#[derive(Debug)]
struct PartTensor {
    part: usize,
    info: TensorInfo,
}

impl Gguf {
    /// Maps and checks a file, and the other parts if it is one of a split model.
    ///
    /// # Errors
    /// When a file cannot be mapped or breaks a rule of the format; the error names the file.
    pub fn open(path: &Path) -> Result<Gguf, GgufError> {
        let (source, header) = open_part(path)?;
        let part = Part::of(&header.metadata).map_err(in_file(path))?;
        let Some(part) = part else {
            let model = Gguf::assemble(vec![(source, header)]).map_err(in_file(path))?;
            return Ok(Gguf { paths: vec![path.to_owned()], ..model });
        };
        let paths = part.paths(path).map_err(in_file(path))?;
        let mut parts = Vec::new();
        for (no, part_path) in (1..).zip(&paths) {
            let opened = open_part(part_path)?;
            let found = Part::of(&opened.1.metadata).map_err(in_file(part_path))?;
            if found != Some(Part { no, count: part.count }) {
                let found = found.unwrap_or(Part { no: 1, count: 1 });
                return Err(in_file(part_path)(GgufError::SplitNumber {
                    no: found.no,
                    count: found.count,
                    name_no: no,
                    name_count: part.count,
                }));
            }
            parts.push(opened);
        }
        let model = Gguf::assemble(parts).map_err(in_file(path))?;
        let expected =
            model.metadata.u64("split.tensors.count").map_err(GgufError::from).map_err(in_file(&paths[0]))?;
        let found = model.tensors.len();
        if expected != found as u64 {
            return Err(in_file(path)(GgufError::SplitTensors { found, expected }));
        }
        Ok(Gguf { paths, ..model })
    }

    /// Checks a file that is in memory. A part of a split model is taken for itself.
    ///
    /// # Errors
    /// When it breaks a rule of the format.
    pub fn from_bytes(bytes: impl Into<Vec<u8>>) -> Result<Gguf, GgufError> {
        let bytes = bytes.into();
        let header = Header::parse(&bytes)?;
        Gguf::assemble(vec![(Source::Bytes(bytes), header)])
    }

    /// Puts parts together; the first has the metadata.
    fn assemble(parts: Vec<(Source, Header)>) -> Result<Gguf, GgufError> {
        let (mut sources, mut tensors, mut first) = (Vec::new(), Vec::new(), None);
        for (part, (source, header)) in parts.into_iter().enumerate() {
            tensors.extend(header.tensors.into_iter().map(|info| PartTensor { part, info }));
            first.get_or_insert((header.version, header.metadata));
            sources.push(source);
        }
        let mut sorted: Vec<usize> = (0..tensors.len()).collect();
        sorted.sort_by(|&a, &b| tensors[a].info.name.cmp(&tensors[b].info.name));
        if let Some(pair) =
            sorted.windows(2).find(|pair| tensors[pair[0]].info.name == tensors[pair[1]].info.name)
        {
            return Err(GgufError::DuplicateTensor { tensor: tensors[pair[0]].info.name.clone() });
        }
        let (version, metadata) = first.unwrap_or_default();
        Ok(Gguf { version, metadata, parts: sources, paths: Vec::new(), tensors, sorted })
    }

    /// Keys and values; those of the first part.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// All tensors in the order of the file, part after part.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = TensorView<'_>> {
        self.tensors.iter().map(|tensor| self.view(tensor))
    }

    /// The tensor of this name.
    pub fn tensor(&self, name: &str) -> Option<TensorView<'_>> {
        let found =
            self.sorted.binary_search_by(|&tensor| self.tensors[tensor].info.name.as_str().cmp(name)).ok()?;
        Some(self.view(&self.tensors[self.sorted[found]]))
    }

    fn view<'a>(&'a self, tensor: &'a PartTensor) -> TensorView<'a> {
        let TensorInfo { name, dtype, shape, range } = &tensor.info;
        TensorView { name, dtype: *dtype, shape, bytes: &self.parts[tensor.part][range.clone()] }
    }

    /// The part that each tensor is in, from 0, in the order of [`tensors`](Gguf::tensors).
    pub fn parts_of_tensors(&self) -> impl ExactSizeIterator<Item = usize> {
        self.tensors.iter().map(|tensor| tensor.part)
    }

    /// The path of the file, or of each part. There are none for what was never in a file.
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// The bytes of the file, or of each part.
    pub fn files(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.parts.iter().map(|part| &**part)
    }

    /// Length of the file, or of all parts together.
    pub fn file_bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.len() as u64).sum()
    }

    /// Number of files.
    pub fn n_parts(&self) -> usize {
        self.parts.len()
    }

    /// Version of the format, 2 or 3.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Tells the system that the mapped pages are not needed any more, so that resident memory falls after the weights
    /// were repacked. Reading a tensor later is possible; its pages come from the file again.
    pub fn release_pages(&self) {
        for part in &self.parts {
            part.release_pages();
        }
    }
}

fn open_part(path: &Path) -> Result<(Source, Header), GgufError> {
    let source = Source::open(path).map_err(GgufError::Io).map_err(in_file(path))?;
    let header = Header::parse(&source).map_err(in_file(path))?;
    Ok((source, header))
}

fn in_file(path: &Path) -> impl Fn(GgufError) -> GgufError {
    move |error| GgufError::File { path: path.to_owned(), error: Box::new(error) }
}
