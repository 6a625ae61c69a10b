//! One prompt, one answer.

use std::io::{IsTerminal, stdout};
use std::path::PathBuf;

use anyhow::{Context, Result};
use lossy_engine::{Finish, GenerationOptions, Sequence};
use lossy_tokenizer::{EncodeOptions, Message, Tokenizer};

use crate::answer::{Answer, End, Notes, Speaker};
use crate::interrupt;
use crate::loaded::Loaded;
use crate::outcome::Outcome;
use crate::output::Output;
use crate::prompt_cache;
use crate::terminal::note;

/// What to complete.
pub struct Completion {
    /// the prompt
    pub text: String,
    /// how the model sees it
    pub form: Form,
    /// sampling and stopping
    pub options: GenerationOptions,
    /// what is said besides the answer
    pub notes: Notes,
    /// where the prompt's KV cache is kept from one run to the next
    pub prompt_cache: Option<PathBuf>,
}

/// How the model sees a prompt.
pub enum Form {
    /// the text itself
    Bare {
        /// control tokens in the text count
        special: bool,
    },
    /// a user's message in the model's chat template
    Message {
        /// a system message before it
        system: Option<String>,
        /// control tokens in the text count
        special: bool,
    },
}

/// Prints the answer to standard output and the counts to standard error.
pub fn run(loaded: &mut Loaded, completion: Completion) -> Result<Outcome> {
    let prompt = encode(loaded, &completion)?;
    let cache = completion.prompt_cache.as_deref();
    let mut sequence = match cache {
        Some(path) => prompt_cache::open(&loaded.cache, path)?,
        None => loaded.cache.sequence(),
    };
    let mut keep = |sequence: &Sequence, n_read: usize| match cache {
        // One token of every prompt is read again, for its logits.
        Some(path) if n_read > 1 => prompt_cache::keep(sequence, path),
        _ => Ok(()),
    };
    let mut output = Output::answer();
    let mut ends_with_newline = true;
    let mut print = |text: &str| {
        ends_with_newline = text.ends_with('\n');
        output.write_now(text)
    };
    interrupt::listen(interrupt::Second::Ends);
    let options = &completion.options;
    let notes = completion.notes;
    let mut speaker = Speaker { loaded, options, notes, print: &mut print, after_prompt: Some(&mut keep) };
    let answer = speaker.answer(&mut sequence, &prompt)?;
    if !ends_with_newline {
        output.write_now("\n")?;
    }
    if options.sampling.n_logprobs.is_some() {
        print_logprobs(&loaded.tokenizer, &answer);
    }
    let counts = (notes != Notes::Few).then(|| answer.line(loaded.cache.kv(), seed_to_tell(options)));
    let notes: Vec<String> = counts.into_iter().chain(cut_off(&answer, options)).collect();
    // On a terminal the answer and the notes would run together.
    if !notes.is_empty() && stdout().is_terminal() && std::io::stderr().is_terminal() {
        note("");
    }
    notes.iter().for_each(|line| note(line));
    match answer.end {
        End::Interrupted => Ok(Outcome::Interrupted),
        End::Finished(_) => Ok(Outcome::Done),
    }
}

fn encode(loaded: &Loaded, completion: &Completion) -> Result<Vec<u32>> {
    let ids = match &completion.form {
        Form::Message { system, special } => {
            let template = loaded.template()?.context("the model has no chat template")?;
            system.as_deref().map_or(Ok(()), |system| loaded.check_system(system))?;
            let system = system.iter().map(Message::system);
            let messages: Vec<Message> = system.chain([Message::user(&completion.text)]).collect();
            let options = loaded.render_options();
            if *special {
                let prompt = template.render(&messages, &options)?;
                loaded.tokenizer.encode(&prompt, EncodeOptions { add_special: false, parse_special: true })?
            } else {
                template.encode(&loaded.tokenizer, &messages, &options)?
            }
        }
        Form::Bare { special } => {
            tell_double_bos(&loaded.tokenizer, completion, *special);
            let options = EncodeOptions { add_special: true, parse_special: *special };
            loaded.tokenizer.encode(&completion.text, options)?
        }
    };
    (!ids.is_empty()).then_some(ids).context("the prompt has no tokens")
}

/// Says that a begin-of-sequence token that was typed and the one that the model adds are one.
fn tell_double_bos(tokenizer: &Tokenizer, completion: &Completion, special: bool) {
    let bos = tokenizer.bos().filter(|_| special && tokenizer.adds_bos());
    if let Some(bos) = bos.and_then(|bos| tokenizer.token_text(bos))
        && completion.text.starts_with(bos)
        && completion.notes != Notes::Few
    {
        note(&format!(
            "the prompt begins with {bos}, which the model puts there by itself: it is there once"
        ));
    }
}

/// The seed, if chance was at work.
pub fn seed_to_tell(options: &GenerationOptions) -> Option<u64> {
    (options.sampling.temperature > 0.0 && options.sampling.top_k != 1).then_some(options.sampling.seed)
}

/// Why an answer is not whole, if neither the model nor the user ended it.
pub fn cut_off(answer: &Answer, options: &GenerationOptions) -> Option<String> {
    match answer.end {
        End::Finished(Finish::ContextFull) if !options.ignore_eos => {
            Some("the context is full; a larger --ctx-size leaves more room for the answer".to_string())
        }
        End::Finished(Finish::Cycle { period }) => {
            let what = match period {
                1 => "the same token".to_string(),
                n => format!("the same {n} tokens"),
            };
            Some(format!("stopped: the answer repeats {what} over and over; -n -1 lets it go on"))
        }
        _ => None,
    }
}

/// A line for each token: its log-probability, its text, and the most probable tokens.
fn print_logprobs(tokenizer: &Tokenizer, answer: &Answer) {
    let text = |id: u32| {
        format!(
            "{:?}",
            tokenizer
                .token_bytes(id)
                .map_or_else(String::new, |bytes| String::from_utf8_lossy(&bytes).into_owned())
        )
    };
    for sampled in &answer.sampled {
        let top = sampled.top.iter().map(|top| format!("{} {:.4}", text(top.id), top.logprob));
        let top = top.collect::<Vec<_>>().join("  ");
        let logprob = sampled.logprob.unwrap_or(f32::NAN);
        note(&format!("{logprob:>9.4}  {:>7}  {:<16}  {top}", sampled.id, text(sampled.id)));
    }
}
