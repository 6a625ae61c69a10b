//! `--min-speed` by a clock that is told, so that no other program changes what comes out.

use std::fs;

use clap::Parser;
use lossy_testkit::tiny_model;
use tempfile::TempDir;

use super::faster::Goal;
use super::measured::Measuring;
use super::rounds::Ground;
use super::speed::{Clock, Times};
use super::*;
use crate::args::NamedTokens;

#[derive(Parser)]
struct Typed {
    #[command(flatten)]
    args: CompressArgs,
}

/// A model of four layers, and what `compress` opens before it looks for a speed.
struct Opened {
    folder: TempDir,
    args: CompressArgs,
    path: PathBuf,
    source: ModelSource,
    text: NamedTokens,
}

impl Opened {
    fn new(options: &[&str]) -> Opened {
        let folder = tempfile::tempdir().unwrap();
        let path = tiny_model::write_wide(folder.path());
        let out = folder.path().join("small.gguf");
        let words = ["compress", path.to_str().unwrap(), "-o", out.to_str().unwrap(), "-t", "2"];
        let args = Typed::parse_from(words.iter().chain(options)).args;
        let source = open(&path).unwrap();
        let text = args.text.tokens(&source).unwrap();
        Opened { folder, args, path, source, text }
    }

    fn choices(&self) -> Choices<'_> {
        let types = priced_matrices(&self.source).unwrap();
        Choices { source: new_model::gguf_of(&self.source), keeps_split: self.args.keep_split, types }
    }

    fn kept(&self) -> Kept {
        let key = JobKey { model: "a".into(), text: "b".into(), program: "c".into() };
        Kept::open(&self.folder.path().join("partial"), &key, true).unwrap().0
    }

    /// Bytes of the model in the smallest types and in its own.
    fn ends(&self) -> [u64; 2] {
        let choices = self.choices();
        let least = choices.plan(&choices.smallest()).unwrap();
        [least.layout().file_bytes(), choices.own_bytes().unwrap()]
    }

    fn find(&self, wanted: f64, clock: &Clock) -> Result<Found> {
        let (choices, kept) = (self.choices(), self.kept());
        let look = Look {
            args: &self.args,
            path: &self.path,
            source: &self.source,
            choices: &choices,
            kept: &kept,
            text: &self.text,
            clock,
        };
        look.find(wanted, self.args.allowance().as_ref()).map(|found| found.expect("nobody stops it"))
    }

    /// Bytes and speed of the file that a speed's plan comes to.
    fn planned(&self, goal: Goal, clock: &Clock) -> Result<(u64, f64)> {
        let (choices, kept) = (self.choices(), self.kept());
        let parted = part(&self.text.tokens).unwrap();
        let job = Job {
            args: &self.args,
            path: &self.path,
            original: &self.source,
            source: &self.source,
            choices: &choices,
            kept: &kept,
            parted: &parted,
            goal: Some(goal.clone()),
            clock,
        };
        let priced = job.priced()?.expect("nobody stops it");
        let items = choices.items(&priced.prices);
        let measuring = Measuring { original: &self.path, kv: None, n_threads: 2 };
        let ground = Ground { items, priced: &priced, measuring: &measuring, cache: None };
        let most = self.args.allowance().map(|allowed| choices.most_bytes(&allowed).unwrap().unwrap());
        let (assignment, speed) = job.within_speed(&ground, &goal, most)?.expect("nobody stops it");
        let plan = choices.plan(&budget::types(&ground.items, &assignment))?;
        Ok((plan.layout().file_bytes(), speed.measured))
    }
}

/// A clock on which a token takes a microsecond for `bytes(n)` bytes of a file of `n`.
fn clock(bytes: impl Fn(f64) -> f64 + 'static) -> Box<Clock> {
    Box::new(move |original: &Path, file: &Path, _: usize| {
        let seconds = |path: &Path| 1e-6 * bytes(fs::metadata(path).unwrap().len() as f64);
        Ok(Some(Times { file: seconds(file), original: seconds(original) }))
    })
}

/// Tokens a second with a file of so many bytes, on a clock that counts them.
fn speed_of(bytes: f64) -> f64 {
    1e6 / bytes
}

