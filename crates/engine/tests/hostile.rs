//! Well-formed files with contents that no model has: an error, or a model whose logits are numbers; never a panic.

use std::fs;
use std::path::{Path, PathBuf};

use lossy_engine::{
    BatchItem, CacheOptions, Engine, EngineError, EngineOptions, LoadError, Logits, ModelSource,
};
use lossy_formats::TensorView;
use lossy_formats::gguf::write::GgufWriter;
use lossy_formats::gguf::{Array, Gguf, Value};
use lossy_quant::DType;
use lossy_testkit::{TINY_MODELS, testdata};
use serde_json::json;

/// Runs a few tokens, if the model can be loaded. A message says what `change` led to.
#[track_caller]
fn try_to_run(source: Result<ModelSource, LoadError>, change: &str) -> Result<(), EngineError> {
    let source = source?;
    let options = EngineOptions { n_threads: Some(1), ..EngineOptions::default() };
    let mut engine = Engine::load(&source, &options)?;
    let cache = engine.cache(&CacheOptions { n_ctx: Some(8), ..CacheOptions::default() })?;
    let mut sequence = cache.sequence();
    let item = BatchItem { sequence: &mut sequence, tokens: &[0, 0, 0], logits: Logits::All };
    let rows = engine.forward(&mut [item])?;
    for row in 0..rows.len() {
        assert!(rows.row(row).iter().all(|logit| logit.is_finite()), "{change}: a logit is no number");
    }
    Ok(())
}

fn tiny(name: &str) -> PathBuf {
    testdata().join("tiny").join(name)
}

fn open_tiny(name: &str) -> Gguf {
    Gguf::open(&tiny(name).join("model.gguf")).unwrap()
}

/// The file with other metadata and tensors.
fn rewritten<'a>(
    gguf: &'a Gguf,
    change_value: impl Fn(&str, &Value) -> Option<Value>,
    change_tensor: impl Fn(GgufWriter, TensorView<'a>) -> GgufWriter,
) -> Result<ModelSource, LoadError> {
    let mut writer = GgufWriter::new();
    for (key, value) in gguf.metadata().iter() {
        if let Some(value) = change_value(key, value) {
            writer = writer.set(key, value);
        }
    }
    writer = gguf.tensors().fold(writer, change_tensor);
    ModelSource::from_gguf(Gguf::from_bytes(writer.to_bytes())?)
}

fn as_it_was<'a>(writer: GgufWriter, tensor: TensorView<'a>) -> GgufWriter {
    writer.tensor(tensor.name, tensor.dtype, tensor.shape, tensor.bytes)
}

#[test]
fn no_value_of_any_key_makes_a_gguf_model_panic() {
    let hostile = [
        Value::U32(0),
        Value::U32(1),
        Value::U32(3),
        Value::U32(u32::MAX),
        Value::U64(u64::MAX),
        Value::I32(-1),
        Value::I64(i64::MIN),
        Value::F32(0.0),
        Value::F32(-1.0),
        Value::F32(f32::NAN),
        Value::F32(f32::INFINITY),
        Value::F32(f32::MIN_POSITIVE),
        Value::F32(f32::MAX),
        Value::F64(f64::NAN),
        Value::Bool(true),
        Value::String("yarn".into()),
        Value::Array(Array::I32(vec![])),
        Value::Array(Array::I32(vec![-1, 2])),
        Value::Array(Array::U64(vec![u64::MAX; 2])),
    ];
    // What the tiny files do not have, but a file may.
    let more = [
        "rope.scaling.factor",
        "rope.scale_linear",
        "rope.freq_base",
        "attention.key_length",
        "attention.value_length",
        "attention.sliding_window",
        "expert_count",
    ];
    for name in TINY_MODELS {
        let gguf = open_tiny(name);
        let architecture = gguf.metadata().str("general.architecture").unwrap();
        for value in &hostile {
            for (key, _) in gguf.metadata().iter() {
                let changed =
                    rewritten(&gguf, |k, v| Some(if k == key { value } else { v }.clone()), as_it_was);
                let _ = try_to_run(changed, &format!("{name}: {key} = {value:?}"));
            }
            for key in more.map(|key| format!("{architecture}.{key}")) {
                if gguf.metadata().get(&key).is_none() {
                    let mut writer = GgufWriter::new().set(&key, value.clone());
                    for (key, value) in gguf.metadata().iter() {
                        writer = writer.set(key, value.clone());
                    }
                    let bytes = gguf.tensors().fold(writer, as_it_was).to_bytes();
                    let source = ModelSource::from_gguf(Gguf::from_bytes(bytes).unwrap());
                    let _ = try_to_run(source, &format!("{name}: {key} = {value:?}"));
                }
            }
        }
    }
}

