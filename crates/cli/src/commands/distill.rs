//! `lossy distill`

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};
use lossy_compress::calibration::{Split, WINDOW};
use lossy_compress::distill::{self, Provenance, check_vocabulary};
use lossy_compress::network::check;
use lossy_compress::student::{RANK, Student, StudentError};
use lossy_compress::train::{BYTES_PER_NUMBER, Next, TrainOptions, train};
use lossy_engine::ModelSource;

use crate::args::{CalibrationText, Threads};
use crate::loaded::{in_file, open};
use crate::outcome::Outcome;
use crate::terminal::note;
use crate::training::{Amount, Clock, minutes, positive};
use crate::units::{bytes, grouped};
use crate::{hub, interrupt, new_model, usage_error};

/// Trains a smaller model until it predicts what the model it was made of predicts; types and bytes stay
///
/// Of a quantized model the norms, the biases, and the half-precision scale of every block are trained; of a pruned one adapters
/// (--train lora). A part of the text is held out and decides: the file is never worse on it than STUDENT.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  lossy distill model-q3_k_s.gguf better.gguf --teacher model-f16.gguf
  lossy distill model-q3_k_s.gguf better.gguf --teacher model-f16.gguf -f letters.txt --minutes 30
  lossy distill pruned-f16.gguf better.gguf --teacher model-f16.gguf --train lora")]
pub struct DistillArgs {
    /// GGUF file that is trained, Hugging Face directory, user/repo:quant of the hub, or an alias
    #[arg(value_name = "STUDENT")]
    student: String,

    /// The new file; it appears when it is whole
    #[arg(value_name = "OUT")]
    out: PathBuf,

    /// The model that STUDENT was made of: GGUF file, Hugging Face directory, user/repo:quant of the hub, or an alias
    #[arg(long, value_name = "MODEL")]
    teacher: String,

    #[command(flatten)]
    text: CalibrationText,

    /// Time for training, about; the first steps show how many fit into it
    #[arg(long, value_name = "N", default_value_t = 10.0, value_parser = minutes, conflicts_with = "steps")]
    minutes: f64,

    /// So many steps of 1,024 tokens instead: the same number makes the same file
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    steps: Option<u32>,

    /// What is trained
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = What::Scales)]
    train: What,

    /// Rank of the adapters of --train lora
    #[arg(long, value_name = "N", default_value_t = RANK as u16, value_parser = clap::value_parser!(u16).range(1..=4096))]
    rank: u16,

    /// With --train lora, of a STUDENT in any types: OUT is the adapters alone, a GGUF file for llama.cpp's --lora
    #[arg(long)]
    adapter: bool,

    /// The highest learning rate [default: 0.001, and 0.00005 for all]
    #[arg(long, value_name = "RATE", value_parser = rate)]
    rate: Option<f64>,

    /// The order of the text
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,

    #[command(flatten)]
    threads: Threads,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// norms, biases, and the scales of blocks: for quantized models
    Scales,
    /// norms, biases, and an adapter of low rank for every matrix, which becomes part of it: for models of floats
    Lora,
    /// all weights of the layers: for models of floats, and much memory
    All,
}

impl What {
    fn name(self) -> &'static str {
        match self {
            What::Scales => "scales",
            What::Lora => "lora",
            What::All => "all",
        }
    }

    /// The highest learning rate, if none is given.
    fn rate(self) -> f64 {
        match self {
            What::Scales | What::Lora => TrainOptions::default().rate,
            What::All => 5e-5,
        }
    }
}

fn rate(text: &str) -> Result<f64, String> {
    positive(text, "a rate", 1.0)
}

