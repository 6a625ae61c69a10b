//! Pruned files: what stays is a copy, counts follow, and the file computes what was measured.

use lossy_compress::calibration::Split;
use lossy_compress::network::Network;
use lossy_compress::prune::steps::{Event, Share, Texts, narrow_mlps, remove_layers};
use lossy_compress::prune::width::width;
use lossy_compress::prune::write::{Plan, Provenance};
use lossy_compress::prune::{PruneError, Pruned};
use lossy_compress::train::divergence;
use lossy_compress::weights::WeightSource;
use lossy_engine::ModelSource;
use lossy_formats::gguf::{Array, Gguf, Value, write::GgufWriter};
use lossy_kernels::{Compute, Isa};
use lossy_quant::DType;
use lossy_testkit::{noise, tiny_model};
use std::ops::ControlFlow;
use std::path::Path;

/// The wide model with numbers by layer as lists, Q4_0 in some matrices, and MLPs of 128 channels, half of which say nearly what
/// the other half says.
fn model(folder: &Path) -> ModelSource {
    const N_FF: usize = 128;
    let file = Gguf::open(&tiny_model::write_wide(folder)).unwrap();
    let mut writer = GgufWriter::new();
    for (key, value) in file.metadata().iter() {
        writer = match key {
            "llama.feed_forward_length" => writer.set(key, Value::Array(Array::I32(vec![N_FF as i32; 4]))),
            "llama.attention.head_count_kv" => writer.set(key, Value::Array(Array::U32(vec![1; 4]))),
            _ => writer.set(key, value.clone()),
        };
    }
    // A list that has the length of the layers by chance.
    writer = writer.set("general.languages", vec!["a", "b", "c", "d"]);
    for (seed, tensor) in file.tensors().enumerate() {
        let mut values = vec![0.0; tensor.n_values()];
        lossy_quant::dequantize(tensor.dtype, tensor.bytes, &mut values).unwrap();
        let (mut shape, mut dtype) = (tensor.shape.to_vec(), tensor.dtype);
        let name = tensor.name;
        if name.contains("ffn_gate") || name.contains("ffn_up") {
            let other = noise(seed as u64, values.len());
            let twins: Vec<f32> = values.iter().zip(&other).map(|(w, noise)| w + 0.01 * noise).collect();
            values.extend(twins);
            (shape, dtype) = (vec![N_FF, 64], DType::Q4_0);
        } else if name.contains("ffn_down") {
            values = values.chunks(64).flat_map(|row| [row, row].concat()).map(|w| 0.5 * w).collect();
            (shape, dtype) = (vec![64, N_FF], if name.contains("blk.1") { DType::F16 } else { DType::Q8_0 });
        }
        writer = writer.tensor_from_f32(name, dtype, &shape, &values);
    }
    let path = folder.join("model.gguf");
    std::fs::write(&path, writer.to_bytes()).unwrap();
    ModelSource::open(&path).unwrap()
}

fn tokens() -> Vec<u32> {
    (0..4096u32).map(|i| 4 + (i * i * 7 + i * 13 + i / 31) % 70).collect()
}

fn written(model: &Pruned<'_>, out: &Path) -> ModelSource {
    Plan::new(model, Provenance { kl: Some(0.5) }).unwrap().write(out).unwrap();
    let new = ModelSource::open(out).unwrap();
    new.check().unwrap();
    new
}

fn logits(source: &dyn WeightSource) -> Vec<f32> {
    Network::<f32>::new(source, 40).unwrap().logits(&tokens()[..40]).unwrap()
}

#[test]
fn a_model_that_nothing_is_left_out_of_is_the_same_file() {
    let folder = tempfile::tempdir().unwrap();
    let source = model(folder.path());
    let first = written(&Pruned::new(&source), &folder.path().join("first.gguf"));
    let second = folder.path().join("second.gguf");
    written(&Pruned::new(&first), &second);
    assert_eq!(std::fs::read(folder.path().join("first.gguf")).unwrap(), std::fs::read(second).unwrap());
    let (old, new) = (source.gguf().unwrap(), first.gguf().unwrap());
    assert!(old.metadata().iter().eq(new.metadata().iter()));
    assert!(
        old.tensors()
            .map(|t| (t.name, t.dtype, t.bytes))
            .eq(new.tensors().map(|t| (t.name, t.dtype, t.bytes)))
    );
}

