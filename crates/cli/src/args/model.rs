//! Which model.

use clap::Args;

/// MODEL as an argument, or with llama.cpp's options.
#[derive(Args, Clone, Debug)]
pub struct ModelArgs {
    /// GGUF file, Hugging Face directory, user/repo:quant of the hub, or an alias (smollm2)
    #[arg(value_name = "MODEL")]
    positional: Option<String>,

    /// MODEL as an option
    #[arg(short = 'm', long = "model", value_name = "MODEL", conflicts_with = "positional")]
    option: Option<String>,

    /// [-hf] MODEL on the Hugging Face hub; without a quantization Q4_K_M, else Q8_0, else the first file
    #[arg(long, value_name = "USER/REPO[:QUANT]", conflicts_with_all = ["positional", "option"])]
    hf_repo: Option<String>,

    /// [-hff] File in the repository of -hf
    #[arg(long, value_name = "FILE", requires = "hf_repo")]
    hf_file: Option<String>,
}

/// `user/repo` of `user/repo:Q8_0`, and `hf://user/repo` as it is.
fn without_quantization(repo: &str) -> &str {
    let start = repo.find("://").map_or(0, |at| at + 3);
    repo[start..].find(':').map_or(repo, |at| &repo[..start + at])
}

impl ModelArgs {
    /// What the user asked for, if anything.
    pub fn name(&self) -> Option<String> {
        if let Some(repo) = &self.hf_repo {
            return Some(match &self.hf_file {
                Some(file) => format!("{}:{file}", without_quantization(repo)),
                None => repo.clone(),
            });
        }
        self.positional.clone().or_else(|| self.option.clone())
    }
}
