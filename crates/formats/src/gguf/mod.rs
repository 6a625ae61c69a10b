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
use create::VERSION;
use header::Header;
pub(crate) use header::TensorInfo;
use split::Part;
use std::path::{Path, PathBuf};

/// An open model: one file, or all parts of a split one.
#[derive(Debug)]
pub struct Gguf {
    version: u32,
    metadata: Metadata,
    parts: Vec<Source>,
    /// bytes that are in none of the files: see [`Gguf::of_other_files`]
    derived: Vec<Source>,
    /// where they were opened; none for bytes in memory
    paths: Vec<PathBuf>,
    tensors: Vec<PartTensor>,
    /// Indices into `tensors`, by name.
    sorted: Vec<usize>,
}

#[derive(Debug)]
pub(crate) struct PartTensor {
    /// the file that it belongs to
    pub(crate) part: usize,
    /// where its bytes are: a file, or, counted on, what was derived
    pub(crate) source: usize,
    pub(crate) info: TensorInfo,
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
            tensors.extend(header.tensors.into_iter().map(|info| PartTensor { part, source: part, info }));
            first.get_or_insert((header.version, header.metadata));
            sources.push(source);
        }
        let (version, metadata) = first.unwrap_or_default();
        let sorted = sorted_by_name(&tensors)?;
        let derived = Vec::new();
        Ok(Gguf { version, metadata, parts: sources, derived, paths: Vec::new(), tensors, sorted })
    }

    /// A model that lies in files of another format: what a GGUF of it would say, and where the bytes of its tensors are. `derived` are
    /// bytes that no file has so. Keys and names count for [`files`](Gguf::files) as a header would have them.
    ///
    /// # Errors
    /// A key or a tensor comes twice.
    pub(crate) fn of_other_files(
        entries: Vec<(String, Value)>,
        tensors: Vec<PartTensor>,
        files: Vec<(PathBuf, Source)>,
        mut derived: Vec<Source>,
    ) -> Result<Gguf, GgufError> {
        let sorted = sorted_by_name(&tensors)?;
        let raw: Vec<encode::RawTensor> = tensors
            .iter()
            .map(|PartTensor { info, .. }| encode::RawTensor {
                name: info.name.clone(),
                ne: info.shape.iter().rev().map(|&n| n as u64).collect(),
                ggml_type: info.dtype.to_ggml(),
                offset: 0,
            })
            .collect();
        derived.push(Source::Bytes(encode::header(VERSION, &entries, &raw)));
        let metadata = Metadata::from_entries(entries).map_err(|key| GgufError::DuplicateKey { key })?;
        let (paths, parts) = files.into_iter().unzip();
        Ok(Gguf { version: VERSION, metadata, parts, derived, paths, tensors, sorted })
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
        let source = match self.parts.get(tensor.source) {
            Some(file) => file,
            None => &self.derived[tensor.source - self.parts.len()],
        };
        TensorView { name, dtype: *dtype, shape, bytes: &source[range.clone()] }
    }

    /// The part that each tensor is in, from 0, in the order of [`tensors`](Gguf::tensors).
    pub fn parts_of_tensors(&self) -> impl ExactSizeIterator<Item = usize> {
        self.tensors.iter().map(|tensor| tensor.part)
    }

    /// The path of the file, or of each part. There are none for what was never in a file.
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// The bytes of the file, or of each part; of a model in another format, what was derived too: all that it depends on.
    pub fn files(&self) -> impl Iterator<Item = &[u8]> {
        self.parts.iter().chain(&self.derived).map(|part| &**part)
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
        for part in self.parts.iter().chain(&self.derived) {
            part.release_pages();
        }
    }
}

/// Indices of tensors by rising name.
fn sorted_by_name(tensors: &[PartTensor]) -> Result<Vec<usize>, GgufError> {
    let mut sorted: Vec<usize> = (0..tensors.len()).collect();
    sorted.sort_by(|&a, &b| tensors[a].info.name.cmp(&tensors[b].info.name));
    match sorted.windows(2).find(|pair| tensors[pair[0]].info.name == tensors[pair[1]].info.name) {
        Some(pair) => Err(GgufError::DuplicateTensor { tensor: tensors[pair[0]].info.name.clone() }),
        None => Ok(sorted),
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
