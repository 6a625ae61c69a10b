use super::gradients::gradients;
use super::*;
use crate::block::{Norm, Projection};
use crate::kept::JobKey;
use crate::network::OUTPUT_NORM;
use crate::student::Factors;
use lossy_engine::ModelSource;
use lossy_testkit::noise;

const TOKENS: [u32; 12] = [1, 17, 42, 5, 63, 17, 30, 8, 2, 71, 3, 9];

fn text(has_held_out: bool) -> Split<'static> {
    let held_out: &[&[u32]] = if has_held_out { &[&TOKENS] } else { &[] };
    Split { open: vec![&TOKENS], held_out: held_out.to_vec() }
}

fn wide() -> (tempfile::TempDir, ModelSource) {
    let folder = tempfile::tempdir().unwrap();
    let source = ModelSource::open(&lossy_testkit::tiny_model::write_wide(folder.path())).unwrap();
    (folder, source)
}

/// A student whose norms, and factors of 32 columns, are off by some percent.
fn damaged<'a>(source: &'a ModelSource) -> Student<'a> {
    let mut student = Student::new(source);
    for layer in 0..source.info().n_layers {
        for norm in [Norm::Attention, Norm::Mlp] {
            student.train_vector(&norm.weight(layer)).unwrap();
        }
        for projection in Projection::ALL {
            let [n_rows, n_cols] = projection.shape(source.info());
            student.train_factors(&projection.weight(layer), Factors::uniform(n_rows, n_cols, 32)).unwrap();
        }
    }
    student.train_vector(OUTPUT_NORM).unwrap();
    for (seed, values) in student.parameters_mut().enumerate() {
        values
            .iter_mut()
            .zip(noise(seed as u64, 1 << 14))
            .for_each(|(value, noise)| *value *= 1.0 + 0.1 * noise);
    }
    student
}

/// Adapters, norms and whole matrices of other values than the source's.
fn changed<'a>(source: &'a ModelSource, has_adapters: bool) -> Student<'a> {
    let mut student = match has_adapters {
        true => Student::with_merged_adapters(source, 3, 7).unwrap(),
        false => Student::with_matrices(source).unwrap(),
    };
    for (seed, values) in student.parameters_mut().enumerate() {
        let noise = noise(seed as u64, values.len());
        values.iter_mut().zip(noise).for_each(|(value, noise)| *value += 0.05 * noise);
    }
    student
}

fn check_gradients(source: &ModelSource, mut student: Student<'_>) {
    let cx = Compute::with_isa(2, Isa::best());
    let windows = [&TOKENS[..7], &TOKENS[7..]];
    let mut lessons = Lessons::new(source, &windows);
    lessons.fill(&cx, &[0, 1]).unwrap();
    let (kl, found) = gradients(&cx, &student, &lessons, &[0, 1]).unwrap();
    assert!((kl - divergence(&cx, &student, source, &windows).unwrap()).abs() < 1e-6);
    let names: Vec<String> = student.parameter_names().collect();
    assert_eq!(found.len(), names.len());
    for ((at, gradient), name) in found.iter().enumerate().zip(&names) {
        let norm = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
        let mut move_by = |step: f64| {
            let values = student.parameters_mut().nth(at).unwrap();
            values.iter_mut().zip(gradient).for_each(|(value, g)| *value += (step * g / norm) as f32);
            divergence(&cx, &student, source, &windows).unwrap()
        };
        let h = 1e-2;
        let wanted = (move_by(h) - move_by(-2.0 * h)) / (2.0 * h);
        move_by(h);
        assert!((norm / wanted - 1.0).abs() < 2e-2, "{name}: {norm} is not {wanted}");
    }
}

#[test]
fn gradients_of_all_that_is_trained_are_those_of_finite_differences() {
    let (_folder, source) = wide();
    check_gradients(&source, damaged(&source));
    for has_adapters in [true, false] {
        check_gradients(&source, changed(&source, has_adapters));
    }
}

#[test]
fn adapters_and_whole_matrices_come_back_to_the_teacher() {
    let (_folder, source) = wide();
    let tokens: Vec<u32> = (0..40 * 32).map(|i: u32| (i * i * 7 + i * 13 + i / 31) % 80).collect();
    let windows: Vec<&[u32]> = tokens.chunks(32).collect();
    let text = Split { open: windows[4..].to_vec(), held_out: windows[..4].to_vec() };
    // What all values together are off by is harder to find than what a few are.
    for (has_adapters, rate, most) in [(true, 1e-2, 0.5), (false, 2e-3, 0.8)] {
        let mut student = changed(&source, has_adapters);
        let options = TrainOptions { n_steps: Some(40), rate, n_threads: 2, ..TrainOptions::default() };
        let trained = train(&mut student, &source, &text, &options, &mut |_| Next::GoOn).unwrap();
        assert!(trained.after < most * trained.before, "{has_adapters}: {trained:?}");
    }
}

