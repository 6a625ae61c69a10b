//! Importances: the mean square of every matrix's input, in llama.cpp's file format for them.
//!
//! ```text
//! general.type = imatrix │ imatrix.datasets │ imatrix.chunk_count │ imatrix.chunk_size
//! NAME.in_sum2   [n_experts, n_cols] float32: sums of squares of what stands before each column
//! NAME.counts    [n_experts, 1] float32: of how many tokens
//! ```
//!
//! NAME is that of the matrix; a dense one has one expert. Source: `tools/imatrix` of llama.cpp, which writes and reads the same. Its
//! older format without GGUF is not read.

use lossy_formats::TensorView;
use lossy_formats::gguf::{
    Array, CreateError, Gguf, GgufError, GgufFile, IfPresent, Layout, MetadataError, NewTensor, Value,
};
use lossy_quant::DType;
use std::collections::BTreeMap;
use std::path::Path;

const SUMS: &str = ".in_sum2";
const COUNTS: &str = ".counts";

/// Sums of squares for one matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Columns of the matrix.
    pub n_cols: usize,
    /// `[n_experts, n_cols]`
    pub sums: Vec<f32>,
    /// Tokens that each expert saw.
    pub counts: Vec<f32>,
}

impl Entry {
    /// The mean squares of an expert, or `None` if it saw nothing.
    pub fn mean_squares(&self, expert: usize) -> Option<Vec<f32>> {
        let count = *self.counts.get(expert)?;
        let sums = &self.sums[expert * self.n_cols..][..self.n_cols];
        (count > 0.0).then(|| sums.iter().map(|sum| sum / count).collect())
    }
}

/// The importances of a model.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Imatrix {
    /// Where the text came from.
    pub datasets: Vec<String>,
    /// Pieces of text.
    pub chunk_count: u32,
    /// Tokens of each.
    pub chunk_size: u32,
    /// By the name of the matrix.
    pub entries: BTreeMap<String, Entry>,
}

/// Why importances cannot be read, written or used.
#[derive(Debug, thiserror::Error)]
pub enum ImatrixError {
    /// The file is no GGUF.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// It is a GGUF of another kind.
    #[error("it is no imatrix: general.type is {found}; `lossy imatrix` and llama-imatrix write such files")]
    Kind {
        /// What it says that it is.
        found: String,
    },
    /// A key lacks or has another type.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// A tensor has no place in such a file, or has another type or shape.
    #[error("tensor `{tensor}` {fault}")]
    Tensor {
        /// The tensor.
        tensor: String,
        /// What is wrong with it.
        fault: String,
    },
    /// A number is none, or below 0.
    #[error(
        "`{tensor}` is {value} at column {col} of expert {expert}: sums of squares and counts are numbers from 0"
    )]
    NotFinite {
        /// The tensor.
        tensor: String,
        /// Which expert, from 0.
        expert: usize,
        /// Which column, from 0.
        col: usize,
        /// What stands there.
        value: f32,
    },
    /// The file belongs to another model.
    #[error("the imatrix is that of another model: for `{name}` it has {found}, but the matrix has {wanted}")]
    OtherModel {
        /// The matrix.
        name: String,
        /// What the imatrix has.
        found: String,
        /// What the model has.
        wanted: String,
    },
    /// Matrices are missing.
    #[error("the imatrix says nothing of {n} matrices that are to be quantized: {}", names.join(", "))]
    Missing {
        /// How many.
        n: usize,
        /// The first of them.
        names: Vec<String>,
    },
    /// It cannot be written.
    #[error(transparent)]
    Write(#[from] CreateError),
}

impl Imatrix {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// It is no such file, or a number in it is none.
    pub fn open(path: &Path) -> Result<Imatrix, ImatrixError> {
        Imatrix::read(&Gguf::open(path)?)
    }

