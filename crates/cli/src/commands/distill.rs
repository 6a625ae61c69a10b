//! `lossy distill`

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use lossy_compress::calibration::{Split, WINDOW};
use lossy_compress::distill::{self, Provenance, check_vocabulary};
use lossy_compress::network::check;
use lossy_compress::student::Student;
use lossy_compress::train::{Next, TrainOptions, TrainProgress, Trained, WARM_UP, train};
use lossy_engine::{ModelSource, Progress};

use crate::args::{CalibrationText, Threads};
use crate::loaded::{in_file, open};
use crate::observer::Bar;
use crate::outcome::Outcome;
use crate::terminal::note;
use crate::units::grouped;
use crate::{hub, interrupt, new_model};

/// Trains a quantized model until it predicts what the model it was made of predicts; types, bytes and codes stay
///
/// Trained are the norms, the biases, and the half-precision scale of every block. A part of the text is held out and decides: the
/// file is never worse on it than STUDENT.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  lossy distill model-q3_k_s.gguf better.gguf --teacher model-f16.gguf
  lossy distill model-q3_k_s.gguf better.gguf --teacher model-f16.gguf -f letters.txt --minutes 30")]
pub struct DistillArgs {
    /// GGUF file that is trained, user/repo:quant of the hub, or an alias
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

    /// The highest learning rate
    #[arg(long, value_name = "RATE", default_value_t = TrainOptions::default().rate, value_parser = rate)]
    rate: f64,

    /// The order of the text
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,

    #[command(flatten)]
    threads: Threads,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// norms, biases, and the scales of blocks
    Scales,
}

impl What {
    fn name(self) -> &'static str {
        match self {
            What::Scales => "scales",
        }
    }
}

fn minutes(text: &str) -> Result<f64, String> {
    positive(text, "minutes", 1e6)
}

fn rate(text: &str) -> Result<f64, String> {
    positive(text, "a rate", 1.0)
}

fn positive(text: &str, what: &str, most: f64) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value <= most => Ok(value),
        _ => Err(format!("expected {what} above 0, and at most {most}")),
    }
}

/// Trains.
pub fn run(args: DistillArgs) -> Result<Outcome> {
    let path = hub::resolve(&args.student)?;
    let source = open(&path)?;
    let file = new_model::gguf_of(&source, &path, "distill")?;
    check(&source).map_err(in_file(&path))?;
    let teacher_path = hub::resolve(&args.teacher)?;
    let teacher = open(&teacher_path)?;
    check(&teacher).map_err(in_file(&teacher_path))?;
    check_vocabulary(&source, &teacher)?;
    let layout = distill::layout(file, None)?;
    new_model::check(&args.out, &layout, file, "STUDENT", 0)?;
    if let Some(teacher) = teacher.gguf() {
        new_model::check(&args.out, &layout, teacher, "TEACHER", 0)?;
    }
    let text = args.text.tokens(&source)?;
    let mut split = Split::of(&text.tokens)?;
    split.shuffle(args.seed);
    let Some(mut student) = Student::of_file(&source).map_err(in_file(&path))? else {
        bail!("{} is no GGUF file", path.display())
    };
    for line in remarks(&source, &student) {
        note(&line);
    }
    interrupt::listen(interrupt::Second::Ends);
    let mut clock = Clock::start(&args);
    let options = TrainOptions {
        // Until the clock has a plan.
        n_steps: args.steps.map_or(usize::MAX, |n| n as usize),
        rate: args.rate,
        n_threads: args.threads.count(),
        ..TrainOptions::default()
    };
    clock.look = options.look;
    let mut see = |progress: TrainProgress| clock.see(progress);
    let trained = train(&mut student, &teacher, &split.open, &split.held_out, &options, &mut see)?;
    let n_held_out = split.held_out.len() * WINDOW;
    let name = teacher.info().name.clone();
    let name = name.or_else(|| Some(teacher_path.file_name()?.to_string_lossy().into_owned()));
    let provenance =
        Provenance { teacher: name.unwrap_or_default(), trained: args.train.name(), result: trained };
    distill::write(&student, &provenance, &args.out)?;
    for line in clock.told(&args, trained, options.batch * WINDOW, n_held_out) {
        note(&line);
    }
    Ok(if interrupt::is_asked() { Outcome::Interrupted } else { Outcome::Done })
}