#[test]
fn without_layers_names_and_lists_follow_and_what_stays_is_a_copy() {
    let folder = tempfile::tempdir().unwrap();
    let source = model(folder.path());
    let mut pruned = Pruned::new(&source);
    pruned.remove(&[2, 0]).unwrap();
    let new = written(&pruned, &folder.path().join("new.gguf"));
    let metadata = new.gguf().unwrap().metadata();
    assert_eq!(metadata.u32("llama.block_count"), Ok(2));
    assert_eq!(metadata.get("llama.feed_forward_length"), Some(&Value::Array(Array::I32(vec![128; 2]))));
    assert_eq!(metadata.get("llama.attention.head_count_kv"), Some(&Value::Array(Array::U32(vec![1; 2]))));
    assert_eq!(metadata.strings("general.languages").unwrap().len(), 4);
    assert_eq!(metadata.get("lossy.prune.layers"), Some(&Value::Array(Array::U32(vec![0, 2]))));
    assert_eq!(metadata.f32("lossy.prune.kl"), Ok(0.5));
    let old = source.gguf().unwrap();
    let mut n_layers = 0;
    for tensor in new.gguf().unwrap().tensors() {
        let of_old = match tensor.name.strip_prefix("blk.") {
            Some(rest) => {
                n_layers += 1;
                let (layer, rest) = rest.split_once('.').unwrap();
                format!("blk.{}.{rest}", [1, 3][layer.parse::<usize>().unwrap()])
            }
            None => tensor.name.to_owned(),
        };
        assert_eq!(tensor.bytes, old.tensor(&of_old).unwrap().bytes, "{}", tensor.name);
    }
    assert_eq!(n_layers, 2 * 9);
    assert_eq!(logits(&new), logits(&pruned));
}

#[test]
fn narrower_mlps_are_refitted_written_and_computed_as_measured() {
    let folder = tempfile::tempdir().unwrap();
    let source = model(folder.path());
    let (text, cx) = (tokens(), Compute::with_isa(2, Isa::best()));
    let split = Split::of(&text).unwrap();
    let narrowed = |n_threads: usize, dtype: Option<DType>| {
        let mut pruned = Pruned::new(&source);
        pruned.remove(&[3]).unwrap();
        let mut texts = Texts::new(&source, &split);
        let how = Share { share: 0.5, dtype, n_threads };
        let mut widths = Vec::new();
        let mut see = |event: Event| {
            if let Event::Width { width, .. } = event {
                widths.push(width);
            }
            ControlFlow::Continue(())
        };
        let kl = narrow_mlps(&cx, &mut pruned, how, None, &mut texts, &mut see).unwrap().unwrap();
        assert_eq!(widths, [64]);
        (pruned, kl)
    };
    let (pruned, kl) = narrowed(2, None);
    let new = written(&pruned, &folder.path().join("new.gguf"));
    let metadata = new.gguf().unwrap().metadata();
    assert_eq!(new.info().n_ff, 64);
    assert_eq!(metadata.get("llama.feed_forward_length"), Some(&Value::Array(Array::I32(vec![64; 3]))));
    assert_eq!(metadata.u32("lossy.prune.mlp_channels"), Ok(64));
    assert_eq!(logits(&new), logits(&pruned));
    assert_eq!(kl, divergence(&cx, &new, &source, &split.held_out).unwrap());
    for (layer, mlp) in pruned.mlps().unwrap().iter().enumerate() {
        for name in ["ffn_gate", "ffn_up"] {
            let [old, new] = [&source, &new].map(|model| {
                let tensor = model.tensor(&format!("blk.{layer}.{name}.weight")).unwrap();
                tensor
                    .bytes
                    .chunks(tensor.bytes.len() / tensor.shape[0])
                    .map(<[u8]>::to_vec)
                    .collect::<Vec<_>>()
            });
            assert!(mlp.keep.iter().zip(&new).all(|(&row, new)| old[row] == *new), "{name}");
        }
        let down = new.tensor(&format!("blk.{layer}.ffn_down.weight")).unwrap();
        assert_eq!(down.dtype, if layer == 1 { DType::F16 } else { DType::Q8_0 });
    }
    // The same channels, and a down matrix that makes up for nothing.
    let mut plain = lossy_compress::weights::Edited::new(&pruned);
    for (layer, mlp) in pruned.mlps().unwrap().iter().enumerate() {
        let name = format!("blk.{layer}.ffn_down.weight");
        let old = WeightSource::values(&source, &name).unwrap();
        let kept: Vec<f32> =
            old.chunks(128).flat_map(|row| mlp.keep.iter().map(|&channel| row[channel])).collect();
        plain.replace(&name, kept.into()).unwrap();
    }
    let without_refit = divergence(&cx, &plain, &source, &split.held_out).unwrap();
    assert!(kl < 0.9 * without_refit, "{kl}, without the refit {without_refit}");
    assert_eq!(narrowed(1, None).0.mlps(), pruned.mlps(), "threads change no byte");
    let other = narrowed(2, Some(DType::Q4_0)).0;
    assert!(
        other.mlps().unwrap().iter().all(|mlp| mlp.dtype == DType::Q4_0 && mlp.down.len() == 64 * 2 * 18)
    );
}