    /// The same from a GGUF that is open.
    ///
    /// # Errors
    /// As [`open`](Imatrix::open).
    pub fn read(gguf: &Gguf) -> Result<Imatrix, ImatrixError> {
        let metadata = gguf.metadata();
        match metadata.str("general.type").if_present()? {
            Some("imatrix") => {}
            found => {
                let found = found.map_or("missing".to_owned(), |found| format!("`{found}`"));
                return Err(ImatrixError::Kind { found });
            }
        }
        let datasets = metadata.strings("imatrix.datasets").if_present()?;
        let mut imatrix = Imatrix {
            datasets: datasets.map(|names| names.iter().map(str::to_owned).collect()).unwrap_or_default(),
            chunk_count: metadata.u32("imatrix.chunk_count")?,
            chunk_size: metadata.u32("imatrix.chunk_size")?,
            entries: BTreeMap::new(),
        };
        let is_count = |name: &str| {
            let of = name.strip_suffix(COUNTS);
            of.is_some_and(|of| gguf.tensor(&format!("{of}{SUMS}")).is_some())
        };
        for tensor in gguf.tensors() {
            if let Some(name) = tensor.name.strip_suffix(SUMS) {
                let counts_name = format!("{name}{COUNTS}");
                let counts = gguf
                    .tensor(&counts_name)
                    .ok_or_else(|| wrong(tensor.name, format!("has no `{counts_name}` beside it")))?;
                imatrix.entries.insert(name.to_owned(), entry(tensor, counts)?);
            } else if !is_count(tensor.name) {
                return Err(wrong(tensor.name, format!("is neither NAME{SUMS} nor the NAME{COUNTS} of one")));
            }
        }
        Ok(imatrix)
    }

    /// Writes the file, whole or not at all.
    ///
    /// # Errors
    /// The disk fails, or a name is none that a file can hold.
    pub fn write(&self, path: &Path) -> Result<(), ImatrixError> {
        let entries = vec![
            ("general.type".to_owned(), Value::from("imatrix")),
            ("imatrix.datasets".to_owned(), Value::Array(Array::String(self.datasets.iter().collect()))),
            ("imatrix.chunk_count".to_owned(), Value::U32(self.chunk_count)),
            ("imatrix.chunk_size".to_owned(), Value::U32(self.chunk_size)),
        ];
        let mut tensors = Vec::new();
        for (name, entry) in &self.entries {
            let mut push = |end: &str, n_cols: usize| {
                let shape = vec![entry.counts.len(), n_cols];
                tensors.push(NewTensor { name: format!("{name}{end}"), dtype: DType::F32, shape });
            };
            push(SUMS, entry.n_cols);
            push(COUNTS, 1);
        }
        let mut file = GgufFile::create(path, &Layout::new(entries, &tensors)?)?;
        for (name, entry) in &self.entries {
            file.put(&format!("{name}{SUMS}"), bytemuck::cast_slice(&entry.sums))?;
            file.put(&format!("{name}{COUNTS}"), bytemuck::cast_slice(&entry.counts))?;
        }
        Ok(file.commit()?)
    }

