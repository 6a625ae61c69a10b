//! `-o`: how the result is written, and where.

use std::io::Write;
use std::path::{Path, PathBuf};
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
    /// the picture of bits and loss in this file, and tables on standard output
    Svg(PathBuf),
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Format, String> {
        match text {
            "text" => Ok(Format::Text),
            "md" => Ok(Format::Md),
            "json" => Ok(Format::Json),
            _ if text.ends_with(".html") => Ok(Format::Html(PathBuf::from(text))),
            _ if text.ends_with(".svg") => Ok(Format::Svg(PathBuf::from(text))),
            _ => Err("expected text, md, json, or a file whose name ends with .html or .svg".to_string()),
        }
    }
}

impl Format {
    /// Fails if the file of the result could not be written later.
    pub fn check(&self) -> Result<()> {
        match self {
            Format::Html(path) | Format::Svg(path) => Ok(AtomicFile::check(path)?),
            Format::Text | Format::Md | Format::Json => Ok(()),
        }
    }

    /// Writes it; to standard output first, which does not fail where a disk is full.
    pub fn write(&self, report: &Report) -> Result<()> {
        let text = match self {
            Format::Text => report.text(true),
            Format::Md | Format::Html(_) | Format::Svg(_) => report.text(false),
            Format::Json => format!("{}\n", serde_json::to_string_pretty(report)?),
        };
        let mut out = if *self == Format::Json { Output::json() } else { Output::text() };
        out.write_all(text.as_bytes())?;
        out.flush()?;
        match self {
            Format::Html(path) => write_file(path, &report.html(), "the report"),
            Format::Svg(path) => {
                let picture = report.svg().with_context(|| {
                    format!(
                        "{}: fewer than two settings lose something, which makes no curve",
                        path.display()
                    )
                })?;
                write_file(path, &picture, "the picture")
            }
            Format::Text | Format::Md | Format::Json => Ok(()),
        }
    }
}

fn write_file(path: &Path, content: &str, what: &str) -> Result<()> {
    let mut file = AtomicFile::create(path)?;
    file.write_all(content.as_bytes()).with_context(|| format!("writing {}", path.display()))?;
    file.commit()?;
    note(&format!("{}: {what}", path.display()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_ends_with_html_or_svg_is_a_file() {
        assert_eq!("json".parse(), Ok(Format::Json));
        assert_eq!("out/a.html".parse(), Ok(Format::Html(PathBuf::from("out/a.html"))));
        assert_eq!("out/a.svg".parse(), Ok(Format::Svg(PathBuf::from("out/a.svg"))));
        assert!("csv".parse::<Format>().is_err());
    }
}