#[test]
fn a_tensor_that_is_missing_or_of_another_shape_or_type_is_named() {
    for name in TINY_MODELS {
        let gguf = open_tiny(name);
        let keep = |_: &str, value: &Value| Some(value.clone());
        // An output matrix or a bias may be absent; all else is needed.
        let optional = ["output.", "rope_freqs.", "rope_factors_long."];
        let needed = |name: &str| !optional.iter().any(|start| name.starts_with(start));
        for wrong in gguf.tensors() {
            let changes: [(&str, &dyn Fn(GgufWriter) -> GgufWriter); 4] = [
                ("is missing", &|writer| writer),
                ("has a row more", &|writer| {
                    let bytes =
                        vec![0; 4 * (wrong.shape[0] + 1) * wrong.shape[1..].iter().product::<usize>()];
                    let shape = [&[wrong.shape[0] + 1], &wrong.shape[1..]].concat();
                    writer.tensor(wrong.name, DType::F32, &shape, &bytes)
                }),
                ("is flat", &|writer| {
                    let n = wrong.shape.iter().product::<usize>();
                    let shape = [&vec![1; 3 - wrong.shape.len()][..], &[n]].concat();
                    writer.tensor(wrong.name, DType::F32, &shape, &vec![0; 4 * n])
                }),
                ("is of integers", &|writer| {
                    let n = wrong.shape.iter().product::<usize>();
                    writer.tensor(wrong.name, DType::I8, wrong.shape, &vec![0; n])
                }),
            ];
            for (what, change) in changes {
                let changed = rewritten(&gguf, keep, |writer, tensor| {
                    if tensor.name == wrong.name { change(writer) } else { as_it_was(writer, tensor) }
                });
                let change = format!("{name}: `{}` {what}", wrong.name);
                match try_to_run(changed, &change) {
                    // The embedding's rows are the vocabulary, where there is no output matrix to contradict.
                    Ok(()) if what == "has a row more" => assert_eq!(wrong.name, "token_embd.weight"),
                    Ok(()) => assert!(what == "is missing" && !needed(wrong.name), "{change}: no error"),
                    Err(error) => {
                        let line = error.to_string();
                        // The embedding says how many rows the output matrix must have.
                        let also =
                            if wrong.name == "token_embd.weight" { "output.weight" } else { wrong.name };
                        assert!(line.contains(wrong.name) || line.contains(also), "{change}: {line}");
                        assert!(what != "is of integers" || line.contains("I8"), "{change}: {line}");
                    }
                }
            }
        }
    }
}

/// A Llama of zeros with these shapes: `[n_embd, n_heads, n_kv_heads, head_dim, n_ff, n_vocab]`.
fn llama([n_embd, n_heads, n_kv_heads, head_dim, n_ff, n_vocab]: [usize; 6]) -> ModelSource {
    let set = |writer: GgufWriter, key: &str, value: usize| writer.set(&format!("llama.{key}"), value as u32);
    let mut writer = GgufWriter::new()
        .set("general.architecture", "llama")
        .set("llama.attention.layer_norm_rms_epsilon", 1e-5f32);
    writer = set(writer, "block_count", 1);
    writer = set(writer, "context_length", 64);
    writer = set(writer, "embedding_length", n_embd);
    writer = set(writer, "feed_forward_length", n_ff);
    writer = set(writer, "attention.head_count", n_heads);
    writer = set(writer, "attention.head_count_kv", n_kv_heads);
    writer = set(writer, "attention.key_length", head_dim);
    writer = set(writer, "attention.value_length", head_dim);
    writer = set(writer, "rope.dimension_count", head_dim);
    let shapes: [(&str, &[usize]); 11] = [
        ("token_embd.weight", &[n_vocab, n_embd]),
        ("output_norm.weight", &[n_embd]),
        ("blk.0.attn_norm.weight", &[n_embd]),
        ("blk.0.attn_q.weight", &[n_heads * head_dim, n_embd]),
        ("blk.0.attn_k.weight", &[n_kv_heads * head_dim, n_embd]),
        ("blk.0.attn_v.weight", &[n_kv_heads * head_dim, n_embd]),
        ("blk.0.attn_output.weight", &[n_embd, n_heads * head_dim]),
        ("blk.0.ffn_norm.weight", &[n_embd]),
        ("blk.0.ffn_gate.weight", &[n_ff, n_embd]),
        ("blk.0.ffn_up.weight", &[n_ff, n_embd]),
        ("blk.0.ffn_down.weight", &[n_embd, n_ff]),
    ];
    for (name, shape) in shapes {
        let n = shape.iter().product::<usize>();
        writer = writer.tensor_from_f32(name, DType::F32, shape, &vec![0.1; n]);
    }
    ModelSource::from_gguf(Gguf::from_bytes(writer.to_bytes()).unwrap()).unwrap()
}

