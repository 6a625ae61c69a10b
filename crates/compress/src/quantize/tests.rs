use super::*;
use crate::imatrix::Entry;
use lossy_formats::gguf::{Value, write::GgufWriter};
use lossy_quant::dequantize;

const WIDTH: usize = 64;

fn values(n: usize, seed: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 7919 + seed * 104_729) % 2003) as f32 / 1000.0 - 1.0).collect()
}

/// Two layers, one matrix of which is a stack of three experts, and one that K types fit.
fn source_with(change: impl FnOnce(GgufWriter) -> GgufWriter) -> Gguf {
    let mut writer = GgufWriter::new()
        .set("general.architecture", "llama")
        .set("general.name", "tiny")
        .set("general.file_type", 1u32)
        .set("quantize.imatrix.file", "old")
        .set("llama.block_count", 2u32)
        .set("llama.attention.head_count", 2u32)
        .set("tokenizer.ggml.tokens", vec!["a", "b"])
        .tensor_from_f32("token_embd.weight", DType::F16, &[8, WIDTH], &values(8 * WIDTH, 0));
    for i in [1usize, 0] {
        let name = |end: &str| format!("blk.{i}.{end}.weight");
        writer = writer
            .tensor_from_f32(&name("attn_q"), DType::F16, &[96, WIDTH], &values(96 * WIDTH, i))
            .tensor_from_f32(&name("attn_norm"), DType::F32, &[WIDTH], &values(WIDTH, i + 1))
            .tensor_from_f32(&name("ffn_down"), DType::F16, &[4, 256], &values(1024, i + 2))
            .tensor_from_f32(&name("ffn_up_exps"), DType::F16, &[3, 8, 32], &values(768, i + 3));
    }
    Gguf::from_bytes(change(writer).to_bytes()).unwrap()
}

fn source() -> Gguf {
    source_with(|writer| writer)
}

fn options(recipe: &str) -> Options {
    Options {
        recipe: Recipe::named(recipe).unwrap(),
        changes: Changes::default(),
        keeps_split: false,
        provenance: None,
        has_feedback: false,
        program: "lossy 1.2.3".to_owned(),
    }
}

fn imatrix() -> Imatrix {
    let entry = |n_cols: usize, counts: &[f32]| Entry {
        n_cols,
        sums: values(n_cols * counts.len(), 77).iter().map(|x| x * x * 100.0).collect(),
        counts: counts.to_vec(),
    };
    let of_layer = |i: usize| {
        [
            (format!("blk.{i}.attn_q.weight"), entry(WIDTH, &[100.0])),
            (format!("blk.{i}.ffn_down.weight"), entry(256, &[100.0])),
            (format!("blk.{i}.ffn_up_exps.weight"), entry(32, &[60.0, 0.0, 40.0])),
        ]
    };
    Imatrix { entries: [of_layer(0), of_layer(1)].concat().into_iter().collect(), ..Imatrix::default() }
}

fn written(source: &Gguf, options: &Options, how: &mut How<'_>) -> Result<(Gguf, Written), QuantizeError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.gguf");
    let written = Plan::new(source, options)?.write(&path, how)?;
    Ok((Gguf::open(&path).unwrap(), written))
}

fn how<'a>(
    imatrix: Option<&'a Imatrix>,
    n_threads: usize,
    progress: &'a mut dyn FnMut(u64, u64) -> ControlFlow<()>,
) -> How<'a> {
    How { imatrix, moments: None, n_threads, progress }
}

fn go_on(_: u64, _: u64) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn decoded(view: TensorView<'_>) -> Vec<f32> {
    let mut out = vec![0.0; view.n_values()];
    dequantize(view.dtype, view.bytes, &mut out).unwrap();
    out
}

#[test]
fn every_row_is_what_its_encoder_makes_of_it() {
    let (source, imatrix) = (source(), imatrix());
    for recipe in ["q4_k_m", "iq4_nl", "f16"] {
        let (new, told) =
            written(&source, &options(recipe), &mut how(Some(&imatrix), 2, &mut go_on)).unwrap();
        assert_eq!(told.n_copied, if recipe == "f16" { 7 } else { 0 });
        assert_eq!(new.tensors().len(), source.tensors().len());
        for tensor in new.tensors() {
            let before = source.tensor(tensor.name).unwrap();
            assert_eq!(tensor.shape, before.shape);
            if tensor.dtype == before.dtype {
                assert_eq!(tensor.bytes, before.bytes);
                continue;
            }
            let values = decoded(before);
            let n_cols = tensor.shape[tensor.shape.len() - 1];
            let n_rows = values.len() / n_cols;
            for row in 0..n_rows {
                let mut bytes = vec![0; tensor.bytes.len() / n_rows];
                let weights = imatrix
                    .entries
                    .get(tensor.name)
                    .and_then(|entry| entry.mean_squares(row * entry.counts.len() / n_rows));
                let row_values = &values[row * n_cols..][..n_cols];
                lossy_quant::quantize(tensor.dtype, row_values, weights.as_deref(), &mut bytes).unwrap();
                assert_eq!(
                    &tensor.bytes[row * bytes.len()..][..bytes.len()],
                    bytes,
                    "{}, row {row}",
                    tensor.name
                );
            }
        }
    }
}