/// Trains.
pub fn run(args: DistillArgs) -> Result<Outcome> {
    args.check()?;
    let path = hub::resolve(&args.student)?;
    let source = new_model::as_gguf(open(&path)?, &path, Some(&args.out))?;
    let file = new_model::gguf_of(&source);
    check(&source).map_err(in_file(&path))?;
    let teacher_path = hub::resolve(&args.teacher)?;
    let teacher = open(&teacher_path)?;
    check(&teacher).map_err(in_file(&teacher_path))?;
    check_vocabulary(&source, &teacher)?;
    let mut student = args.student(&source).map_err(in_file(&path))?;
    let layout = match args.adapter {
        true => distill::adapter_layout(&student, None)?,
        false => distill::layout(file, None, false)?,
    };
    new_model::check(&args.out, &layout, file, "STUDENT", 0)?;
    if let Some(teacher) = teacher.gguf() {
        new_model::check(&args.out, &layout, teacher, "TEACHER", 0)?;
    }
    let text = args.text.tokens(&source)?;
    let mut split = Split::of(&text.tokens)?;
    split.shuffle(args.seed);
    for line in args.remarks(&source, &student) {
        note(&line);
    }
    interrupt::listen(interrupt::Second::Ends);
    let amount = args.steps.map_or(Amount::Minutes(args.minutes), |n| Amount::Steps(n as usize));
    let options = TrainOptions {
        n_steps: amount.steps(),
        rate: args.rate.unwrap_or(args.train.rate()),
        n_threads: args.threads.count(),
        ..TrainOptions::default()
    };
    let mut clock = Clock::start(amount, &options, Next::Stop, "Ctrl-C ends, and keeps the best so far");
    let trained = train(&mut student, &teacher, &split, &options, &mut |progress| clock.see(progress))?;
    let name = teacher.info().name.clone();
    let name = name.or_else(|| Some(teacher_path.file_name()?.to_string_lossy().into_owned()));
    let provenance =
        Provenance { teacher: name.unwrap_or_default(), trained: args.train.name(), result: trained };
    match args.adapter {
        true => distill::write_adapters(&student, &provenance, &args.out)?,
        false => distill::write(&student, &provenance, false, &args.out)?,
    }
    let out = args.out.display();
    if trained.best_step == 0 {
        let has = if args.adapter { "changes nothing" } else { "has its weights" };
        note(&format!(
            "nothing was better than STUDENT, so {out} {has}: another text, more of it, or a lower --rate may help"
        ));
    }
    note(&format!(
        "{out}: KL {:.4} → {:.4} on {} tokens that were held out, after {} of {} steps; {}",
        trained.before,
        trained.after,
        grouped((split.held_out.len() * WINDOW) as u64),
        trained.best_step,
        trained.n_steps,
        clock.speed(trained, options.batch)
    ));
    for line in clock.told(trained) {
        note(&line);
    }
    Ok(if interrupt::is_asked() { Outcome::Interrupted } else { Outcome::Done })
}

impl DistillArgs {
    fn check(&self) -> Result<()> {
        let is_lora = self.train == What::Lora;
        if self.adapter && !is_lora {
            return Err(
                usage_error("--adapter is for --train lora: give that too, or leave --adapter out").into()
            );
        }
        Ok(())
    }

    fn student<'a>(&self, source: &'a ModelSource) -> Result<Student<'a>, StudentError> {
        let rank = usize::from(self.rank);
        match self.train {
            What::Scales => Student::of_file(source),
            What::Lora if self.adapter => Student::with_adapters(source, rank, self.seed),
            What::Lora => Student::with_merged_adapters(source, rank, self.seed),
            What::All => Student::with_matrices(source),
        }
    }

    /// What is trained, and what that takes, where it is not what one might think.
    fn remarks(&self, source: &ModelSource, student: &Student<'_>) -> Vec<String> {
        let n = student.n_values() as u64;
        let taken = bytes(n * BYTES_PER_NUMBER);
        let mut lines = vec![format!("{} numbers are trained, which takes {taken} of memory", grouped(n))];
        match distill::matrices(source) {
            _ if self.train != What::Scales => {}
            (_, 0) => {}
            (0, _) => lines.push(
                "no matrix has blocks, and so no scales: only norms and biases are trained. Quantize first, and train then; or train \
                 adapters (--train lora)"
                    .to_string(),
            ),
            (_, without) => {
                lines.push(format!("{without} matrices have no blocks, and so no scales: they stay as they are"));
            }
        }
        lines
    }
}