#[test]
fn a_loss_that_is_allowed_ends_it_before_it_is_exceeded() {
    let folder = tempfile::tempdir().unwrap();
    let source = model(folder.path());
    let (text, cx) = (tokens(), Compute::with_isa(2, Isa::best()));
    let split = Split::of(&text).unwrap();
    let mut texts = Texts::new(&source, &split);
    let mut see = |_| ControlFlow::Continue(());
    let mut free = Pruned::new(&source);
    let all = remove_layers(&cx, &mut free, 3, None, &mut texts, &mut see).unwrap();
    assert_eq!((all.len(), free.layers().len()), (3, 1));
    let measured = divergence(&cx, &free, &source, &split.held_out).unwrap();
    assert_eq!(measured, all[2].held_out);

    // Just enough for the first.
    let mut bounded = Pruned::new(&source);
    let max = all[0].held_out.max(all[1].held_out) * 0.999;
    let fits = all.iter().take_while(|removal| removal.held_out <= max).count();
    let found = remove_layers(&cx, &mut bounded, 3, Some(max), &mut texts, &mut see);
    match fits {
        0 => assert!(found.unwrap_err().to_string().contains("more than kl=")),
        _ => assert_eq!(found.unwrap(), all[..fits]),
    }
    let least = all[0].held_out * 0.5;
    let error =
        remove_layers(&cx, &mut Pruned::new(&source), 1, Some(least), &mut texts, &mut see).unwrap_err();
    assert!(error.to_string().contains(&format!("without layer {}", all[0].layer)), "{error}");

    let how = Share { share: 0.75, dtype: None, n_threads: 2 };
    let kls = |max: Option<f64>, texts: &mut Texts<'_>| {
        let (mut model, mut tried) = (Pruned::new(&source), Vec::new());
        let mut see = |event: Event| {
            if let Event::Width { width, kl } = event {
                tried.push((width, kl));
            }
            ControlFlow::Continue(())
        };
        let kl = narrow_mlps(&cx, &mut model, how, max, texts, &mut see);
        (kl, model.info().n_ff, tried)
    };
    let (kl, n_ff, _) = kls(None, &mut texts);
    let kl = kl.unwrap().unwrap();
    assert_eq!(n_ff, 32);
    let (bounded, n_ff, tried) = kls(Some(0.9 * kl), &mut texts);
    let bounded = bounded.unwrap().unwrap();
    assert!(n_ff > 32 && bounded <= 0.9 * kl, "{n_ff} {bounded} {tried:?}");
    assert_eq!(tried.iter().find(|(width, _)| *width == n_ff).unwrap().1, bounded);
    assert!(tried.iter().filter(|(_, kl)| *kl <= 0.9 * bounded).all(|(width, _)| *width >= n_ff));
    let (error, n_ff, _) = kls(Some(1e-12), &mut texts);
    assert!(matches!(error, Err(PruneError::Loss { .. })) && n_ff == 128);
}

#[test]
fn widths_are_what_blocks_allow_and_others_are_refused_with_those() {
    let folder = tempfile::tempdir().unwrap();
    let source = model(folder.path());
    let model = Pruned::new(&source);
    for (share, wanted) in [(0.0, 128), (0.2, 96), (0.3, 96), (0.5, 64), (0.8, 32)] {
        assert_eq!(width(&model, share, None).unwrap(), (wanted, 32), "{share}");
    }
    let error = width(&model, 0.05, None).unwrap_err().to_string();
    assert!(
        error.contains("122 of 128 MLP channels")
            && error.contains("multiple of 32")
            && error.contains("Q8_0"),
        "{error}"
    );
    // What the error says is possible is.
    let Err(PruneError::Width { least, most, .. }) = width(&model, 0.05, None) else { panic!("{error}") };
    assert_eq!(width(&model, least / 100.0, None).unwrap().0, 96);
    assert_eq!(width(&model, most / 100.0, None).unwrap().0, 32);
    let error = width(&model, 0.2, Some(DType::Q4K)).unwrap_err().to_string();
    assert!(error.contains("of 128 channels cannot be narrower") && error.contains("256"), "{error}");
}

#[test]
fn a_list_of_another_length_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let keys = vec![("llama.attention.head_count_kv".to_owned(), Value::from(vec![2i32, 2, 2]))];
    let changes = tiny_model::Changes { keys, ..Default::default() };
    let source =
        ModelSource::open(&tiny_model::write_changed(folder.path(), "listed.gguf", &changes)).unwrap();
    let mut model = Pruned::new(&source);
    model.remove(&[0]).unwrap();
    let error = Plan::new(&model, Provenance::default()).err().unwrap().to_string();
    assert!(error.contains("`llama.attention.head_count_kv` has 3 values"), "{error}");
}