#[test]
fn shapes_that_fit_together_are_computed_or_refused_however_odd_they_are() {
    for head_dim in [2, 6, 8, 10, 32, 62, 80, 96, 100, 128, 192, 256, 258, 512, 4096] {
        let change = format!("heads of {head_dim} channels");
        let result = try_to_run(Ok(llama([32, 2, 1, head_dim, 32, 5])), &change);
        assert_eq!(result.is_ok(), head_dim <= 256, "{change}: {result:?}");
        assert!(result.err().is_none_or(|error| error.to_string().contains(&change)), "{change}");
    }
    for width in [1, 2, 7, 8, 31, 33, 48, 64, 100] {
        let _ = try_to_run(Ok(llama([width, 2, 2, 32, 64, 9])), &format!("a width of {width}"));
        let _ = try_to_run(Ok(llama([64, 2, 2, 32, width, 9])), &format!("an MLP of {width}"));
        let _ = try_to_run(Ok(llama([64, 2, 2, 32, 64, width])), &format!("a vocabulary of {width}"));
    }
    for (n_heads, n_kv_heads) in [(1, 1), (7, 1), (40, 1), (64, 2), (129, 129)] {
        let change = format!("{n_heads} query heads for {n_kv_heads}");
        let _ = try_to_run(Ok(llama([32, n_heads, n_kv_heads, 32, 32, 5])), &change);
    }
}

/// A copy of a tiny directory with this `config.json`.
fn with_config(folder: &Path, config: &serde_json::Value) -> Result<ModelSource, LoadError> {
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    ModelSource::open(folder)
}

#[test]
fn no_value_of_any_key_makes_a_hugging_face_model_panic() {
    let hostile = [
        json!(null),
        json!(0),
        json!(1),
        json!(3),
        json!(-1),
        json!(u64::MAX),
        json!(1e-320),
        json!(-0.5),
        json!(1e308),
        json!("yarn"),
        json!([]),
        json!({}),
        json!(true),
    ];
    for name in TINY_MODELS {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("hostile-{name}"));
        fs::create_dir_all(&folder).unwrap();
        for entry in fs::read_dir(tiny(name)).unwrap() {
            let from = entry.unwrap().path();
            if from.to_str().unwrap().contains("safetensors") {
                fs::copy(&from, folder.join(from.file_name().unwrap())).unwrap();
            }
        }
        let config: serde_json::Value =
            serde_json::from_slice(&fs::read(tiny(name).join("config.json")).unwrap()).unwrap();
        for value in &hostile {
            for key in config.as_object().unwrap().keys() {
                let mut changed = config.clone();
                changed[key] = value.clone();
                let _ = try_to_run(with_config(&folder, &changed), &format!("{name}: {key} = {value}"));
            }
            let nested = config["rope_parameters"].as_object();
            for key in nested.into_iter().flat_map(serde_json::Map::keys) {
                let mut changed = config.clone();
                changed["rope_parameters"][key] = value.clone();
                let _ = try_to_run(with_config(&folder, &changed), &format!("{name}: {key} = {value}"));
            }
        }
    }
}
