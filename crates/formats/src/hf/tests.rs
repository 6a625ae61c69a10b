//! Right directories open; wrong ones are errors with the values.

use super::write::SafetensorsWriter;
use super::*;
use ::safetensors::SafeTensors;
use ::safetensors::tensor::{Dtype, TensorView as CrateView};
use lossy_quant::DType;
use proptest::prelude::*;

fn two_tensors() -> SafetensorsWriter {
    SafetensorsWriter::new()
        .raw_entry(r#""__metadata__":{"format":"pt"}"#)
        .tensor("model.norm.weight", "F32", &[2], &[1; 8])
        .tensor("lm_head.weight", "BF16", &[2, 3], &[2; 12])
}

fn message(file: &SafetensorsWriter) -> String {
    check_safetensors(&file.to_bytes()).unwrap_err().to_string()
}

/// A directory with these files.
fn directory(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        std::fs::write(directory.path().join(name), bytes).unwrap();
    }
    directory
}

/// A directory with a configuration, this index, and two shards, `one` with tensors a and b, `two` with c.
fn sharded(index: &str) -> tempfile::TempDir {
    let one = SafetensorsWriter::new().tensor("a", "F16", &[1], &[1, 1]).tensor("b", "I8", &[1], &[2]);
    let two = SafetensorsWriter::new().tensor("c", "I8", &[1], &[3]);
    directory(&[
        ("config.json", b"{}"),
        ("model.safetensors.index.json", index.as_bytes()),
        ("one.safetensors", &one.to_bytes()),
        ("two.safetensors", &two.to_bytes()),
    ])
}

fn open_error(directory: &tempfile::TempDir) -> String {
    let message = HfDir::open(directory.path()).unwrap_err().to_string();
    message.replace(&format!("{}/", directory.path().display()), "")
}