#[test]
fn a_speed_between_the_ends_takes_bits_and_no_layer() {
    let opened = Opened::new(&["--min-speed", "1"]);
    let [least, own] = opened.ends();
    let middle = (least + own) as f64 / 2.0;
    let plain = clock(|n| n);
    let found = opened.find(speed_of(middle), &plain).unwrap();
    assert!(found.pruned.is_none() && found.goal.gone.is_none());
    let (bytes, speed) = opened.planned(found.goal, &plain).unwrap();
    assert!(speed >= speed_of(middle) && bytes as f64 > 0.93 * middle, "{bytes} of {middle}");

    // Where small types take more for a byte, and where they take less, measuring again finds the file.
    for power in [0.5, 2.0] {
        let bent = clock(move |n| n.powf(power));
        let wanted = 1e6 / middle.powf(power);
        let found = opened.find(wanted, &bent).unwrap();
        let (bytes, speed) = opened.planned(found.goal, &bent).unwrap();
        assert!(speed >= wanted, "{power}: {speed} of {wanted}");
        assert!(bytes as f64 > 0.8 * middle, "{power}: {bytes} of {middle}");
    }
}

#[test]
fn a_size_that_is_smaller_than_the_speed_needs_is_kept() {
    let opened = Opened::new(&["--min-speed", "1", "--max-size", "90K"]);
    let [_, own] = opened.ends();
    let plain = clock(|n| n);
    // The model itself is fast enough.
    let found = opened.find(speed_of(2.0 * own as f64), &plain).unwrap();
    let (bytes, _) = opened.planned(found.goal, &plain).unwrap();
    assert!(bytes <= 90 << 10 && bytes > 85 << 10, "{bytes}");
}

#[test]
fn layers_go_when_the_smallest_types_are_too_slow_and_a_second_look_takes_the_same() {
    let opened = Opened::new(&["--min-speed", "1"]);
    let [least, _] = opened.ends();
    let plain = clock(|n| n);
    let wanted = speed_of(0.75 * least as f64);
    let found = opened.find(wanted, &plain).unwrap();
    let gone = found.goal.gone.clone().expect("layers that went");
    let n_left = 4 - gone.layers.len();
    assert!((1..4).contains(&n_left) && gone.n_layers == 4 && gone.kl > 0.0, "{gone:?}");
    assert_eq!(found.pruned.unwrap().info().n_layers, n_left);
    assert!(found.goal.fast.speed() >= wanted && found.goal.of_smallest < wanted);
    assert!(
        found.goal.slow.bytes > found.goal.fast.bytes && found.goal.slow.seconds >= found.goal.fast.seconds
    );
    // One layer less would have been too slow.
    let of_layer = (least as f64 - 1e6 / found.goal.fast.speed()) / gone.layers.len() as f64;
    assert!(speed_of(1e6 / found.goal.fast.speed() + of_layer) < wanted);

    assert_eq!(opened.find(wanted, &plain).unwrap().goal.gone, Some(gone));
}

#[test]
fn what_cannot_be_is_refused_with_the_speed_that_was_found() {
    let plain = clock(|n| n);
    let refused = |options: &[&str], bytes: fn([u64; 2]) -> f64| {
        let opened = Opened::new(options);
        opened.find(speed_of(bytes(opened.ends())), &plain).map(|_| ()).unwrap_err().to_string()
    };
    let line = refused(&["--min-speed", "1"], |[_, own]| 1.1 * own as f64);
    assert!(
        line.contains("MODEL is as fast as --min-speed") && line.contains("already: it decodes"),
        "{line}"
    );
    let line = refused(&["--min-speed", "1"], |_| 1.0);
    assert!(line.contains("is out of reach") && line.contains("one layer alone would some"), "{line}");
    let line = refused(&["--min-speed", "1", "--max-loss", "kl=1"], |[least, _]| 0.9 * least as f64);
    assert!(line.contains("needs fewer layers, but --max-loss kl=1 is for types alone"), "{line}");
    let line = refused(&["--min-speed", "1", "--keep-split"], |[least, _]| 0.9 * least as f64);
    assert!(line.contains("needs fewer layers, but --keep-split keeps all tensors"), "{line}");
}

#[test]
fn a_file_that_is_slower_than_its_shape_was_is_an_error_with_the_fastest() {
    let opened = Opened::new(&["--min-speed", "1"]);
    let [least, own] = opened.ends();
    let wanted = speed_of((least + own) as f64 / 2.0);
    let goal = opened.find(wanted, &clock(|n| n)).unwrap().goal;
    let line = opened.planned(goal, &clock(|n| 9.0 * n)).unwrap_err().to_string();
    let fastest = format!("the fastest made {:.1}", speed_of(9.0 * least as f64));
    assert!(line.contains("no file was found") && line.contains(&fastest), "{line}");
}
