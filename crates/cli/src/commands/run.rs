//! `lossy run`

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;

use crate::answer::Notes;
use crate::args::{EngineArgs, LossArgs, ModelArgs, PromptArgs, SamplingArgs, TemplateArgs};
use crate::chat;
use crate::completion::{self, Completion, Form};
use crate::hub;
use crate::loaded::Loaded;
use crate::loss::{self, LossOf};
use crate::outcome::Outcome;
use crate::terminal::note;

/// Answers a prompt, or chats on a terminal
///
/// With a prompt (-p, -f, or standard input) it prints the answer and ends. A model with a chat template gets the prompt
/// as a user's message; --no-chat-template continues the bare text instead. Files come first, then standard input, then
/// -p, separated by an empty line; nothing is ever cut off. Without a prompt, on a terminal, it chats.
///
/// The answer goes to standard output, everything else to standard error.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  lossy run -p \"What is photosynthesis? Answer in one sentence.\"
  lossy run smollm2 -f report.txt -p \"Summarize this.\"
  git diff | lossy run model.gguf -p \"Write a commit message.\" --temp 0
  lossy run -m model.gguf --no-chat-template -p \"Once upon a time\" -n 64
  lossy run user/repo:Q4_K_M")]
pub struct RunArgs {
    #[command(flatten)]
    model: ModelArgs,

    #[command(flatten)]
    prompt: PromptArgs,

    /// [-sys] What the model is told before the conversation
    #[arg(
        long,
        visible_alias = "system-prompt",
        value_name = "TEXT",
        allow_hyphen_values = true,
        help_heading = "Prompt",
        conflicts_with = "no_chat_template"
    )]
    system: Option<String>,

    /// [-no-cnv] Continues the bare text of the prompt, in which control tokens such as <|im_start|> count
    #[arg(
        long,
        visible_alias = "no-conversation",
        help_heading = "Prompt",
        conflicts_with_all = ["chat_template", "chat_template_kwargs"]
    )]
    no_chat_template: bool,

    #[command(flatten)]
    template: TemplateArgs,

    /// Reads the text of control tokens in the prompt as such; without it they are plain text
    #[arg(long, help_heading = "Prompt")]
    special: bool,

    /// Keeps the KV cache of the prompt in FILE, and takes from there what this prompt begins with too. The file is made
    /// for one model, KV scheme and calibration; with others it is an error
    #[arg(long, value_name = "FILE", help_heading = "Prompt")]
    prompt_cache: Option<PathBuf>,

    #[command(flatten)]
    sampling: SamplingArgs,

    #[command(flatten)]
    engine: EngineArgs,

    #[command(flatten)]
    loss: LossArgs,

    /// No line with counts and speeds after the answer, and none with what a lossy cache costs
    #[arg(short = 'q', long)]
    quiet: bool,

    /// A line with time and speed after every chunk of the prompt
    #[arg(short = 'v', long, conflicts_with = "quiet")]
    verbose: bool,
}

/// Answers or chats.
pub fn run(args: RunArgs) -> Result<Outcome> {
    let cache_options = args.engine.cache_options()?;
    loss::check_choice(args.loss.max_loss.as_ref(), &cache_options)?;
    let model = args.model.name().unwrap_or_else(|| hub::DEFAULT_MODEL.to_string());
    let prompt = args.prompt.read()?;
    let system = args.system.as_deref().map(|system| args.prompt.unescaped(system)).transpose()?;
    if prompt.is_none() && args.prompt_cache.is_some() {
        return Err(crate::usage_error("--prompt-cache needs a prompt: -p, -f or standard input").into());
    }
    if prompt.is_none() && args.no_chat_template {
        return Err(crate::usage_error("--no-chat-template needs a prompt: -p, -f or standard input").into());
    }
    let path = hub::resolve(&model)?;
    let mut loaded = Loaded::open(&path, &args.engine.engine_options()?, cache_options)?;
    args.template.apply(&mut loaded)?;
    if !args.quiet {
        loaded.tell_positions();
    }
    let mut loss_of = LossOf { model: &mut loaded, path: &path, is_quiet: args.quiet };
    let is_own = args.engine.calibration.calibrate.is_some();
    if let Outcome::Interrupted = loss_of.settle(&args.loss, is_own)? {
        return Ok(Outcome::Interrupted);
    }
    let options = args.sampling.options();
    loaded.check(&options.sampling)?;
    let notes = match (args.quiet, args.verbose) {
        (true, _) => Notes::Few,
        (_, true) => Notes::Many,
        (false, false) => Notes::Usual,
    };
    match prompt {
        Some(text) => {
            let form = if args.no_chat_template {
                Form::Bare { special: true }
            } else if loaded.template()?.is_some() {
                Form::Message { system, special: args.special }
            } else if system.is_some() {
                bail!("{model} has no chat template, which --system needs")
            } else {
                note(&format!("{model} has no chat template: continuing the bare text"));
                Form::Bare { special: args.special }
            };
            completion::run(
                &mut loaded,
                Completion { text, form, options, notes, prompt_cache: args.prompt_cache },
            )
        }
        None => {
            let settings = chat::Settings { model, system, options, notes };
            chat::run(&mut loaded, settings)
        }
    }
}
