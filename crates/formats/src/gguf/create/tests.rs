use super::super::Gguf;
use super::*;
use proptest::prelude::*;

fn entries() -> Vec<(String, Value)> {
    let values: [(&str, Value); 16] = [
        ("u8", 7u8.into()),
        ("i8", (-7i8).into()),
        ("u16", 700u16.into()),
        ("i16", (-700i16).into()),
        ("u32", 70_000u32.into()),
        ("i32", (-70_000i32).into()),
        ("u64", u64::MAX.into()),
        ("i64", i64::MIN.into()),
        ("f32", 0.5f32.into()),
        ("f64", 1e300f64.into()),
        ("yes", true.into()),
        ("text", "ßx\n".into()),
        ("words", vec!["a", "", "€"].into()),
        ("numbers", vec![1.5f32, -0.0].into()),
        ("none", Vec::<u32>::new().into()),
        ("nested", Value::Array(Array::Array(vec![Array::U8(vec![1]), Array::Bool(vec![true, false])]))),
    ];
    values.map(|(key, value)| (key.to_owned(), value)).to_vec()
}

fn tensor(name: &str, dtype: DType, shape: &[usize]) -> NewTensor {
    NewTensor { name: name.to_owned(), dtype, shape: shape.to_vec() }
}

fn bytes_of(tensor: &NewTensor) -> Vec<u8> {
    (0..tensor.bytes().unwrap()).map(|i| (i * 7 + tensor.name.len()) as u8).collect()
}

fn three() -> Vec<NewTensor> {
    vec![
        tensor("a.weight", DType::Q4_0, &[3, 64]),
        tensor("b", DType::F32, &[5]),
        tensor("c", DType::Q8_0, &[2, 3, 32]),
    ]
}

fn write(path: &Path, layout: &Layout, tensors: &[NewTensor], piece: usize) {
    let mut file = GgufFile::create(path, layout).unwrap();
    for tensor in tensors {
        for bytes in bytes_of(tensor).chunks(piece) {
            file.put(&tensor.name, bytes).unwrap();
        }
    }
    assert!(layout.paths(path).iter().all(|path| !path.exists()), "nothing is there before the end");
    file.commit().unwrap();
}

#[test]
fn what_is_written_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let layout = Layout::new(entries(), &three()).unwrap();
    write(&path, &layout, &three(), 7);
    assert_eq!(std::fs::metadata(&path).unwrap().len(), layout.file_bytes());
    let read = Gguf::open(&path).unwrap();
    let found: Vec<_> = read.metadata().iter().map(|(key, value)| (key.to_owned(), value.clone())).collect();
    assert_eq!(found, entries());
    for (found, wanted) in read.tensors().zip(three()) {
        assert_eq!((found.name, found.dtype, found.shape), (&*wanted.name, wanted.dtype, &*wanted.shape));
        assert_eq!(found.bytes, bytes_of(&wanted));
    }
}

#[test]
fn parts_are_files_that_find_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let layout = Layout::split(entries(), &three(), &[0, 1, 1]).unwrap();
    write(&path, &layout, &three(), 1000);
    assert!(!path.exists());
    let paths = layout.paths(&path);
    assert_eq!(paths[1].file_name().unwrap(), "model-00002-of-00002.gguf");
    let bytes: u64 = paths.iter().map(|path| std::fs::metadata(path).unwrap().len()).sum();
    assert_eq!(bytes, layout.file_bytes());
    for path in &paths {
        let read = Gguf::open(path).unwrap();
        assert_eq!((read.n_parts(), read.tensors().len()), (2, 3));
        assert_eq!(read.parts_of_tensors().collect::<Vec<_>>(), [0, 1, 1]);
        assert_eq!(read.metadata().str("text"), Ok("ßx\n"));
        assert!(read.tensors().zip(three()).all(|(found, wanted)| found.bytes == bytes_of(&wanted)));
    }
}

#[test]
fn what_readers_refuse_is_not_written() {
    let refused = |entries: Vec<(String, Value)>, tensors: &[NewTensor]| {
        Layout::new(entries, tensors).map(|_| ()).unwrap_err().to_string()
    };
    let mut twice = entries();
    twice.push(("u8".to_owned(), Value::U8(0)));
    assert_eq!(refused(twice, &[]), "key `u8` comes twice");
    assert_eq!(refused(vec![(String::new(), Value::U8(0))], &[]), "key `` is empty");
    let deep = (0..5).fold(Array::U8(vec![1]), |inner, _| Array::Array(vec![inner]));
    assert!(refused(vec![("deep".to_owned(), Value::Array(deep))], &[]).contains("`deep`"));
    let same = [tensor("x", DType::F32, &[1]), tensor("x", DType::F16, &[1])];
    assert_eq!(refused(vec![], &same), "tensor `x` comes twice");
    assert_eq!(
        refused(vec![], &[tensor("x", DType::Q4K, &[2, 576])]),
        "tensor `x` has rows of 576 values, which are not whole blocks of 256 (Q4_K)"
    );
    for shape in [&[0, 2][..], &[1, 1, 1, 1, 1], &[usize::MAX, 2]] {
        assert!(refused(vec![], &[tensor("x", DType::F32, shape)]).contains("shape"), "{shape:?}");
    }
    assert!(refused(vec![], &[tensor(&"n".repeat(64), DType::F32, &[1])]).contains("64 bytes"));
    assert!(refused(vec![], &[tensor("a\u{1b}", DType::F32, &[1])]).contains("control"));
    for parts in [&[1, 1, 1][..], &[0, 2, 2], &[0, 1, 0], &[0, 0]] {
        assert!(Layout::split(vec![], &three(), parts).is_err(), "{parts:?}");
    }
}

#[test]
fn data_in_another_order_or_length_are_refused_and_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let layout = Layout::new(vec![], &three()).unwrap();
    let begin = || GgufFile::create(&path, &layout).unwrap();
    let mut file = begin();
    let error = file.put("b", &[0; 20]).unwrap_err().to_string();
    assert_eq!(error, "20 bytes of tensor `b` came, but 108 of `a.weight` were due");
    file.put("a.weight", &[0; 100]).unwrap();
    assert!(file.put("a.weight", &[0; 9]).is_err());
    let error = file.commit().unwrap_err().to_string();
    assert_eq!(error, "100 bytes of tensor `a.weight` came, but it has 108");
    drop(begin());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_layout_is_read_as_it_was_meant(
        shapes in proptest::collection::vec((proptest::collection::vec(1usize..5, 0..3), 0usize..4), 0..8),
        n_parts in 1usize..4,
    ) {
        let dtypes = [DType::F32, DType::F16, DType::Q8_0, DType::Q6K];
        let tensors: Vec<NewTensor> = shapes.into_iter().enumerate().map(|(i, (mut shape, dtype))| {
            shape.push(dtypes[dtype].block_len() * (1 + i % 2));
            NewTensor { name: format!("t{i}"), dtype: dtypes[dtype], shape }
        }).collect();
        let parts: Vec<usize> = (0..tensors.len()).map(|i| i.min(n_parts - 1)).collect();
        let layout = Layout::split(entries(), &tensors, &parts).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m");
        write(&path, &layout, &tensors, 300);
        let read = Gguf::open(&layout.paths(&path)[0]).unwrap();
        prop_assert_eq!(read.tensors().len(), tensors.len());
        for (found, wanted) in read.tensors().zip(&tensors) {
            prop_assert_eq!((found.name, found.dtype, found.shape), (&*wanted.name, wanted.dtype, &*wanted.shape));
            prop_assert_eq!(found.bytes, bytes_of(wanted));
        }
    }
}