#[test]
fn a_training_that_is_kept_goes_on_with_the_same_numbers() {
    let (folder, source) = wide();
    let key = JobKey { model: "m".into(), text: "t".into(), program: "p".into() };
    let (kept, _) = Kept::open(&folder.path().join("partial"), &key, false).unwrap();
    let piece = Piece { kept: &kept, name: "training" };
    let tokens: Vec<u32> = (0..20 * 32).map(|i: u32| (i * i * 7 + i * 13 + i / 31) % 80).collect();
    let windows: Vec<&[u32]> = tokens.chunks(32).collect();
    let text = Split { open: windows[4..].to_vec(), held_out: windows[..4].to_vec() };
    // Whoever has a clock tells the number on the way.
    let options =
        TrainOptions { n_steps: None, rate: 1e-2, look: 6, n_threads: 2, ..TrainOptions::default() };
    let run = |end: usize, piece: Option<Piece<'_>>| {
        let mut student = damaged(&source);
        let mut steps = Vec::new();
        let mut see = |progress: TrainProgress| {
            steps.push(progress.step);
            match progress.step {
                step if step == end => Next::Pause,
                3 => Next::Steps(17),
                _ => Next::GoOn,
            }
        };
        let trained = match piece {
            Some(piece) => train_kept(&mut student, &source, &text, &options, piece, &mut see).unwrap(),
            None => train(&mut student, &source, &text, &options, &mut see).unwrap(),
        };
        (steps, trained, student.parameters().map(<[f32]>::to_vec).collect::<Vec<_>>())
    };
    let (_, trained, wanted) = run(usize::MAX, None);
    assert_eq!(trained.n_steps, 17);
    // Before there is a plan; between two looks; and when all is done.
    for (end, first, n) in [(2, 0, 3), (8, 0, 9), (15, 6, 10), (usize::MAX, 12, 6), (usize::MAX, 17, 1)] {
        let (steps, found, numbers) = run(end, Some(piece));
        assert_eq!((steps[0], steps.len()), (first, n), "{steps:?}");
        if end == usize::MAX {
            assert_eq!((found, &numbers), (trained, &wanted));
        }
    }
    // What is of another student is not gone on with.
    let mut other = changed(&source, true);
    let mut first = None;
    let mut see = |progress: TrainProgress| {
        first = first.or(Some(progress.step));
        Next::Stop
    };
    train_kept(&mut other, &source, &text, &options, piece, &mut see).unwrap();
    assert_eq!(first, Some(0));
}

#[test]
fn a_damaged_student_becomes_like_its_teacher_with_the_same_bits_at_any_number_of_threads() {
    let (_folder, source) = wide();
    let tokens: Vec<u32> = (0..40 * 32).map(|i: u32| (i * i * 7 + i * 13 + i / 31) % 80).collect();
    let windows: Vec<&[u32]> = tokens.chunks(32).collect();
    let text = Split { open: windows[4..].to_vec(), held_out: windows[..4].to_vec() };
    let run = |n_threads| {
        let mut student = damaged(&source);
        let options = TrainOptions { n_steps: Some(40), rate: 1e-2, n_threads, ..TrainOptions::default() };
        let mut go_on = |_| Next::GoOn;
        let trained = train(&mut student, &source, &text, &options, &mut go_on).unwrap();
        (trained, student.parameters().map(<[f32]>::to_vec).collect::<Vec<_>>())
    };
    let (trained, values) = run(1);
    println!("{trained:?}");
    assert!(trained.after < 0.5 * trained.before, "{trained:?}");
    assert_eq!((trained, values), run(3));
}

#[test]
fn a_student_that_gets_worse_is_given_back_as_it_was() {
    let (_folder, source) = wide();
    let mut student = damaged(&source);
    let before: Vec<Vec<f32>> = student.parameters().map(<[f32]>::to_vec).collect();
    let options = TrainOptions { n_steps: Some(6), look: 1, rate: 30.0, ..TrainOptions::default() };
    let mut go_on = |_| Next::GoOn;
    let trained = train(&mut student, &source, &text(true), &options, &mut go_on).unwrap();
    assert_eq!((trained.best_step, trained.n_steps, trained.before), (0, 3, trained.after));
    assert!(student.parameters().eq(before.iter().map(Vec::as_slice)));
}

#[test]
fn no_text_is_an_error_with_the_numbers() {
    let (_folder, source) = wide();
    let mut go_on = |_| Next::GoOn;
    let error = train(&mut damaged(&source), &source, &text(false), &TrainOptions::default(), &mut go_on)
        .unwrap_err();
    assert!(error.to_string().starts_with("there are 1 windows to train on and 0 held out"), "{error}");
}
