//! `lossy tokenize`

use std::io::Write;

use anyhow::{Context, Result};
use clap::Args;
use lossy_tokenizer::{EncodeOptions, Tokenizer};

use crate::args::{ModelArgs, PromptArgs};
use crate::outcome::Outcome;
use crate::output::Output;
use crate::{hub, loaded};

/// Prints the tokens of a text
///
/// By default one line for each token: its id and its piece of the text.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  lossy tokenize smollm2 -p \"Hello world\"
  lossy tokenize model.gguf --ids -f book.txt")]
pub struct TokenizeArgs {
    #[command(flatten)]
    model: ModelArgs,

    #[command(flatten)]
    prompt: PromptArgs,

    /// Prints the ids only: [1, 2, 3]
    #[arg(long)]
    ids: bool,

    /// Reads the text of a control token, such as <|im_start|>, as that token (the default)
    #[arg(long, visible_alias = "parse-special")]
    special: bool,

    /// Reads it as plain text, as `lossy run` does with a user's words
    #[arg(long, visible_alias = "no-parse-special", overrides_with = "special")]
    no_special: bool,

    /// Without the tokens that the model puts at the beginning or end of a text
    #[arg(long)]
    no_bos: bool,
}

/// Prints.
pub fn run(args: TokenizeArgs) -> Result<Outcome> {
    let model = args.model.name().unwrap_or_else(|| hub::DEFAULT_MODEL.to_string());
    let text = args.prompt.read()?.context("give a text with -p, -f or on standard input")?;
    let path = hub::resolve(&model)?;
    let tokenizer = loaded::open(&path)?.tokenizer().map_err(loaded::in_file(&path))?;
    let options = EncodeOptions { add_special: !args.no_bos, parse_special: !args.no_special };
    let ids = tokenizer.encode(&text, options)?;
    let mut out = std::io::BufWriter::new(Output::text());
    if args.ids {
        let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
        writeln!(out, "[{}]", ids.join(", "))?;
    } else {
        for &id in &ids {
            writeln!(out, "{id:>7}  {}", piece(&tokenizer, id))?;
        }
    }
    out.flush()?;
    Ok(Outcome::Done)
}

/// The token's text in quotes; bytes that are not whole characters as `\x..`.
fn piece(tokenizer: &Tokenizer, id: u32) -> String {
    match tokenizer.token_bytes(id) {
        Some(bytes) if !bytes.is_empty() => quote(&bytes),
        // A control token prints nothing; it has only its name.
        _ => tokenizer.token_text(id).unwrap_or("?").to_string(),
    }
}

fn quote(bytes: &[u8]) -> String {
    let mut text = String::from("'");
    for chunk in bytes.utf8_chunks() {
        text.extend(
            chunk
                .valid()
                .chars()
                .map(|c| if c == '\'' { "'".to_string() } else { c.escape_debug().to_string() }),
        );
        text.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    text.push('\'');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_quoted_and_half_characters_shown_as_bytes() {
        assert_eq!(quote(b" it's\n"), "' it's\\n'");
        assert_eq!(quote("é".as_bytes()), "'é'");
        assert_eq!(quote(b"\xc3"), "'\\xc3'");
    }
}
