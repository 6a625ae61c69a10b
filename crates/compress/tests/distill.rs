//! A distilled file beside the one that it was: only half-precision scales and norms differ, and it is what was measured.

use lossy_compress::calibration::Split;
use lossy_compress::distill::{Provenance, check_vocabulary, write, write_adapters};
use lossy_compress::prune::Pruned;
use lossy_compress::prune::write::Plan;
use lossy_compress::student::Student;
use lossy_compress::train::{Next, TrainOptions, TrainProgress, Trained, divergence, train};
use lossy_compress::weights::{Edited, WeightSource};
use lossy_engine::ModelSource;
use lossy_formats::TensorView;
use lossy_formats::gguf::{Gguf, write::GgufWriter};
use lossy_kernels::{Compute, Isa};
use lossy_quant::{DType, dequantize, quantize};
use lossy_testkit::{testdata, tiny_model};
use std::path::{Path, PathBuf};

fn floats(tensor: &TensorView<'_>) -> Vec<f32> {
    let mut values = vec![0.0; tensor.n_values()];
    dequantize(tensor.dtype, tensor.bytes, &mut values).unwrap();
    values
}

/// The wide model, and a student of it whose matrices have one type after another.
fn teacher_and_student(folder: &Path) -> (PathBuf, PathBuf) {
    let teacher = tiny_model::write_wide(folder);
    let types = [DType::Q4_0, DType::Q4_1, DType::Q5_0, DType::Q5_1, DType::Q8_0, DType::IQ4NL];
    let file = Gguf::open(&teacher).unwrap();
    let mut writer = GgufWriter::new();
    for (key, value) in file.metadata().iter() {
        writer = writer.set(key, value.clone());
    }
    for (at, tensor) in file.tensors().enumerate() {
        let is_of_block = tensor.name.starts_with("blk.") && tensor.shape.len() == 2;
        let values = floats(&tensor);
        let dtype = if is_of_block { types[at % types.len()] } else { tensor.dtype };
        writer = writer.tensor_from_f32(tensor.name, dtype, tensor.shape, &values);
    }
    let student = folder.join("student.gguf");
    std::fs::write(&student, writer.to_bytes()).unwrap();
    (teacher, student)
}

fn tokens(n: usize) -> Vec<u32> {
    (0..n as u32).map(|i| 4 + (i * i * 7 + i * 13 + i / 31) % 70).collect()
}

fn options(n_threads: usize) -> TrainOptions {
    TrainOptions { n_steps: Some(12), look: 4, rate: 1e-2, n_threads, ..TrainOptions::default() }
}

fn taught<'a>(
    source: &'a ModelSource,
    teacher: &ModelSource,
    options: TrainOptions,
) -> (Student<'a>, Trained) {
    let tokens = tokens(3000);
    let mut split = Split::of(&tokens).unwrap();
    split.shuffle(1);
    let mut student = Student::of_file(source).unwrap();
    let mut go_on = |_| Next::GoOn;
    let trained = train(&mut student, teacher, &split, &options, &mut go_on).unwrap();
    (student, trained)
}

fn provenance(result: Trained) -> Provenance {
    Provenance { teacher: "wide".to_owned(), trained: "scales", result }
}

