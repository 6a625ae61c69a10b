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

impl ModelArgs {
    /// What the user asked for, if anything.
    pub fn name(&self) -> Option<String> {
        if let Some(repo) = &self.hf_repo {
            return Some(match &self.hf_file {
                Some(file) => format!("{}:{file}", repo.split(':').next().unwrap_or(repo)),
                None => repo.clone(),
            });
        }
        self.positional.clone().or_else(|| self.option.clone())
    }
}
