//! Prices of types, against what the types lose and against the file that is written of them.

mod common;

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use lossy_compress::kept::{JobKey, Kept};
use lossy_compress::plan::{Limit, assign, frontier};
use lossy_compress::prices::{Priced, Pricing, TensorPrices, part, priced_matrices, types_of};
use lossy_compress::quantize::{How, Options, Plan};
use lossy_compress::recipe::{Changes, Recipe};
use lossy_compress::statistics::MomentsByName;
use lossy_compress::weights::{Edited, WeightSource};
use lossy_engine::ModelSource;
use lossy_quant::DType;
use lossy_testkit::tiny_model;

use common::measured;

fn tokens() -> Vec<u32> {
    (0..16 * 512).map(|i: u32| (i * i * 7 + i * 13 + i / 31) % 80).collect()
}

fn source(folder: &std::path::Path) -> ModelSource {
    ModelSource::open(&tiny_model::write_wide(folder)).unwrap()
}

fn kept(folder: &std::path::Path, name: &str) -> Kept {
    let key = JobKey { model: "m".into(), text: "t".into(), program: "p".into() };
    Kept::open(&folder.join(name), &key, true).unwrap().0
}

fn priced(source: &ModelSource, kept: &Kept, n_threads: usize) -> Priced {
    let tokens = tokens();
    let text = part(&tokens).unwrap();
    Pricing::new(source, &text, kept, n_threads).run(&mut |_, _| ControlFlow::Continue(())).unwrap()
}

fn price(all: &[TensorPrices], name: &str, dtype: DType) -> f64 {
    let tensor = all.iter().find(|tensor| tensor.name == name).unwrap();
    tensor.types.iter().find(|price| price.dtype == dtype).unwrap().by_token
}

#[test]
fn a_text_is_parted_without_overlap() {
    let tokens: Vec<u32> = (0..40 * 512 + 7).collect();
    let parted = part(&tokens).unwrap();
    assert_eq!((parted.statistics.len(), parted.prices.len()), (37, 6));
    let mut all: Vec<u32> = parted.statistics.concat();
    all.extend(parted.prices.concat());
    all.sort_unstable();
    assert_eq!(all, tokens[..40 * 512]);
    let short = part(&tokens[..2048]).unwrap();
    assert_eq!((short.statistics.len(), short.prices.len()), (3, 2));
    assert!(part(&tokens[..2047]).unwrap_err().to_string().contains("at least 2048"));
}

#[test]
fn types_have_fewer_bits_than_a_tensors_own_and_fit_its_rows() {
    assert_eq!(types_of(DType::Q4_1, 64), [DType::Q4_0, DType::IQ4NL, DType::Q4_1]);
    assert_eq!(types_of(DType::Q4K, 512), [DType::Q2K, DType::Q3K, DType::IQ4XS, DType::Q4K]);
    assert_eq!(types_of(DType::F16, 36), [DType::F16]);
    assert_eq!(types_of(DType::F32, 64).last(), Some(&DType::F32));
}

/// What the output matrix loses is computed, not predicted. A matrix of a layer loses what was predicted, about.
#[test]
fn a_type_loses_what_it_was_priced_at() {
    let folder = tempfile::tempdir().unwrap();
    let source = source(folder.path());
    let kept = kept(folder.path(), "kept");
    let found = priced(&source, &kept, 2);
    let tokens = tokens();
    let windows = part(&tokens).unwrap().prices;
    let all = &found.prices.tensors;
    assert_eq!(all.len(), 7 * source.info().n_layers + 2);

    // The output matrix as a file has it.
    let options = options();
    let types = BTreeMap::from([("output.weight".to_owned(), DType::Q4_0)]);
    let plan = Plan::with_types(source.gguf().unwrap(), &options, &types).unwrap();
    let out = folder.path().join("output.gguf");
    write(&plan, &out, &source, &found, None);
    let new = ModelSource::open(&out).unwrap();
    let kl = measured(&source, &new, &windows);
    let said = price(all, "output.weight", DType::Q4_0);
    assert!((said / kl - 1.0).abs() < 1e-2, "priced {said:.4e}, measured {kl:.4e}");

    // All matrices of layers, the embedding too, one at a time: off by little together.
    let (mut predicted, mut lost) = (0.0, 0.0);
    for tensor in all.iter().filter(|tensor| tensor.name != "output.weight") {
        let types = BTreeMap::from([(tensor.name.clone(), DType::Q5_0)]);
        let plan = Plan::with_types(source.gguf().unwrap(), &options, &types).unwrap();
        write(&plan, &out, &source, &found, None);
        let values = ModelSource::open(&out).unwrap().values(&tensor.name).unwrap();
        let mut edited = Edited::new(&source);
        edited.replace(&tensor.name, values.into()).unwrap();
        let (said, kl) = (price(all, &tensor.name, DType::Q5_0), measured(&source, &edited, &windows));
        assert!((said / kl).ln().abs() < 0.6, "{}: priced {said:.3e}, measured {kl:.3e}", tensor.name);
        predicted += said;
        lost += kl;
    }
    assert!((predicted / lost - 1.0).abs() < 0.2, "priced {predicted:.3e}, measured {lost:.3e}");
}