#[test]
fn only_scales_and_norms_differ_and_the_file_is_what_was_measured() {
    let folder = tempfile::tempdir().unwrap();
    let (teacher, student) = teacher_and_student(folder.path());
    let [teacher, source] = [teacher, student].map(|path| ModelSource::open(&path).unwrap());
    let (student, trained) = taught(&source, &teacher, options(2));
    assert!(trained.after < 0.9 * trained.before, "{trained:?}");
    let out = folder.path().join("new.gguf");
    write(&student, &provenance(trained), false, &out).unwrap();

    let (old, new) = (source.gguf().unwrap(), Gguf::open(&out).unwrap());
    assert_eq!(new.metadata().u32("lossy.distill.steps").unwrap() as usize, trained.best_step);
    let mut n_changed = 0;
    for (old, new) in old.tensors().zip(new.tensors()) {
        assert_eq!((old.name, old.dtype, old.shape), (new.name, new.dtype, new.shape));
        if old.bytes == new.bytes {
            continue;
        }
        n_changed += 1;
        match old.shape.len() {
            1 => assert!(old.name.ends_with("norm.weight"), "{}", old.name),
            // What is behind the one or two halves that begin a block of these types are its codes.
            _ => {
                let n_halves = 1 + usize::from(matches!(old.dtype, DType::Q4_1 | DType::Q5_1));
                let bytes = old.dtype.block_bytes();
                for (old, new) in old.bytes.chunks(bytes).zip(new.bytes.chunks(bytes)) {
                    assert_eq!(old[2 * n_halves..], new[2 * n_halves..]);
                }
            }
        }
    }
    assert!(n_changed > 30, "{n_changed} of 28 matrices and 9 norms");

    // Measured again from the file, with code that knows nothing of training.
    let again = ModelSource::open(&out).unwrap();
    let tokens = tokens(3000);
    let split = Split::of(&tokens).unwrap();
    let cx = Compute::with_isa(1, Isa::best());
    let of = |student: &ModelSource| divergence(&cx, student, &teacher, &split.held_out).unwrap();
    assert_eq!((of(&source), of(&again)), (trained.before, trained.after));
}

#[test]
fn the_file_is_the_same_at_any_number_of_threads_and_with_a_plan_made_on_the_way() {
    let folder = tempfile::tempdir().unwrap();
    let (teacher, student) = teacher_and_student(folder.path());
    let [teacher, source] = [teacher, student].map(|path| ModelSource::open(&path).unwrap());
    let file = |name: &str, student: &Student<'_>, trained| {
        let out = folder.path().join(name);
        write(student, &provenance(trained), false, &out).unwrap();
        std::fs::read(out).unwrap()
    };
    let (one, trained) = taught(&source, &teacher, options(1));
    let wanted = file("one.gguf", &one, trained);
    let (three, trained) = taught(&source, &teacher, options(3));
    assert_eq!(file("three.gguf", &three, trained), wanted);

    let tokens = tokens(3000);
    let mut split = Split::of(&tokens).unwrap();
    split.shuffle(1);
    let mut planned = Student::of_file(&source).unwrap();
    let wide = TrainOptions { n_steps: None, ..options(2) };
    let mut plan = |progress: TrainProgress| match progress.step {
        5 => Next::Steps(12),
        _ => Next::GoOn,
    };
    let trained = train(&mut planned, &teacher, &split, &wide, &mut plan).unwrap();
    assert_eq!(file("planned.gguf", &planned, trained), wanted);
}

#[test]
fn whoever_stops_a_training_gets_the_best_state_that_was_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let (teacher, student) = teacher_and_student(folder.path());
    let [teacher, source] = [teacher, student].map(|path| ModelSource::open(&path).unwrap());
    let tokens = tokens(3000);
    let split = Split::of(&tokens).unwrap();
    let stopped_at = |last: usize| {
        let mut student = Student::of_file(&source).unwrap();
        let mut see = |progress: TrainProgress| if progress.step == last { Next::Stop } else { Next::GoOn };
        let trained = train(&mut student, &teacher, &split, &options(2), &mut see).unwrap();
        (trained, student.vectors().clone(), student.factors().clone())
    };
    let (at_a_look, later) = (stopped_at(4), stopped_at(6));
    assert_eq!((at_a_look.0.n_steps, later.0.n_steps, later.0.best_step), (4, 6, 4));
    assert!(later.0.after < later.0.before && later.0.after == at_a_look.0.after);
    assert!((later.1, later.2) == (at_a_look.1, at_a_look.2));
}

#[test]
fn a_student_that_nothing_was_trained_of_is_the_file_that_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let (teacher, student) = teacher_and_student(folder.path());
    let [teacher, source] = [teacher, student].map(|path| ModelSource::open(&path).unwrap());
    let (student, trained) = taught(&source, &teacher, TrainOptions { n_steps: Some(0), ..options(1) });
    assert_eq!(trained.before, trained.after);
    for tensor in source.gguf().unwrap().tensors() {
        assert_eq!(*student.bytes_of(&tensor).unwrap(), *tensor.bytes, "{}", tensor.name);
    }
}

