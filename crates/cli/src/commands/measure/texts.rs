//! What is measured on: the user's files, or what is bundled.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use lossy_eval::{BUNDLED, Text};
use lossy_tokenizer::{EncodeOptions, Tokenizer};

/// The files, or what is bundled.
pub fn read(files: &[PathBuf], tokenizer: &Tokenizer) -> Result<Vec<Text>> {
    let bos = tokenizer.bos().filter(|_| tokenizer.adds_bos());
    let text = |name: String, text: &str| -> Result<Text> {
        let tokens = tokenizer.encode(text, EncodeOptions { add_special: false, parse_special: false })?;
        Ok(Text { name, tokens, bos })
    };
    if files.is_empty() {
        return BUNDLED
            .iter()
            .map(|bundled| text(format!("bundled {}", bundled.name), bundled.text))
            .collect();
    }
    let file = |path: &PathBuf| {
        let content = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        text(path.display().to_string(), &content)
    };
    files.iter().map(file).collect()
}

/// Bundled texts that are too short are left out; a user's own text that is too short is an error, later.
pub fn long_enough(texts: &[Text], n_ctx: usize, are_users: bool) -> Vec<Text> {
    let longest = texts.iter().map(|text| text.tokens.len()).max().unwrap_or(0);
    let enough = |text: &&Text| are_users || text.tokens.len() >= n_ctx.min(longest);
    texts.iter().filter(enough).cloned().collect()
}
