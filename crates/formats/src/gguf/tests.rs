//! Right files come back as they were written; wrong ones are errors with the values.

use super::write::GgufWriter;
use super::*;
use lossy_quant::DType;
use proptest::prelude::*;

/// Every so many bytes a file is changed or cut; under Miri, which is slow, more seldom.
const STEP: usize = if cfg!(miri) { 97 } else { 1 };

/// Every type of value, arrays of all of them, nested arrays, and tensors of several types.
fn rich() -> GgufWriter {
    let nested =
        Array::Array(vec![Array::U8(vec![1, 2]), Array::Array(vec![Array::String(["x"].iter().collect())])]);
    GgufWriter::new()
        .set("general.architecture", "llama")
        .set("u8", 1u8)
        .set("i8", -1i8)
        .set("u16", 2u16)
        .set("i16", -2i16)
        .set("u32", 3u32)
        .set("i32", -3i32)
        .set("f32", 0.5f32)
        .set("bool", true)
        .set("u64", u64::MAX)
        .set("i64", i64::MIN)
        .set("f64", 0.25f64)
        .set("strings", vec!["", "ß", "日本", "<|im_start|>"])
        .set("i32s", vec![1i32, -1])
        .set("f32s", vec![1.5f32, -0.5])
        .set("bools", vec![true, false])
        .set("u64s", vec![u64::MAX])
        .set("empty", Vec::<u16>::new())
        .set("nested", Value::Array(nested))
        .tensor("blk.0.norm", DType::F32, &[4], &[7; 16])
        .tensor("blk.0.weight", DType::Q4_0, &[3, 64], &[9; 108])
        .tensor("scalar", DType::I32, &[], &[1, 0, 0, 0])
        .tensor("cube", DType::F16, &[2, 3, 4], &[5; 48])
}

fn error(bytes: impl Into<Vec<u8>>) -> GgufError {
    match Gguf::from_bytes(bytes) {
        Ok(model) => panic!("taken for a good file: {model:?}"),
        Err(error) => error,
    }
}

fn message(writer: &GgufWriter) -> String {
    error(writer.to_bytes()).to_string()
}

/// A file with one tensor of four singles described by `ne`, `ggml_type` and `offset`.
fn one_tensor(ggml_type: u32, ne: &[u64], offset: u64) -> GgufWriter {
    GgufWriter::new().raw_tensor("x", ggml_type, ne, offset).raw_data(&[0; 16])
}

#[test]
fn a_file_comes_back_as_it_was_written() {
    let model = Gguf::from_bytes(rich().to_bytes()).unwrap();
    let metadata = model.metadata();
    assert_eq!(metadata.len(), 19);
    assert_eq!(metadata.str("general.architecture"), Ok("llama"));
    assert_eq!(metadata.get("u8"), Some(&Value::U8(1)));
    assert_eq!(metadata.get("i8"), Some(&Value::I8(-1)));
    assert_eq!(metadata.get("u16"), Some(&Value::U16(2)));
    assert_eq!(metadata.get("i16"), Some(&Value::I16(-2)));
    assert_eq!(metadata.get("u32"), Some(&Value::U32(3)));
    assert_eq!(metadata.get("i32"), Some(&Value::I32(-3)));
    assert_eq!(metadata.get("u64"), Some(&Value::U64(u64::MAX)));
    assert_eq!(metadata.get("i64"), Some(&Value::I64(i64::MIN)));
    assert_eq!(metadata.f32("f32"), Ok(0.5));
    assert_eq!(metadata.f32("f64"), Ok(0.25));
    assert_eq!(metadata.bool("bool"), Ok(true));
    let strings: Vec<_> = metadata.strings("strings").unwrap().iter().collect();
    assert_eq!(strings, ["", "ß", "日本", "<|im_start|>"]);
    assert_eq!(metadata.i64s("i32s"), Ok(vec![1, -1]));
    assert_eq!(*metadata.f32s("f32s").unwrap(), [1.5, -0.5]);
    assert_eq!(metadata.array("bools"), Ok(&Array::Bool(vec![true, false])));
    assert_eq!(metadata.array("empty").unwrap().len(), 0);
    assert_eq!(metadata.array("nested").unwrap().element_type(), ValueType::Array);

    let names: Vec<_> = model.tensors().map(|tensor| tensor.name).collect();
    assert_eq!(names, ["blk.0.norm", "blk.0.weight", "scalar", "cube"]);
    let weight = model.tensor("blk.0.weight").unwrap();
    assert_eq!((weight.dtype, weight.shape, weight.bytes), (DType::Q4_0, &[3, 64][..], &[9; 108][..]));
    assert_eq!(weight.n_values(), 192);
    let scalar = model.tensor("scalar").unwrap();
    assert_eq!((scalar.shape, scalar.n_values()), (&[][..], 1));
    assert_eq!(model.tensor("cube").unwrap().shape, [2, 3, 4]);
    assert!(model.tensor("absent").is_none());
    assert_eq!(model.version(), 3);
}