fn options() -> Options {
    Options {
        recipe: Recipe::named("q4_0").unwrap(),
        changes: Changes::default(),
        keeps_split: false,
        provenance: None,
        has_feedback: true,
        program: "test".to_owned(),
    }
}

/// Writes a file; with pieces if there are any, else everything is computed again.
fn write(plan: &Plan<'_>, out: &std::path::Path, source: &ModelSource, found: &Priced, kept: Option<&Kept>) {
    let tokens = tokens();
    let text = part(&tokens).unwrap();
    let mut by_name = MomentsByName::new(source, &text.statistics, 2).unwrap();
    let mut moments = |name: &str| match name {
        "output.weight" => Ok(Some(found.head_moments.clone())),
        _ => by_name.of(name),
    };
    let mut how = How {
        imatrix: None,
        moments: Some(&mut moments),
        n_threads: 2,
        progress: &mut |_, _| ControlFlow::Continue(()),
    };
    match kept {
        Some(kept) => plan.write_kept(out, &mut how, kept).unwrap(),
        None => plan.write(out, &mut how).unwrap(),
    };
}

#[test]
fn a_file_of_pieces_is_the_file_that_is_computed_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let source = source(folder.path());
    let kept = kept(folder.path(), "kept");
    let found = priced(&source, &kept, 2);
    let bytes = |name: &str, dtype: DType| {
        (source.tensor(name).unwrap().n_values() / dtype.block_len() * dtype.block_bytes()) as u64
    };
    let items = found.prices.items(bytes);
    let (least, most) = (frontier(&items)[0].0, frontier(&items).last().unwrap().0);
    let assignment = assign(&items, Limit::Bytes(least + (most - least) / 32)).unwrap();
    let types: BTreeMap<String, DType> =
        items.iter().zip(&assignment.picks).map(|(item, pick)| (item.name.clone(), pick.dtype)).collect();
    let distinct: std::collections::BTreeSet<DType> = types.values().copied().collect();
    assert!(distinct.len() >= 3, "{distinct:?}");
    let plan = Plan::with_types(source.gguf().unwrap(), &options(), &types).unwrap();
    let paths = ["pieces.gguf", "once.gguf"].map(|name| folder.path().join(name));
    write(&plan, &paths[0], &source, &found, Some(&kept));
    write(&plan, &paths[1], &source, &found, None);
    let [pieces, once] = paths.map(|path| std::fs::read(path).unwrap());
    assert!(pieces == once);
    assert_eq!(priced_matrices(&source).unwrap().len(), found.prices.tensors.len());
}

#[test]
fn prices_are_the_same_at_any_number_of_threads_and_when_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let source = source(folder.path());
    let whole = priced(&source, &kept(folder.path(), "two"), 2).prices.tensors;
    assert_eq!(whole, priced(&source, &kept(folder.path(), "three"), 3).prices.tensors);
    // A run that ended in the third layer.
    let part_of = kept(folder.path(), "part");
    let tokens = tokens();
    let text = part(&tokens).unwrap();
    let stopped = Pricing::new(&source, &text, &part_of, 2)
        .run(&mut |n_done, _| if n_done == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) });
    assert!(
        stopped.is_err() && part_of.get("prices.1.json").is_some() && part_of.get("prices.2.json").is_none()
    );
    assert_eq!(whole, priced(&source, &part_of, 2).prices.tensors);
}
