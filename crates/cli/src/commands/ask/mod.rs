//! `lossy ask`

mod questions;

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use lossy_engine::{
    Generation, GenerationOptions, Progress, RequestError, SamplingOptions, Sequence, common_prefix,
};
use lossy_formats::AtomicFile;
use lossy_output::decision::{Answer, Asker, Prompt, Question};
use lossy_tokenizer::Message;
use serde_json::{Value, json};

use crate::args::{EngineArgs, ModelArgs, PromptArgs, TemplateArgs};
use crate::hub;
use crate::interrupt;
use crate::loaded::Loaded;
use crate::outcome::Outcome;
use crate::output::Output;
use crate::terminal::{Prefill, Spinner, note};

/// Questions that are computed together.
const AT_ONCE: usize = 8;

/// Asks many questions about a text, and writes a probability for each answer
///
/// The text is read once, and each question goes on from there. A question is a predicate (true or not), a choice (one of 2
/// to 255 values) or a score (a mean over 2 to 10 levels). No text is generated: the probabilities are those of the
/// answers' labels, scaled to a sum of 1. `allowed_mass` is their sum before that. Where it is far below 1, the model would rather
/// have said something else.
///
/// Questions are JSON, as /v1/decisions of `lossy serve` has them, or CSV with the columns type, name, instructions,
/// choices (a=what it means|b|c) and levels (low|high).
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  lossy ask -f report.txt --questions questions.csv
  lossy ask model.gguf -f contract.txt --questions questions.json -o answers.csv --kv k2v2")]
pub struct AskArgs {
    #[command(flatten)]
    model: ModelArgs,

    #[command(flatten)]
    prompt: PromptArgs,

    /// The questions: a file .json or .csv
    #[arg(long, value_name = "FILE", required = true)]
    questions: PathBuf,

    /// Where the answers go; its name says which form [default: standard output]
    #[arg(short = 'o', long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// The form of the answers [default: what the name of -o says, else csv]
    #[arg(long, value_enum)]
    format: Option<Format>,

    #[command(flatten)]
    template: TemplateArgs,

    #[command(flatten)]
    engine: EngineArgs,
}

/// The form of the answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// a row for each question
    Csv,
    /// as /v1/decisions answers
    Json,
}

impl AskArgs {
    fn format(&self) -> Result<Format> {
        let of_name = |path: &PathBuf| {
            let extension = path.extension()?.to_str()?.to_ascii_lowercase();
            Format::from_str(&extension, false).ok()
        };
        match (self.format, &self.output) {
            (Some(format), _) => Ok(format),
            (None, None) => Ok(Format::Csv),
            (None, Some(path)) => of_name(path).with_context(|| {
                format!("{}: name the form of the answers with --format csv or json", path.display())
            }),
        }
    }
}

/// Asks.
pub fn run(args: AskArgs) -> Result<Outcome> {
    let (options, cache_options) = (args.engine.engine_options()?, args.engine.cache_options()?);
    if cache_options.exact_prefill {
        let message = "--exact-prefill reads every question's prompt anew, but `lossy ask` shares the text: leave it out";
        return Err(crate::usage_error(message).into());
    }
    let format = args.format()?;
    let questions = questions::read(&args.questions)?;
    let text =
        args.prompt.read()?.context("give the text that is asked about with -f, -p or on standard input")?;
    let model = args.model.name().unwrap_or_else(|| hub::DEFAULT_MODEL.to_string());
    let path = hub::resolve(&model)?;
    let mut loaded = Loaded::open(&path, &options, cache_options)?;
    args.template.apply(&mut loaded)?;
    loaded.tell_positions();
    let render = loaded.render_options();
    let prompts = {
        let Some(template) = loaded.template()? else {
            bail!("{model} has no chat template, in which questions are asked: give one with --chat-template")
        };
        let asker = Asker::new(&loaded.tokenizer, template, render)?;
        asker.prompts(&[Message::user(text)], &questions)?
    };
    interrupt::listen(interrupt::Second::Ends);
    let answers = ask(&mut loaded, &questions, &prompts)?;
    if answers.is_empty() {
        return Ok(Outcome::Interrupted);
    }
    write(args.output.as_deref(), format, &model, &questions, &answers)?;
    if answers.len() < questions.len() {
        note(&format!("stopped after {} of {} questions", answers.len(), questions.len()));
        return Ok(Outcome::Interrupted);
    }
    Ok(Outcome::Done)
}