#[test]
fn biases_and_norms_of_heads_are_trained_too() {
    for (family, wanted) in [("qwen2", "blk.0.attn_q.bias"), ("qwen3", "blk.0.attn_k_norm.weight")] {
        let source = ModelSource::open(&testdata().join("tiny").join(family).join("model.gguf")).unwrap();
        let student = Student::of_file(&source).unwrap();
        assert!(student.vectors().contains_key(wanted), "{family}: {:?}", student.vectors().keys());
    }
    let directory = ModelSource::open(&testdata().join("tiny/qwen3")).unwrap();
    let error = Student::of_file(&directory).err().unwrap().to_string();
    assert!(error.contains("Hugging Face directory"), "{error}");
}

/// A model of floats whose second layer is missing: what is left is to make up for it.
fn pruned(folder: &Path) -> (PathBuf, PathBuf) {
    let teacher = tiny_model::write_wide(folder);
    let source = ModelSource::open(&teacher).unwrap();
    let mut pruned = Pruned::new(&source);
    pruned.remove(&[1]).unwrap();
    let out = folder.join("pruned.gguf");
    Plan::new(&pruned, Default::default()).unwrap().write(&out).unwrap();
    (teacher, out)
}

#[test]
fn merged_adapters_and_whole_matrices_are_what_was_measured() {
    let folder = tempfile::tempdir().unwrap();
    let (teacher, pruned) = pruned(folder.path());
    let [teacher, source] = [teacher, pruned].map(|path| ModelSource::open(&path).unwrap());
    let tokens = tokens(3000);
    let split = Split::of(&tokens).unwrap();
    for name in ["lora", "all"] {
        let mut student = match name {
            "lora" => Student::with_merged_adapters(&source, 4, 1).unwrap(),
            _ => Student::with_matrices(&source).unwrap(),
        };
        let options = TrainOptions { rate: if name == "lora" { 1e-2 } else { 1e-3 }, ..options(2) };
        let trained = train(&mut student, &teacher, &split, &options, &mut |_| Next::GoOn).unwrap();
        assert!(trained.after < 0.9 * trained.before, "{name}: {trained:?}");
        let out = folder.path().join(format!("{name}.gguf"));
        write(&student, &Provenance { trained: name, ..provenance(trained) }, false, &out).unwrap();
        let again = ModelSource::open(&out).unwrap();
        let cx = Compute::with_isa(1, Isa::best());
        assert_eq!(divergence(&cx, &again, &teacher, &split.held_out).unwrap(), trained.after, "{name}");
        let (old, new) = (source.gguf().unwrap(), again.gguf().unwrap());
        for (old, new) in old.tensors().zip(new.tensors()) {
            assert_eq!((old.name, old.dtype, old.shape), (new.name, new.dtype, new.shape));
            let is_matrix = old.name.starts_with("blk.") && old.shape.len() == 2;
            assert_eq!(old.bytes != new.bytes, is_matrix || old.shape.len() == 1, "{}", old.name);
        }
    }
}