/// What is trained, where that is not what one might think.
fn remarks(source: &ModelSource, student: &Student<'_>) -> Vec<String> {
    let mut lines = vec![format!("{} numbers are trained", grouped(student.n_values() as u64))];
    match distill::matrices(source) {
        (_, 0) => {}
        (0, _) => lines.push(
            "no matrix has blocks, and so no scales: only norms and biases are trained. Quantize first, and train then"
                .to_string(),
        ),
        (_, without) => {
            lines.push(format!("{without} matrices have no blocks, and so no scales: they stay as they are"));
        }
    }
    lines
}

/// How much of the time may be planned, and when training ends in any case, as parts of it.
const PLANNED: f64 = 0.97;
const END: f64 = 1.1;

/// Time, and what is shown of training.
struct Clock {
    start: Instant,
    limit: Option<Duration>,
    /// when the first look was over
    ready: Instant,
    /// steps between looks
    look: usize,
    n_steps: Option<usize>,
    bar: Bar,
}

impl Clock {
    fn start(args: &DistillArgs) -> Clock {
        let start = Instant::now();
        let limit = args.steps.is_none().then(|| Duration::from_secs_f64(60.0 * args.minutes));
        let bar = Bar::start("training", "Ctrl-C ends, and keeps the best so far");
        Clock { start, limit, ready: start, look: 1, n_steps: args.steps.map(|n| n as usize), bar }
    }

    fn see(&mut self, progress: TrainProgress) -> Next {
        let TrainProgress { step, held_out, .. } = progress;
        if step == 0 {
            self.ready = Instant::now();
        }
        if let Some(kl) = held_out {
            let of = self.n_steps.map_or(String::new(), |n| format!(" of {n}"));
            self.bar.note(&format!("step {step}{of}: KL {kl:.4} on the text that is held out"));
        }
        let elapsed = self.start.elapsed();
        let n_total = self.n_steps.unwrap_or(usize::MAX);
        if self.bar.set(Progress::new(step, n_total)).is_break() {
            return Next::Stop;
        }
        match self.limit {
            Some(limit) if self.n_steps.is_none() && step == WARM_UP => {
                let n_steps = self.plan(limit);
                self.n_steps = Some(n_steps);
                Next::Steps(n_steps)
            }
            Some(limit) if elapsed > limit.mul_f64(END) && self.n_steps.is_some() => Next::Stop,
            _ => Next::GoOn,
        }
    }

    /// The steps that fit into the time, by what the first ones took.
    fn plan(&self, limit: Duration) -> usize {
        let per_step = self.ready.elapsed().as_secs_f64() / WARM_UP as f64;
        // The first look computed the teacher too, and later ones do not.
        let per_look = (self.ready - self.start).as_secs_f64() / 2.0;
        let left = limit.as_secs_f64() * PLANNED - self.start.elapsed().as_secs_f64() - per_look;
        let more = (left / (per_step + per_look / self.look as f64)).max(1.0);
        WARM_UP + more as usize
    }

    /// What it came to.
    fn told(
        &self,
        args: &DistillArgs,
        trained: Trained,
        step_tokens: usize,
        n_held_out: usize,
    ) -> Vec<String> {
        let seconds = self.ready.elapsed().as_secs_f64();
        let n_tokens = trained.n_steps * step_tokens;
        let mut lines = Vec::new();
        if trained.best_step == 0 {
            lines.push(format!(
                "nothing was better than STUDENT, so {} has its weights: another text, more of it, or a lower --rate may help",
                args.out.display()
            ));
        }
        lines.push(format!(
            "{}: KL {:.4} → {:.4} on {} tokens that were held out, after {} of {} steps; {} tokens in {:.1} minutes, {:.0} a second",
            args.out.display(),
            trained.before,
            trained.after,
            grouped(n_held_out as u64),
            trained.best_step,
            trained.n_steps,
            grouped(n_tokens as u64),
            self.start.elapsed().as_secs_f64() / 60.0,
            n_tokens as f64 / seconds
        ));
        // What was stopped on the way has another course of rates than a training of so many steps.
        if let Some(n_steps) = self.n_steps.filter(|_| args.steps.is_none()) {
            lines.push(format!(
                "--steps {n_steps} in the place of --minutes goes the whole way again, step by step the same"
            ));
        }
        lines
    }
}