/// The answers; after Ctrl-C those that there are.
fn ask(loaded: &mut Loaded, questions: &[Question], prompts: &[Prompt]) -> Result<Vec<Answer>> {
    let n_ctx = loaded.cache.n_ctx();
    if let Some(longest) = prompts.iter().map(|prompt| prompt.ids.len()).max().filter(|n| *n > n_ctx) {
        return Err(RequestError::TooLong { n_prompt: longest, n_ctx }.into());
    }
    let Some(read) = read_input(loaded, prompts)? else { return Ok(Vec::new()) };
    let spinner = Spinner::start("asking");
    let mut answers = Vec::with_capacity(questions.len());
    for (questions, prompts) in questions.chunks(AT_ONCE).zip(prompts.chunks(AT_ONCE)) {
        if interrupt::is_asked() {
            break;
        }
        let mut generations = Vec::with_capacity(prompts.len());
        for prompt in prompts {
            let sampling =
                SamplingOptions { logprobs_of: prompt.labels.clone(), ..SamplingOptions::greedy() };
            let options = GenerationOptions { sampling, max_tokens: Some(1), ..GenerationOptions::default() };
            let tokenizer = loaded.tokenizer.clone();
            generations.push(Generation::new(tokenizer, read.fork(), prompt.ids.clone(), options)?);
        }
        let mut batch: Vec<(&mut Generation, usize)> =
            generations.iter_mut().map(|generation| (generation, usize::MAX)).collect();
        for (question, mut steps) in questions.iter().zip(loaded.engine.advance(&mut batch)?) {
            let step = steps.pop().context("a question has no answer")??;
            answers.push(Answer::of(question, &step.sampled.logprobs_of));
        }
        spinner.measured("asking", answers.len(), answers.capacity());
    }
    Ok(answers)
}

/// What all prompts have in common, read; `None` after Ctrl-C.
fn read_input(loaded: &mut Loaded, prompts: &[Prompt]) -> Result<Option<Sequence>> {
    let mut sequence = loaded.cache.sequence();
    let Some((first, others)) = prompts.split_first() else { return Ok(Some(sequence)) };
    let common = others.iter().map(|other| common_prefix(&first.ids, &other.ids)).min();
    // Every question has a token of its own to run.
    let n_common = common.unwrap_or(usize::MAX).min(first.ids.len().saturating_sub(1));
    if n_common == 0 {
        return Ok(Some(sequence));
    }
    let bar = Prefill::start(n_common);
    let mut progress = |progress: Progress| {
        bar.set(progress.n_done, progress.share_of_pages_read);
        interrupt::go_on()
    };
    match loaded.engine.prefill(&mut sequence, &first.ids[..n_common], &mut progress) {
        Err(RequestError::Stopped { .. }) => Ok(None),
        Err(error) => Err(error.into()),
        Ok(_) => Ok(Some(sequence)),
    }
}

fn write(
    output: Option<&Path>,
    format: Format,
    model: &str,
    questions: &[Question],
    answers: &[Answer],
) -> Result<()> {
    let text = match format {
        Format::Json => serde_json::to_string_pretty(&json!({"model": model, "answers": answers}))? + "\n",
        Format::Csv => csv_of(questions, answers)?,
    };
    let Some(path) = output else {
        // On a terminal, control characters of questions are shown and not obeyed.
        let mut out = if format == Format::Json { Output::json() } else { Output::answer() };
        return Ok(out.write_all(text.as_bytes())?);
    };
    let mut file = AtomicFile::create(path)?;
    file.write_all(text.as_bytes()).with_context(|| path.display().to_string())?;
    file.commit()?;
    note(&format!("{}: {} answers", path.display(), answers.len()));
    Ok(())
}

/// A row for each answer.
fn csv_of(questions: &[Question], answers: &[Answer]) -> Result<String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record([
        "name",
        "instructions",
        "type",
        "answer",
        "confidence",
        "allowed_mass",
        "probabilities",
    ])?;
    for (question, answer) in questions.iter().zip(answers) {
        let (kind, said, confidence, mass, probabilities) = match answer {
            Answer::Predicate { probability, allowed_mass, .. } => {
                let is_true = *probability >= 0.5;
                let confidence = probability.max(1.0 - probability);
                let both = json!({"true": probability, "false": 1.0 - probability});
                ("predicate", is_true.to_string(), confidence, allowed_mass, both)
            }
            Answer::Choice { choice, probabilities, confidence, allowed_mass, .. } => {
                let said = choice.as_str().map_or_else(|| choice.to_string(), str::to_string);
                ("choice", said, *confidence, allowed_mass, serde_json::to_value(probabilities)?)
            }
            Answer::Score { score, probabilities, confidence, allowed_mass, .. } => {
                ("score", score.to_string(), *confidence, allowed_mass, serde_json::to_value(probabilities)?)
            }
        };
        let (confidence, mass) = (confidence.to_string(), mass.to_string());
        let probabilities = Value::to_string(&probabilities);
        let name = question.name.as_deref().unwrap_or_default();
        writer.write_record([
            name,
            &question.instructions,
            kind,
            &said,
            &confidence,
            &mass,
            &probabilities,
        ])?;
    }
    Ok(String::from_utf8(writer.into_inner()?)?)
}