    /// Fails unless there is an entry of the right size for each of these matrices (name and row-major shape).
    ///
    /// # Errors
    /// Matrices are missing, or have another size; the error names them.
    pub fn check<'a>(
        &self,
        matrices: impl Iterator<Item = (&'a str, &'a [usize])>,
    ) -> Result<(), ImatrixError> {
        const TOLD: usize = 8;
        let mut missing = Vec::new();
        for (name, shape) in matrices {
            let Some(entry) = self.entries.get(name) else {
                missing.push(name.to_owned());
                continue;
            };
            let n_cols = shape.last().copied().unwrap_or(1);
            let n_experts = if shape.len() > 2 { shape[0] } else { 1 };
            if (entry.n_cols, entry.counts.len()) != (n_cols, n_experts) {
                let say = |n_cols: usize, n: usize| match n {
                    1 => format!("{n_cols} columns"),
                    _ => format!("{n_cols} columns of {n} experts"),
                };
                return Err(ImatrixError::OtherModel {
                    name: name.to_owned(),
                    found: say(entry.n_cols, entry.counts.len()),
                    wanted: say(n_cols, n_experts),
                });
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let n = missing.len();
        missing.truncate(TOLD);
        if n > TOLD {
            missing.push("…".to_owned());
        }
        Err(ImatrixError::Missing { n, names: missing })
    }
}

fn wrong(tensor: &str, fault: String) -> ImatrixError {
    ImatrixError::Tensor { tensor: tensor.to_owned(), fault }
}

fn entry(sums: TensorView<'_>, counts: TensorView<'_>) -> Result<Entry, ImatrixError> {
    let n_cols = sums.shape.last().copied().unwrap_or(1);
    let entry = Entry { n_cols, sums: singles(sums, n_cols)?, counts: singles(counts, 1)? };
    if entry.sums.len() != n_cols * entry.counts.len() {
        return Err(wrong(
            sums.name,
            format!("has the shape {:?}, but there are {} counts", sums.shape, entry.counts.len()),
        ));
    }
    Ok(entry)
}

fn singles(tensor: TensorView<'_>, n_cols: usize) -> Result<Vec<f32>, ImatrixError> {
    if tensor.dtype != DType::F32 {
        return Err(wrong(tensor.name, format!("is {}, not F32", tensor.dtype)));
    }
    let values: Vec<f32> =
        tensor.bytes.as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
    match values.iter().position(|x| !x.is_finite() || *x < 0.0) {
        Some(at) => Err(ImatrixError::NotFinite {
            tensor: tensor.name.to_owned(),
            expert: at / n_cols,
            col: at % n_cols,
            value: values[at],
        }),
        None => Ok(values),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lossy_formats::gguf::write::GgufWriter;

    fn imatrix() -> Imatrix {
        let entry = |n_cols: usize, counts: &[f32]| Entry {
            n_cols,
            sums: (0..n_cols * counts.len()).map(|i| i as f32).collect(),
            counts: counts.to_vec(),
        };
        let entries = [
            ("blk.0.attn_q.weight".to_owned(), entry(64, &[512.0])),
            ("blk.0.ffn_up_exps.weight".to_owned(), entry(32, &[100.0, 0.0, 3.0])),
        ];
        Imatrix {
            datasets: vec!["a.txt".into(), "b".into()],
            chunk_count: 3,
            chunk_size: 512,
            entries: entries.into(),
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.imatrix.gguf");
        imatrix().write(&path).unwrap();
        let read = Imatrix::open(&path).unwrap();
        assert_eq!(read, imatrix());
        let experts = &read.entries["blk.0.ffn_up_exps.weight"];
        assert_eq!(experts.mean_squares(0).unwrap()[31], 0.31);
        assert_eq!(experts.mean_squares(1), None, "it saw nothing");
        assert_eq!(experts.mean_squares(2).unwrap()[0], 64.0 / 3.0);
    }

    #[test]
    fn files_of_another_kind_are_refused() {
        let read = |writer: GgufWriter| {
            Imatrix::read(&Gguf::from_bytes(writer.to_bytes()).unwrap()).unwrap_err().to_string()
        };
        let writer = || {
            GgufWriter::new()
                .set("general.type", "imatrix")
                .set("imatrix.chunk_count", 1u32)
                .set("imatrix.chunk_size", 512u32)
        };
        let number = |x: f32| x.to_le_bytes().repeat(4);
        assert!(read(GgufWriter::new()).contains("general.type is missing"));
        assert!(read(GgufWriter::new().set("general.type", "model")).contains("`model`"));
        assert!(read(GgufWriter::new().set("general.type", "imatrix")).contains("imatrix.chunk_count"));
        let lonely = writer().tensor("x.in_sum2", DType::F32, &[1, 4], &number(1.0));
        assert_eq!(read(lonely), "tensor `x.in_sum2` has no `x.counts` beside it");
        assert!(read(writer().tensor("x", DType::F32, &[4], &number(1.0))).contains("neither"));
        let bad = writer().tensor("x.in_sum2", DType::F32, &[1, 4], &number(f32::NAN)).tensor(
            "x.counts",
            DType::F32,
            &[1, 1],
            &1f32.to_le_bytes(),
        );
        assert!(read(bad).starts_with("`x.in_sum2` is NaN at column 0 of expert 0"));
        let two = writer().tensor("x.in_sum2", DType::F32, &[1, 4], &number(1.0)).tensor(
            "x.counts",
            DType::F32,
            &[2, 1],
            &[0; 8],
        );
        assert_eq!(read(two), "tensor `x.in_sum2` has the shape [1, 4], but there are 2 counts");
    }

    #[test]
    fn another_model_and_missing_matrices_are_named() {
        let shape: [&[usize]; 3] = [&[8, 64], &[3, 8, 32], &[8, 32]];
        let check = |matrices: &[(&str, &[usize])]| {
            imatrix().check(matrices.iter().copied()).map_err(|error| error.to_string())
        };
        assert_eq!(
            check(&[("blk.0.attn_q.weight", shape[0]), ("blk.0.ffn_up_exps.weight", shape[1])]),
            Ok(())
        );
        assert_eq!(
            check(&[("blk.0.attn_q.weight", shape[2])]).unwrap_err(),
            "the imatrix is that of another model: for `blk.0.attn_q.weight` it has 64 columns, but the matrix has 32 columns"
        );
        assert!(
            check(&[("blk.0.ffn_up_exps.weight", shape[2])]).unwrap_err().contains("32 columns of 3 experts")
        );
        assert_eq!(
            check(&[("blk.1.attn_q.weight", shape[0])]).unwrap_err(),
            "the imatrix says nothing of 1 matrices that are to be quantized: blk.1.attn_q.weight"
        );
    }
}