#[test]
fn version_2_is_read_and_others_are_not() {
    assert_eq!(Gguf::from_bytes(rich().version(2).to_bytes()).unwrap().version(), 2);
    assert!(message(&rich().version(1)).starts_with("GGUF version 1 is not supported"));
    assert!(message(&rich().version(4)).starts_with("GGUF version 4 is not supported"));
    assert!(message(&rich().version(3u32.swap_bytes())).starts_with("the file is big-endian"));
}

#[test]
fn other_files_are_recognized_as_such() {
    assert_eq!(
        error(*b"PK\x03\x04").to_string(),
        r"not a GGUF file: it starts with `PK\x03\x04`, not with `GGUF`"
    );
    assert_eq!(error([]).to_string(), "the magic `GGUF` at byte 0 takes 4 bytes, but the file has 0");
}

#[test]
fn a_file_cut_at_any_byte_is_an_error() {
    let bytes = rich().to_bytes();
    for len in (0..bytes.len()).step_by(STEP) {
        error(&bytes[..len]);
    }
    Gguf::from_bytes(bytes).unwrap();
}

#[test]
fn a_header_with_any_byte_changed_never_panics() {
    let (header, bytes) = (rich().header_bytes(), rich().to_bytes());
    for at in (0..header.len()).step_by(STEP) {
        for value in [0, 1, 0x0A, 0x7F, 0x80, 0xFF, bytes[at] ^ 1, bytes[at] ^ 0x40] {
            let mut changed = bytes.clone();
            changed[at] = value;
            let _ = Gguf::from_bytes(changed)
                .map(|model| model.tensors().map(|tensor| tensor.n_values()).sum::<usize>());
        }
    }
}