#[test]
fn a_directory_with_one_file_opens() {
    let directory = directory(&[
        ("config.json", br#"{"model_type":"llama"}"#),
        ("model.safetensors", &two_tensors().to_bytes()),
        ("tokenizer.json", b"{}"),
        ("tokenizer_config.json", br#"{"bos_token":"<s>"}"#),
        ("chat_template.jinja", b"{{ messages }}"),
        ("generation_config.json", br#"{"eos_token_id":[1,2]}"#),
    ]);
    let model = HfDir::open(directory.path()).unwrap();
    assert_eq!(model.config()["model_type"], "llama");
    assert_eq!(model.generation_config().unwrap()["eos_token_id"][1], 2);
    assert_eq!(model.tokenizer_config().unwrap()["bos_token"], "<s>");
    assert_eq!(model.tokenizer_json(), Some(directory.path().join("tokenizer.json")));
    assert_eq!(model.chat_template(), Some("{{ messages }}"));
    let head = model.tensor("lm_head.weight").unwrap();
    assert_eq!((head.dtype, head.shape, head.bytes), (DType::BF16, &[2, 3][..], &[2; 12][..]));
    assert_eq!(model.tensors().len(), 2);
    assert!(model.tensor("absent").is_none());
    model.release_pages();
    assert_eq!(model.tensor("model.norm.weight").unwrap().bytes, [1; 8]);
}

#[test]
fn what_is_not_there_is_none() {
    let directory = directory(&[("config.json", b"{}"), ("model.safetensors", &two_tensors().to_bytes())]);
    let model = HfDir::open(directory.path()).unwrap();
    assert!(model.tokenizer_json().is_none() && model.tokenizer_config().is_none());
    assert!(model.generation_config().is_none() && model.chat_template().is_none());
}

#[test]
fn shards_open_as_one() {
    let index =
        r#"{"metadata":{},"weight_map":{"a":"one.safetensors","c":"two.safetensors","b":"one.safetensors"}}"#;
    let model = HfDir::open(sharded(index).path()).unwrap();
    assert_eq!(model.tensors().map(|tensor| tensor.name).collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!(model.tensor("c").unwrap().bytes, [3]);
}

#[cfg(unix)]
#[test]
fn links_into_the_blobs_of_a_cache_are_followed() {
    let cache = tempfile::tempdir().unwrap();
    let snapshot = cache.path().join("snapshots/c0ffee");
    std::fs::create_dir_all(&snapshot).unwrap();
    std::fs::create_dir(cache.path().join("blobs")).unwrap();
    for (name, blob, bytes) in
        [("config.json", "1a", b"{}".to_vec()), ("model.safetensors", "2b", two_tensors().to_bytes())]
    {
        std::fs::write(cache.path().join("blobs").join(blob), bytes).unwrap();
        std::os::unix::fs::symlink(format!("../../blobs/{blob}"), snapshot.join(name)).unwrap();
    }
    assert_eq!(HfDir::open(&snapshot).unwrap().tensors().len(), 2);
}

#[test]
fn an_index_cannot_name_files_elsewhere() {
    for name in ["../one.safetensors", "/etc/passwd", "sub/one.safetensors", ".."] {
        let message = open_error(&sharded(&format!(r#"{{"weight_map":{{"a":"{name}"}}}}"#)));
        let expected = format!("tensor `a` is in `{name}`, which is not the plain name of a file");
        assert_eq!(message, format!("model.safetensors.index.json: {expected}"));
    }
}

#[test]
fn an_index_that_does_not_fit_its_shards_is_an_error() {
    let map = |map: &str| open_error(&sharded(&format!(r#"{{"weight_map":{{{map}}}}}"#)));
    assert_eq!(
        map(r#""c":"one.safetensors""#),
        "one.safetensors: tensor `c` is not here, where the index says it is"
    );
    assert!(map(r#""a":"three.safetensors""#).starts_with("three.safetensors: "));
    assert_eq!(
        map(r#""a":"one.safetensors","a":"two.safetensors""#),
        "model.safetensors.index.json: lists tensor `a` twice"
    );
    assert!(map(r#""a":1"#).starts_with("model.safetensors.index.json: invalid type"));
    assert!(open_error(&sharded("{}")).contains("missing field `weight_map`"));
    let twice = sharded(r#"{"weight_map":{"a":"one.safetensors","c":"two.safetensors"}}"#);
    let also = SafetensorsWriter::new().tensor("c", "I8", &[1], &[3]).tensor("a", "I8", &[1], &[4]);
    std::fs::write(twice.path().join("two.safetensors"), also.to_bytes()).unwrap();
    assert_eq!(open_error(&twice), "tensor `a` is in one.safetensors and in two.safetensors");
}

#[test]
fn a_directory_without_what_it_needs_says_what() {
    assert!(open_error(&directory(&[])).starts_with("config.json: "));
    assert!(open_error(&directory(&[("config.json", b"{")])).starts_with("config.json: EOF"));
    let message = open_error(&directory(&[("config.json", b"{}")]));
    assert!(message.ends_with("has neither model.safetensors nor model.safetensors.index.json"), "{message}");
    let bad = [("config.json", &b"{}"[..]), ("model.safetensors", b"{}")];
    assert_eq!(
        open_error(&directory(&bad)),
        "model.safetensors: the file has 2 bytes, which is too short for the length of a header"
    );
}

#[test]
fn a_file_cut_at_any_byte_is_an_error() {
    let bytes = two_tensors().to_bytes();
    check_safetensors(&bytes).unwrap();
    for len in 0..bytes.len() {
        check_safetensors(&bytes[..len]).unwrap_err();
    }
}

#[test]
fn headers_that_lie_about_their_length_are_refused() {
    let with_length = |length: u64| {
        let mut bytes = two_tensors().to_bytes();
        bytes[..8].copy_from_slice(&length.to_le_bytes());
        check_safetensors(&bytes).unwrap_err().to_string()
    };
    assert_eq!(with_length(u64::MAX), "the header has 18446744073709551615 bytes, but 100000000 is the most");
    assert!(with_length(100_000_000).starts_with("the header ends at byte 100000008, but the file has"));
    assert_eq!(with_length(0), "the header does not start with `{`");
}

#[test]
fn tensors_that_break_a_rule_are_named() {
    let one = |dtype, shape: &[usize], offsets| {
        message(&SafetensorsWriter::new().raw_tensor("x", dtype, shape, offsets).raw_data(&[0; 8]))
    };
    assert_eq!(one("F8_E4M3", &[8], (0, 8)), "tensor `x` has type `F8_E4M3`, which is not supported");
    assert_eq!(one("F32", &[0, 2], (0, 0)), "tensor `x` has a dimension of 0: [0, 2]");
    assert_eq!(
        one("F32", &[usize::MAX, 2], (0, 8)),
        "tensor `x` has shape [18446744073709551615, 2], whose product is too large"
    );
    let wrong = "tensor `x` has offsets 0 to 8, but its shape [3] (F32) takes 12 bytes";
    assert_eq!(one("F32", &[3], (0, 8)), wrong);
    assert!(one("F32", &[2], (8, 0)).starts_with("tensor `x` has offsets 8 to 0"));
    assert!(one("F32", &[2], (usize::MAX - 7, usize::MAX)).starts_with("tensor `x` has offsets"));
    assert_eq!(
        one("F32", &[2], (4, 12)),
        "tensor `x` starts at offset 4, but the tensors before it end at 0"
    );
    assert_eq!(one("F32", &[1], (0, 4)), "the tensors take 4 bytes, but 8 bytes of data follow the header");
    let twice = SafetensorsWriter::new().tensor("x", "I8", &[1], &[0]).tensor("x", "I8", &[1], &[0]);
    assert_eq!(message(&twice), "tensor `x` comes twice");
    let overlap =
        SafetensorsWriter::new().tensor("x", "I8", &[8], &[0; 8]).raw_tensor("y", "I8", &[4], (4, 8));
    assert_eq!(message(&overlap), "tensor `y` starts at offset 4, but the tensors before it end at 8");
    let escape = SafetensorsWriter::new().tensor("a\u{1b}[2J", "I8", &[1], &[0]);
    assert_eq!(message(&escape), "the name of tensor 0 contains control characters");
    let negative =
        SafetensorsWriter::new().raw_entry(r#""x":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}"#);
    assert!(message(&negative).contains("invalid value: integer `-1`"));
    let deep = format!(r#""x":{}"#, "[".repeat(100_000));
    assert!(message(&SafetensorsWriter::new().raw_entry(&deep)).contains("invalid type: sequence"));
    let deep = format!(r#""x":{{"more":{}"#, "[".repeat(100_000));
    assert!(message(&SafetensorsWriter::new().raw_entry(&deep)).contains("is not what it should be"));
    let metadata = SafetensorsWriter::new().raw_entry(r#""__metadata__":{"a":1}"#);
    assert!(message(&metadata).contains("invalid type: integer `1`"));
}

#[test]
fn files_of_the_safetensors_crate_read_as_they_were_written() {
    let values = [0u8, 60, 0, 188, 0, 64];
    let half = CrateView::new(Dtype::F16, vec![3, 1], &values).unwrap();
    let single = CrateView::new(Dtype::F32, vec![], &[0, 0, 128, 63]).unwrap();
    let bytes = ::safetensors::serialize([("half", half), ("single", single)], None).unwrap();
    let directory = directory(&[("config.json", b"{}"), ("model.safetensors", &bytes)]);
    let model = HfDir::open(directory.path()).unwrap();
    let half = model.tensor("half").unwrap();
    assert_eq!((half.dtype, half.shape, half.bytes), (DType::F16, &[3, 1][..], &values[..]));
    assert_eq!(model.tensor("single").unwrap().n_values(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 5 } else { 2_000 }))]

    #[test]
    fn what_opens_after_changes_opens_in_the_safetensors_crate_too(
        changes in prop::collection::vec((any::<prop::sample::Index>(), prop_oneof![any::<u8>(), b'0'..=b'9']), 0..6),
        cut in 0usize..3,
    ) {
        let mut bytes = two_tensors().to_bytes();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        bytes.truncate(bytes.len() - cut);
        if let Ok(tensors) = super::safetensors::parse(&bytes) {
            let theirs = SafeTensors::deserialize(&bytes);
            prop_assert!(theirs.is_ok(), "{theirs:?}");
            prop_assert_eq!(theirs.unwrap().len(), tensors.len());
            for tensor in tensors {
                prop_assert_eq!(bytes[tensor.range].len() % tensor.dtype.block_bytes(), 0);
            }
        }
    }

    #[test]
    fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let _ = check_safetensors(&bytes);
        let _ = check_safetensors(&[&(bytes.len() as u64).to_le_bytes()[..], &bytes].concat());
    }
}