#[test]
fn keys_say_what_the_file_is() {
    let mut options = options("q5_k_s");
    let path = Path::new("/somewhere/m.imatrix.gguf");
    options.provenance = Some(Provenance::of(&Imatrix { chunk_count: 7, ..imatrix() }, path));
    let (new, told) = written(&source(), &options, &mut how(Some(&imatrix()), 1, &mut go_on)).unwrap();
    let metadata = new.metadata();
    assert_eq!(metadata.u32("general.file_type"), Ok(16));
    assert_eq!(metadata.u32("general.quantization_version"), Ok(2));
    assert_eq!(metadata.str("general.quantized_by"), Ok("lossy 1.2.3"));
    assert_eq!(metadata.str("quantize.imatrix.file"), Ok("m.imatrix.gguf"));
    assert_eq!(metadata.u32("quantize.imatrix.entries_count"), Ok(6));
    assert_eq!(metadata.u32("quantize.imatrix.chunks_count"), Ok(7));
    assert_eq!(metadata.str("general.name"), Ok("tiny"));
    assert_eq!(metadata.get("tokenizer.ggml.tokens"), Some(&Value::from(vec!["a", "b"])));
    assert_eq!(told.unseen, ["blk.0.ffn_up_exps.weight, expert 1", "blk.1.ffn_up_exps.weight, expert 1"]);
    let names: Vec<&str> = new.tensors().map(|tensor| tensor.name).collect();
    assert_eq!(names[..2], ["token_embd.weight", "blk.0.attn_q.weight"], "by layers");
}

#[test]
fn threads_change_no_byte_and_a_stop_leaves_nothing() {
    let source = source();
    let bytes = |n_threads| {
        let (new, _) = written(&source, &options("q4_0"), &mut how(None, n_threads, &mut go_on)).unwrap();
        new.files().next().unwrap().to_vec()
    };
    assert_eq!(bytes(1), bytes(5));
    let folder = tempfile::tempdir().unwrap();
    let mut stop = |n_done: u64, n_total: u64| {
        assert!(n_done <= n_total);
        if n_done > 2000 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let plan = Plan::new(&source, &options("q4_0")).unwrap();
    let stopped = plan.write(&folder.path().join("x.gguf"), &mut how(None, 2, &mut stop));
    assert!(matches!(stopped, Err(QuantizeError::Stopped)));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_weight_that_is_no_number_is_named() {
    let mut values = values(8 * 256, 3);
    values[3 * 256 + 130] = f32::NAN;
    let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    let source = source_with(|writer| writer.tensor("blk.0.ffn_gate.weight", DType::F32, &[8, 256], &bytes));
    let error = Plan::new(&source, &options("q4_0")).unwrap().check_weights().unwrap_err().to_string();
    assert!(
        error.starts_with(
            "tensor `blk.0.ffn_gate.weight` has NaN or infinity in row 3, between columns 130 and 130"
        ),
        "{error}"
    );
    Plan::new(&self::source(), &options("q4_0")).unwrap().check_weights().unwrap();
}

#[test]
fn importances_of_another_model_are_refused_before_there_is_a_file() {
    let mut other = imatrix();
    other.entries.remove("blk.1.attn_q.weight");
    let refused =
        written(&source(), &options("q4_0"), &mut how(Some(&other), 1, &mut go_on)).map(|_| ()).unwrap_err();
    assert!(refused.to_string().contains("blk.1.attn_q.weight"), "{refused}");
}

#[test]
fn feedback_is_asked_for_by_layers_and_what_has_none_is_named() {
    let source = source();
    let mut asked = Vec::new();
    let identity = Moments::new(
        WIDTH,
        (0..WIDTH * WIDTH).map(|at| f32::from(u8::from(at / WIDTH == at % WIDTH))).collect(),
    );
    let identity = Arc::new(identity.unwrap());
    let mut moments = |name: &str| {
        asked.push(name.to_owned());
        Ok(name.contains("attn_q").then(|| identity.clone()))
    };
    let mut progress = go_on;
    let mut with = How { imatrix: None, moments: Some(&mut moments), n_threads: 2, progress: &mut progress };
    let (new, told) = written(&source, &options("q4_0"), &mut with).unwrap();
    let (plain, _) = written(&source, &options("q4_0"), &mut how(None, 1, &mut go_on)).unwrap();
    // Inputs that know nothing of each other: plain rounding.
    for (a, b) in new.tensors().zip(plain.tensors()) {
        assert_eq!((a.name, a.bytes), (b.name, b.bytes));
    }
    // The matrix that makes logits may have feedback too. Where it has none, that is as it is with every recipe.
    assert_eq!(asked[..3], ["token_embd.weight", "blk.0.attn_q.weight", "blk.0.ffn_down.weight"]);
    assert_eq!(asked.len(), 7);
    assert_eq!(told.without_feedback.len(), 4);
    assert!(told.without_feedback.contains(&"blk.1.ffn_up_exps.weight".to_owned()));
}