#[test]
fn huge_counts_are_refused_before_anything_is_allocated() {
    let mut bytes = GgufWriter::new().to_bytes();
    bytes[16..24].copy_from_slice(&(1u64 << 60).to_le_bytes());
    assert_eq!(
        error(bytes).to_string(),
        "1152921504606846976 keys take 16140901064495857664 bytes at the least, but only 8 follow byte 24"
    );
    let mut bytes = GgufWriter::new().to_bytes();
    bytes[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(matches!(error(bytes), GgufError::Count { what: "tensors", count: u64::MAX, .. }));

    let mut bytes = GgufWriter::new().set("k", vec![1u64]).to_bytes();
    let count_at = 24 + 8 + 1 + 4 + 4;
    bytes[count_at..count_at + 8].copy_from_slice(&(1u64 << 61).to_le_bytes());
    assert_eq!(
        error(bytes).to_string(),
        "key `k` is an array of 2305843009213693952 × u64, but only 15 bytes follow byte 49"
    );
}

#[test]
fn a_string_longer_than_the_file_is_refused() {
    let mut bytes = GgufWriter::new().set("k", "value").to_bytes();
    bytes[24..32].copy_from_slice(&u64::MAX.to_le_bytes());
    assert_eq!(
        error(bytes).to_string(),
        "a key at byte 32 takes 18446744073709551615 bytes, but the file has 64"
    );
}

#[test]
fn names_that_could_not_be_printed_are_refused() {
    let long = "k".repeat(65_536);
    assert_eq!(message(&GgufWriter::new().set("", 1u8).set("k", 1u8)), "a key at byte 32 is empty");
    assert_eq!(
        message(&GgufWriter::new().set("a\u{1b}[2J", 1u8)),
        "a key at byte 32 contains control characters"
    );
    assert!(message(&GgufWriter::new().set(&long, 1u8)).contains("65536 bytes"));
    let tensor = GgufWriter::new().tensor("a\nb", DType::I8, &[1], &[0]);
    assert_eq!(message(&tensor), "a tensor name at byte 32 contains control characters");
    let mut bytes = GgufWriter::new().set("k", 1u8).to_bytes();
    bytes[32] = 0xFF;
    assert_eq!(error(bytes).to_string(), "a key at byte 32 is not UTF-8");
}

#[test]
fn what_comes_twice_is_refused() {
    assert_eq!(message(&GgufWriter::new().set("k", 1u8).set("j", 2u8).set("k", 1u8)), "key `k` comes twice");
    let twice = GgufWriter::new().tensor("t", DType::I8, &[1], &[0]).tensor("t", DType::I8, &[1], &[0]);
    assert_eq!(message(&twice), "tensor `t` comes twice");
}

#[test]
fn values_that_gguf_does_not_have_are_refused() {
    let value_at = 24 + 8 + 1 + 4;
    let mut bytes = GgufWriter::new().set("k", true).to_bytes();
    bytes[value_at] = 2;
    assert_eq!(error(bytes).to_string(), "key `k` is a bool with byte 2, which is neither 0 nor 1");
    let mut bytes = GgufWriter::new().set("k", 1u8).to_bytes();
    bytes[value_at - 4] = 13;
    assert_eq!(error(bytes).to_string(), "key `k` has type 13, which GGUF does not know");
    let mut bytes = GgufWriter::new().set("k", "aé").to_bytes();
    bytes[value_at + 8 + 1] = b'b';
    assert_eq!(error(bytes).to_string(), "the value of key `k` is not UTF-8");
    let mut bytes = GgufWriter::new().set("k", vec!["a", "é"]).to_bytes();
    let strings_at = value_at + 12;
    bytes[strings_at + 8 + 1 + 8 + 1] = b'b';
    assert_eq!(error(bytes).to_string(), "string 1 of key `k` is not UTF-8");
}

#[test]
fn arrays_nest_four_deep_and_no_deeper() {
    let nested = |depth| {
        let array = (1..depth).fold(Array::U8(vec![1]), |inner, _| Array::Array(vec![inner]));
        GgufWriter::new().set("k", Value::Array(array)).to_bytes()
    };
    Gguf::from_bytes(nested(4)).unwrap();
    assert_eq!(error(nested(5)).to_string(), "key `k` nests arrays more than 4 deep");
    assert_eq!(error(nested(100)).to_string(), "key `k` nests arrays more than 4 deep");
}

#[test]
fn the_alignment_is_a_power_of_two_and_is_kept() {
    for alignment in [1u32, 8, 4096] {
        let writer = GgufWriter::new().set("general.alignment", alignment);
        let writer = writer.tensor("a", DType::I8, &[3], &[1, 2, 3]).tensor("b", DType::I8, &[1], &[4]);
        let model = Gguf::from_bytes(writer.to_bytes()).unwrap();
        assert_eq!(model.tensor("b").unwrap().bytes, [4]);
    }
    for (alignment, text) in [
        (Value::U32(0), "general.alignment is 0, which is not a power of two"),
        (Value::U32(48), "general.alignment is 48, which is not a power of two"),
        (Value::I32(-32), "key `general.alignment` is -32, which is not an integer of 32 bits without sign"),
        (
            Value::from("32"),
            "key `general.alignment` should be an integer of 32 bits without sign, but is of type string",
        ),
    ] {
        let writer = GgufWriter::new().set("general.alignment", alignment);
        assert_eq!(error(writer.header_bytes()).to_string(), text);
    }
    let far = GgufWriter::new().set("general.alignment", 1u32 << 31).raw_tensor("x", 24, &[1], 0);
    assert!(
        error(far.header_bytes())
            .to_string()
            .starts_with("tensor `x` ends at byte 2147483649, but the file has")
    );
}

#[test]
fn shapes_that_cannot_be_are_refused() {
    assert_eq!(message(&one_tensor(0, &[4, 0], 0)), "tensor `x` has a dimension of 0: [4, 0]");
    assert_eq!(message(&one_tensor(0, &[1; 5], 0)), "tensor `x` has 5 dimensions, but 4 is the most");
    assert_eq!(
        message(&one_tensor(0, &[1 << 32, 1 << 32], 0)),
        "tensor `x` has dimensions [4294967296, 4294967296], whose product is too large"
    );
    assert!(message(&one_tensor(0, &[1 << 62, 1], 0)).ends_with("whose product is too large"));
    assert!(message(&one_tensor(0, &[u64::MAX, u64::MAX, u64::MAX, u64::MAX], 0)).ends_with("is too large"));
    assert_eq!(
        message(&one_tensor(2, &[33], 0)),
        "tensor `x` has rows of 33 values, which are not whole blocks of 32 (Q4_0)"
    );
    assert_eq!(
        message(&one_tensor(2, &[16, 2], 0)),
        "tensor `x` has rows of 16 values, which are not whole blocks of 32 (Q4_0)"
    );
    assert_eq!(
        message(&one_tensor(4, &[32], 0)),
        "tensor `x` has type 4, which ggml does not have (or no longer)"
    );
}

#[test]
fn tensors_outside_the_file_are_refused() {
    let file_bytes = one_tensor(0, &[4], 0).to_bytes().len();
    Gguf::from_bytes(one_tensor(0, &[4], 0).to_bytes()).unwrap();
    assert_eq!(
        message(&one_tensor(0, &[5], 0)),
        format!("tensor `x` ends at byte {}, but the file has {file_bytes}", file_bytes + 4)
    );
    assert_eq!(
        message(&one_tensor(0, &[4], 4)),
        "tensor `x` starts at offset 4, which is not a multiple of the alignment 32"
    );
    let last = u64::MAX - 31;
    assert_eq!(
        message(&one_tensor(0, &[4], last)),
        format!(
            "tensor `x` ends at byte {}, but the file has {file_bytes}",
            file_bytes as u128 + u128::from(last)
        )
    );
}

#[test]
fn tensors_that_share_bytes_are_refused() {
    let writer = GgufWriter::new().raw_tensor("later", 24, &[40], 32).raw_tensor("first", 24, &[33], 0);
    let writer = writer.raw_data(&[0; 72]);
    let data = writer.to_bytes().len() - 72;
    assert_eq!(
        message(&writer),
        format!(
            "tensor `later` starts at byte {}, but tensor `first` before it ends at byte {}",
            data + 32,
            data + 33
        )
    );
}

#[test]
fn a_file_without_tensors_needs_no_padding() {
    let model = Gguf::from_bytes(GgufWriter::new().set("k", 1u8).header_bytes()).unwrap();
    assert_eq!((model.tensors().len(), model.metadata().len()), (0, 1));
}

fn part(no: u16, count: u16, n_tensors: i32) -> GgufWriter {
    let writer = GgufWriter::new().set("split.no", no).set("split.count", count);
    let writer = writer.set("split.tensors.count", n_tensors);
    let writer = if no == 0 { writer.set("general.name", "whole") } else { writer };
    writer.tensor(&format!("t{no}"), DType::I8, &[2], &[no as u8, 0])
}

fn write_parts(directory: &Path, parts: &[GgufWriter]) -> Vec<std::path::PathBuf> {
    let name = |no| format!("m-{no:05}-of-{:05}.gguf", parts.len());
    let paths: Vec<_> = (1..=parts.len()).map(|no| directory.join(name(no))).collect();
    for (path, part) in paths.iter().zip(parts) {
        std::fs::write(path, part.to_bytes()).unwrap();
    }
    paths
}

#[test]
fn a_split_model_opens_by_any_of_its_parts() {
    let directory = tempfile::tempdir().unwrap();
    for path in write_parts(directory.path(), &[part(0, 3, 3), part(1, 3, 3), part(2, 3, 3)]) {
        let model = Gguf::open(&path).unwrap();
        assert_eq!(model.metadata().str("general.name"), Ok("whole"));
        assert_eq!(model.tensors().map(|tensor| tensor.bytes[0]).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(model.n_parts(), 3);
        model.release_pages();
        assert_eq!(model.tensor("t2").unwrap().bytes, [2, 0]);
    }
}

#[test]
fn a_split_model_with_something_wrong_names_the_file_and_what() {
    let directory = tempfile::tempdir().unwrap();
    let open = |parts: &[GgufWriter]| {
        let paths = write_parts(directory.path(), parts);
        (Gguf::open(&paths[0]).unwrap_err().to_string(), paths)
    };
    let (message, _) = open(&[part(0, 2, 3), part(1, 2, 3)]);
    assert!(message.ends_with("the parts have 2 tensors, but split.tensors.count is 3"), "{message}");
    let (message, paths) = open(&[part(0, 2, 2), part(0, 2, 2)]);
    assert_eq!(
        message,
        format!("{}: the file says that it is part 1 of 2, but its name says 2 of 2", paths[1].display())
    );
    let (message, paths) = open(&[part(0, 2, 2), rich()]);
    assert_eq!(
        message,
        format!("{}: the file says that it is part 1 of 1, but its name says 2 of 2", paths[1].display())
    );
    let same_tensor = part(1, 2, 2).raw_tensor("t0", 24, &[1], 32).raw_data(&[0; 64]);
    let (message, _) = open(&[part(0, 2, 2), same_tensor]);
    assert!(message.ends_with("tensor `t0` comes twice"), "{message}");
    let (message, _) = open(&[part(2, 2, 2), part(1, 2, 2)]);
    assert!(message.ends_with("key `split.no` is 2, which is not below split.count"), "{message}");

    let paths = write_parts(directory.path(), &[part(0, 2, 2), part(1, 2, 2)]);
    std::fs::remove_file(&paths[1]).unwrap();
    let message = Gguf::open(&paths[0]).unwrap_err().to_string();
    assert!(message.starts_with(&paths[1].display().to_string()), "{message}");
    let blob = directory.path().join("d1a2b3");
    std::fs::write(&blob, part(1, 2, 2).to_bytes()).unwrap();
    let message = Gguf::open(&blob).unwrap_err().to_string();
    assert!(message.contains("the file is part 2 of 2, but is not named …-00002-of-00002.gguf"), "{message}");
}

#[test]
fn files_that_cannot_be_opened_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let absent = directory.path().join("absent.gguf");
    let message = Gguf::open(&absent).unwrap_err().to_string();
    assert!(message.starts_with(&format!("{}: ", absent.display())), "{message}");
    assert!(Gguf::open(directory.path()).is_err());
    let empty = directory.path().join("empty.gguf");
    std::fs::write(&empty, []).unwrap();
    assert!(Gguf::open(&empty).unwrap_err().to_string().contains("the file has 0"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 5 } else { 2_000 }))]

    #[test]
    fn changed_cut_and_spliced_files_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        (from, to, at) in any::<(prop::sample::Index, prop::sample::Index, prop::sample::Index)>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = rich().to_bytes();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let (from, to) = (from.index(bytes.len()), to.index(bytes.len()));
        let piece = bytes[from.min(to)..from.max(to)].to_vec();
        bytes.splice(at.index(bytes.len())..at.index(bytes.len()), piece);
        bytes.truncate(bytes.len() - cut.index(bytes.len()) / 4);
        if let Ok(model) = Gguf::from_bytes(bytes) {
            for tensor in model.tensors() {
                prop_assert_eq!(Some(tensor.bytes.len()), tensor.dtype.bytes_for(tensor.shape.iter().product()));
            }
        }
    }

    #[test]
    fn any_bytes_after_a_good_start_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Gguf::from_bytes([&b"GGUF\x03\0\0\0"[..], &bytes].concat());
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 200 }))]

    #[test]
    fn any_metadata_and_tensors_survive_the_round_trip(
        values in prop::collection::btree_map("[a-z.]{1,12}", value(), 0..12),
        tensors in prop::collection::btree_map("[a-z.]{1,12}", (0usize..DType::ALL.len(), 1usize..4, 1usize..4), 0..6),
    ) {
        let writer = values.iter().fold(GgufWriter::new(), |writer, (key, value)| writer.set(key, value.clone()));
        let writer = tensors.iter().fold(writer, |writer, (name, &(dtype, n_rows, n_blocks))| {
            let dtype = DType::ALL[dtype];
            let n_cols = n_blocks * dtype.block_len();
            writer.tensor(name, dtype, &[n_rows, n_cols], &vec![n_rows as u8; n_rows * n_blocks * dtype.block_bytes()])
        });
        let model = Gguf::from_bytes(writer.to_bytes()).unwrap();
        prop_assert_eq!(model.metadata().len(), values.len());
        for (key, value) in &values {
            prop_assert_eq!(model.metadata().get(key), Some(value));
        }
        for (name, &(dtype, n_rows, n_blocks)) in &tensors {
            let tensor = model.tensor(name).unwrap();
            prop_assert_eq!(tensor.dtype, DType::ALL[dtype]);
            prop_assert_eq!(tensor.shape, [n_rows, n_blocks * tensor.dtype.block_len()]);
            prop_assert!(tensor.bytes.iter().all(|&byte| byte == n_rows as u8));
        }
    }
}

/// Values that equal themselves (no NaN).
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<u8>().prop_map(Value::U8),
        any::<i16>().prop_map(Value::I16),
        any::<u32>().prop_map(Value::U32),
        any::<i64>().prop_map(Value::I64),
        any::<bool>().prop_map(Value::Bool),
        (-1e9f32..1e9).prop_map(Value::F32),
        ".*".prop_map(Value::String),
        prop::collection::vec(any::<i32>(), 0..5).prop_map(Value::from),
    ];
    let strings = prop::collection::vec(".{0,4}", 0..5)
        .prop_map(|strings| Value::Array(Array::String(strings.into_iter().collect())));
    prop_oneof![leaf, strings]
}
