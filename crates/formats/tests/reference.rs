//! A file of ggml's own Python writer reads as it was written: see tools/make_gguf_fixture.py.

use lossy_formats::gguf::{Array, Gguf, Value};
use lossy_quant::{DType, dequantize};
use std::path::Path;

fn open() -> Gguf {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/gguf/reference.gguf");
    Gguf::open(Path::new(path)).unwrap()
}

#[test]
fn every_type_of_value_is_read() {
    let model = open();
    assert_eq!((model.version(), model.metadata().len()), (3, 19));
    let nested = Array::Array(vec![Array::I32(vec![1, 2]), Array::I32(vec![3])]);
    let expected = [
        ("general.architecture", Value::from("llama")),
        ("general.alignment", Value::U32(64)),
        ("value.u8", Value::U8(0x12)),
        ("value.i8", Value::I8(-0x12)),
        ("value.u16", Value::U16(0x1234)),
        ("value.i16", Value::I16(-0x1234)),
        ("value.u32", Value::U32(0x1234_5678)),
        ("value.i32", Value::I32(-0x1234_5678)),
        ("value.u64", Value::U64(0x1234_5678_9ABC_DEF0)),
        ("value.i64", Value::I64(-0x1234_5678_9ABC_DEF0)),
        ("value.f32", Value::F32(0.1)),
        ("value.f64", Value::F64(0.1)),
        ("value.bool", Value::Bool(true)),
        ("value.string", Value::from("Größe 日本 🦙")),
        ("array.strings", Value::from(vec!["", "Ġthe", "日", "<|im_end|>"])),
        ("array.i32", Value::from(vec![1i32, -2, 3])),
        ("array.f32", Value::from(vec![0.5f32, -0.25])),
        ("array.bool", Value::from(vec![true, false])),
        ("array.nested", Value::Array(nested)),
    ];
    for ((key, value), (expected_key, expected_value)) in model.metadata().iter().zip(&expected) {
        assert_eq!((key, value), (*expected_key, expected_value));
    }
}

#[test]
fn tensors_have_their_shapes_and_values() {
    let model = open();
    let names: Vec<_> = model.tensors().map(|tensor| tensor.name).collect();
    assert_eq!(names, ["singles", "halves", "grid.BF16", "grid.Q4_0", "grid.Q8_0", "cube"]);
    let types = [DType::F32, DType::F16, DType::BF16, DType::Q4_0, DType::Q8_0];
    // Half a step of each format for values up to 1.
    let bounds = [0.0, 1.0 / 4096.0, 1.0 / 512.0, 1.0 / 14.0, 1.0 / 250.0];
    for ((tensor, dtype), bound) in model.tensors().zip(types).zip(bounds) {
        assert_eq!((tensor.dtype, tensor.shape), (dtype, &[3, 64][..]), "{}", tensor.name);
        let mut values = [0.0; 192];
        dequantize(dtype, tensor.bytes, &mut values).unwrap();
        for (i, value) in values.iter().enumerate() {
            let expected = (i as f32 - 96.0) / 96.0;
            assert!((value - expected).abs() <= bound, "{}, value {i}: {value}, not {expected}", tensor.name);
        }
    }
    let cube = model.tensor("cube").unwrap();
    assert_eq!((cube.dtype, cube.shape), (DType::I16, &[2, 3, 4][..]));
    let counted: Vec<u8> = (0..24u16).flat_map(u16::to_le_bytes).collect();
    assert_eq!(cube.bytes, counted);
}
