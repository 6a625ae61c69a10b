//! A conversation in a file: `{"model": …, "messages": [{"role": …, "content": …}, …]}`.

use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, bail};
use lossy_formats::AtomicFile;
use lossy_tokenizer::Message;
use serde::{Deserialize, Serialize};

/// What `/save` writes and `/load` reads. The messages have OpenAI's shape.
#[derive(Debug, Serialize, Deserialize)]
pub struct Saved {
    /// as the user named it; for the reader's information
    #[serde(default)]
    pub model: String,
    /// in order
    pub messages: Vec<Message>,
}

impl Saved {
    /// Writes the file, whole or not at all. Replaces only files of its own kind.
    pub fn write(&self, path: &Path) -> Result<()> {
        if path.exists() && Saved::read(path).is_err() {
            bail!("{} exists and is not a saved conversation", path.display());
        }
        let context = || format!("writing {}", path.display());
        let mut file = AtomicFile::create(path)?;
        serde_json::to_writer_pretty(&mut file, self).with_context(context)?;
        file.write_all(b"\n").with_context(context)?;
        Ok(file.commit()?)
    }

    /// Reads a file.
    pub fn read(path: &Path) -> Result<Saved> {
        let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is not a saved conversation", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("talk.json");
        let messages = vec![Message::user("a \"b\"\n"), Message::assistant("é")];
        Saved { model: "smollm2".into(), messages: messages.clone() }.write(&path).unwrap();
        Saved { model: "smollm2".into(), messages: messages.clone() }.write(&path).unwrap();
        assert_eq!(Saved::read(&path).unwrap().messages, messages);
    }

    #[test]
    fn a_file_of_another_kind_is_neither_read_nor_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("thesis.txt");
        fs::write(&path, "precious").unwrap();
        assert!(Saved { model: String::new(), messages: Vec::new() }.write(&path).is_err());
        assert!(Saved::read(&path).is_err());
        assert_eq!(fs::read_to_string(path).unwrap(), "precious");
    }
}
