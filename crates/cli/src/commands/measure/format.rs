//! `-o`: how the result is written, and where.

use std::io::Write;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context, Result};
use lossy_eval::Report;
use lossy_formats::AtomicFile;

use crate::output::Output;
use crate::terminal::note;

/// What `-o` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    /// the blocks of llama-perplexity, and tables
    Text,
    /// Markdown tables
    Md,
    /// everything, as one object
    Json,
    /// a page in this file, and tables on standard output
    Html(PathBuf),
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Format, String> {
        match text {
            "text" => Ok(Format::Text),
            "md" => Ok(Format::Md),
            "json" => Ok(Format::Json),
            _ if text.ends_with(".html") => Ok(Format::Html(PathBuf::from(text))),
            _ => Err("expected text, md, json, or a file whose name ends with .html".to_string()),
        }
    }
}

impl Format {
    /// Fails if the file of the result could not be written later.
    pub fn check(&self) -> Result<()> {
        match self {
            Format::Html(path) => Ok(AtomicFile::check(path)?),
            Format::Text | Format::Md | Format::Json => Ok(()),
        }
    }

    /// Writes it; to standard output first, which does not fail where a disk is full.
    pub fn write(&self, report: &Report) -> Result<()> {
        let text = match self {
            Format::Text => report.text(true),
            Format::Md | Format::Html(_) => report.text(false),
            Format::Json => format!("{}\n", serde_json::to_string_pretty(report)?),
        };
        let mut out = Output::lock();
        out.write_all(text.as_bytes())?;
        out.flush()?;
        if let Format::Html(path) = self {
            let mut file = AtomicFile::create(path)?;
            file.write_all(report.html().as_bytes())
                .with_context(|| format!("writing {}", path.display()))?;
            file.commit()?;
            note(&format!("{}: the report", path.display()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_ends_with_html_is_a_file() {
        assert_eq!("json".parse(), Ok(Format::Json));
        assert_eq!("out/a.html".parse(), Ok(Format::Html(PathBuf::from("out/a.html"))));
        assert!("csv".parse::<Format>().is_err());
    }
}