#[test]
fn adapters_alone_are_a_file_of_their_product() {
    let folder = tempfile::tempdir().unwrap();
    let (teacher, student) = teacher_and_student(folder.path());
    let [teacher, source] = [teacher, student].map(|path| ModelSource::open(&path).unwrap());
    let tokens = tokens(3000);
    let split = Split::of(&tokens).unwrap();
    let mut student = Student::with_adapters(&source, 4, 1).unwrap();
    let trained = train(&mut student, &teacher, &split, &options(2), &mut |_| Next::GoOn).unwrap();
    assert!(trained.after < 0.9 * trained.before, "{trained:?}");
    let out = folder.path().join("adapter.gguf");
    write_adapters(&student, &Provenance { trained: "lora", ..provenance(trained) }, &out).unwrap();
    let file = Gguf::open(&out).unwrap();
    let metadata = file.metadata();
    assert_eq!((metadata.str("general.type"), metadata.str("adapter.type")), (Ok("adapter"), Ok("lora")));
    let alpha = metadata.f32("adapter.lora.alpha").unwrap();
    // Added to the student's own weights by hand, they are the model that was measured.
    let mut edited = Edited::new(&source);
    let parts: Vec<TensorView<'_>> = file.tensors().collect();
    assert_eq!(parts.len(), 2 * 7 * source.info().n_layers);
    for pair in parts.chunks(2) {
        let (a, b) = (&pair[0], &pair[1]);
        let matrix = a.name.strip_suffix(".lora_a").unwrap();
        assert_eq!(b.name, format!("{matrix}.lora_b"));
        let ([rank, n_cols], [n_rows, inner]) =
            (<[usize; 2]>::try_from(a.shape).unwrap(), <[usize; 2]>::try_from(b.shape).unwrap());
        assert_eq!((rank, inner), (4, 4));
        let (a, b) = (floats(a), floats(b));
        let mut values = WeightSource::values(&source, matrix).unwrap();
        assert_eq!(values.len(), n_rows * n_cols);
        for row in 0..n_rows {
            for col in 0..n_cols {
                let product: f32 = (0..rank).map(|part| b[row * rank + part] * a[part * n_cols + col]).sum();
                values[row * n_cols + col] += alpha / rank as f32 * product;
            }
        }
        edited.replace(matrix, values.into()).unwrap();
    }
    let cx = Compute::with_isa(1, Isa::best());
    let found = divergence(&cx, &edited, &teacher, &split.held_out).unwrap();
    assert!((found / trained.after - 1.0).abs() < 1e-4, "{found} is not {}", trained.after);
}

#[test]
fn whole_matrices_of_a_quantized_file_are_not_trained() {
    let folder = tempfile::tempdir().unwrap();
    let (_, student) = teacher_and_student(folder.path());
    let source = ModelSource::open(&student).unwrap();
    let merged = Student::with_merged_adapters(&source, 4, 1).err().unwrap().to_string();
    let whole = Student::with_matrices(&source).err().unwrap().to_string();
    assert!(merged == whole && merged.starts_with("`blk.0.attn_q.weight` is "), "{merged}");
}

#[test]
fn another_vocabulary_is_refused_with_both() {
    let folder = tempfile::tempdir().unwrap();
    let ours = ModelSource::open(&tiny_model::write(folder.path())).unwrap();
    let changes = tiny_model::Changes { tokens: vec![(7, "other".to_owned())], ..Default::default() };
    let theirs =
        ModelSource::open(&tiny_model::write_changed(folder.path(), "other.gguf", &changes)).unwrap();
    assert!(check_vocabulary(&ours, &ours).is_ok());
    let error = check_vocabulary(&ours, &theirs).unwrap_err().to_string();
    assert!(error.contains("token 7 is `$` for the student and `other` for the teacher"), "{error}");
}

/// A norm in half precision is rounded to it, and an unchanged one keeps its bits.
#[test]
fn a_norm_keeps_its_type() {
    let folder = tempfile::tempdir().unwrap();
    let path = tiny_model::write_wide(folder.path());
    let file = Gguf::open(&path).unwrap();
    let mut writer = GgufWriter::new();
    for (key, value) in file.metadata().iter() {
        writer = writer.set(key, value.clone());
    }
    for tensor in file.tensors() {
        let values = floats(&tensor);
        let mut bytes = vec![0; 2 * values.len()];
        quantize(DType::F16, &values, None, &mut bytes).unwrap();
        writer = writer.tensor(tensor.name, DType::F16, tensor.shape, &bytes);
    }
    std::fs::write(&path, writer.to_bytes()).unwrap();
    let source = ModelSource::open(&path).unwrap();
    let student = Student::of_file(&source).unwrap();
    assert!(student.factors().is_empty() && !student.vectors().is_empty());
    for tensor in source.gguf().unwrap().tensors() {
        assert_eq!(*student.bytes_of(&tensor).unwrap(), *tensor.bytes, "{}", tensor.name);
    }
}
