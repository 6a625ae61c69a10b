//! `lossy pull`

use std::io::Write;

use anyhow::Result;
use clap::Args;
use lossy_formats::Escaped;

use crate::hub;
use crate::outcome::Outcome;
use crate::output::Output;

/// Fetches a model, checks it, and prints its path
///
/// A model of the hub goes to the cache that the Hugging Face libraries use (HF_HOME, HF_HUB_CACHE), under the
/// checksum that the hub states; what was cut off is resumed, and what is there is verified. HF_TOKEN opens private and
/// gated models, HF_ENDPOINT names another hub, HF_HUB_OFFLINE=1 forbids asking.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  lossy pull smollm2
  lossy pull Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF:q4_k_m")]
pub struct PullArgs {
    /// user/repo[@revision][:quant] of the hub, its address (hf://…, https://huggingface.co/…), or an alias
    #[arg(value_name = "MODEL")]
    model: String,
}

/// Fetches.
pub fn run(args: PullArgs) -> Result<Outcome> {
    let path = hub::pull(&args.model)?;
    writeln!(Output::text(), "{}", Escaped(path.display()))?;
    Ok(Outcome::Done)
}
