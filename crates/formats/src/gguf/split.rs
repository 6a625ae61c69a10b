//! Files split into parts: `NAME-00001-of-00003.gguf` and so on, each a GGUF file of its own.
//!
//! Every part has `split.no` (from 0) and `split.count`; the first has the metadata of the whole, and
//! `split.tensors.count` says how many tensors all parts have together. Source: llama.cpp's `gguf-split`.

use super::error::GgufError;
use super::metadata::{IfPresent, Metadata, MetadataError};
use std::path::{Path, PathBuf};

/// Which part a file is, by its own keys. Numbers count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    pub no: u64,
    pub count: u64,
}

impl Part {
    /// `None` for a file that is whole, and for the only part of one.
    pub(crate) fn of(metadata: &Metadata) -> Result<Option<Part>, GgufError> {
        let count = metadata.u64("split.count").if_present()?.unwrap_or(0);
        if count <= 1 {
            return Ok(None);
        }
        let no = metadata.u64("split.no")?;
        if no >= count {
            return Err(MetadataError::OutOfRange {
                key: "split.no".to_owned(),
                value: no.into(),
                wanted: "below split.count",
            }
            .into());
        }
        Ok(Some(Part { no: no + 1, count }))
    }

    /// The paths of all parts in order, from the path of this one.
    pub(crate) fn paths(self, path: &Path) -> Result<Vec<PathBuf>, GgufError> {
        let Part { no, count } = self;
        let (stem, name) = path.file_name().and_then(|name| name.to_str()).and_then(parse_name).ok_or(
            // An opened blob of a cache, say, whose name is its hash.
            GgufError::SplitName { no, count },
        )?;
        if name != self {
            return Err(GgufError::SplitNumber { no, count, name_no: name.no, name_count: name.count });
        }
        Ok(Part::paths_from(&path.with_file_name(stem), count))
    }
}

impl Part {
    /// The paths of `count` parts of a model that is to be written to `path`, whose ending `.gguf` is not doubled.
    pub(crate) fn paths_from(path: &Path, count: u64) -> Vec<PathBuf> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let stem = name.strip_suffix(".gguf").unwrap_or(&name);
        (1..=count).map(|no| path.with_file_name(format!("{stem}-{no:05}-of-{count:05}.gguf"))).collect()
    }
}

/// Splits `NAME-00002-of-00003.gguf` into `NAME` and the numbers.
fn parse_name(file_name: &str) -> Option<(&str, Part)> {
    let (rest, count) = file_name.strip_suffix(".gguf")?.rsplit_once("-of-")?;
    let (stem, no) = rest.rsplit_once('-')?;
    let five_digits = |digits: &str| {
        (digits.len() == 5 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok())
    };
    Some((stem, Part { no: five_digits(no)??, count: five_digits(count)?? }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_paths_of_all_parts_follow_from_any() {
        let part = Part { no: 2, count: 3 };
        let paths = part.paths(Path::new("dir-of-x/m-7b-00002-of-00003.gguf")).unwrap();
        let expected = ["1", "2", "3"].map(|n| PathBuf::from(format!("dir-of-x/m-7b-0000{n}-of-00003.gguf")));
        assert_eq!(paths, expected);
    }

    #[test]
    fn a_name_without_numbers_is_refused() {
        for name in ["m.gguf", "m-00002-of-00003", "m-2-of-3.gguf", "m-+0002-of-00003.gguf", "-of-00003.gguf"]
        {
            let error = Part { no: 2, count: 3 }.paths(Path::new(name)).unwrap_err();
            assert!(matches!(error, GgufError::SplitName { no: 2, count: 3 }), "{name}: {error}");
        }
    }

    #[test]
    fn a_name_with_other_numbers_is_refused() {
        let error = Part { no: 2, count: 3 }.paths(Path::new("m-00001-of-00003.gguf")).unwrap_err();
        assert_eq!(error.to_string(), "the file says that it is part 2 of 3, but its name says 1 of 3");
    }
}
