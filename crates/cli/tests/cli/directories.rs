//! Smaller models of Hugging Face directories and of split files.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use lossy_formats::gguf::{Gguf, GgufFile, Layout, NewTensor};
use lossy_testkit::{tiny_directory, tiny_model};

use crate::program::{Home, error_line, text};

fn succeeds(home: &Home, args: &[&str]) -> String {
    let output = home.lossy(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
    text(&output.stderr).to_string()
}

fn json(home: &Home, name: &str) -> serde_json::Value {
    serde_json::from_slice(&fs::read(home.path().join(name)).unwrap()).expect("JSON")
}

fn open(home: &Home, name: &str) -> Gguf {
    Gguf::open(&home.path().join(name)).unwrap()
}

/// Names, types and bytes of all tensors.
fn tensors(gguf: &Gguf) -> Vec<(String, String, Vec<u8>)> {
    let mut all: Vec<_> = gguf
        .tensors()
        .map(|tensor| (tensor.name.to_owned(), tensor.dtype.to_string(), tensor.bytes.to_vec()))
        .collect();
    all.sort();
    all
}

/// A directory `hf`, and `f32.gguf` of it: its weights as they are.
fn with_directory() -> Home {
    let home = Home::new();
    tiny_directory::write_wide(home.path(), "hf", 1);
    succeeds(&home, &["quantize", "hf", "f32.gguf", "f16", "--tensor-type", "weight=f32"]);
    home
}

#[test]
fn a_directory_as_a_file_is_the_model_that_it_was_made_of() {
    let home = with_directory();
    let original = Gguf::from_bytes(tiny_model::wide()).unwrap();
    assert_eq!(tensors(&open(&home, "f32.gguf")), tensors(&original));
    let answer = |model: &str| {
        let output =
            home.lossy(&["run", model, "-p", "the thin 12", "-n", "8", "--temp", "0"]).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        output.stdout
    };
    assert_eq!(answer("hf"), answer("f32.gguf"));
    let ids = |model: &str| {
        home.lossy(&["tokenize", model, "--ids", "-p", "then, in 2012 <|im_start|>that"])
            .output()
            .unwrap()
            .stdout
    };
    assert!(!ids("hf").is_empty());
    assert_eq!(ids("hf"), ids("f32.gguf"));
}

#[test]
fn a_directory_is_compressed_as_its_file_is() {
    let home = with_directory();
    for (model, out) in [("hf", "a.gguf"), ("f32.gguf", "b.gguf")] {
        succeeds(&home, &["compress", model, "-o", out, "--max-bits", "6"]);
    }
    let [a, b] = ["a.gguf", "b.gguf"].map(|name| fs::read(home.path().join(name)).unwrap());
    assert!(a == b, "the same weights give other bytes");
    let kl = |name: &str| json(&home, name)["certificates"][0]["loss"]["kl"]["value"].clone();
    assert_eq!(kl("a.gguf.json"), kl("b.gguf.json"));
    // Nothing is left of the rows that were put in order.
    let n_hidden = fs::read_dir(home.path()).unwrap().filter(|entry| {
        let name = entry.as_ref().unwrap().file_name();
        name.to_string_lossy().starts_with(".tmp") || name.to_string_lossy().ends_with(".part")
    });
    assert_eq!(n_hidden.count(), 0);
}

/// The floats of all tensors, one after another.
fn floats(gguf: &Gguf) -> Vec<f32> {
    let of = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().unwrap());
    tensors(gguf).iter().flat_map(|(.., bytes)| bytes.chunks_exact(4).map(of).collect::<Vec<_>>()).collect()
}

#[test]
fn every_command_reads_a_directory_as_it_reads_its_file() {
    let home = with_directory();
    for (model, name) in [("hf", "a"), ("f32.gguf", "b")] {
        let file = |kind: &str| format!("{name}.{kind}.gguf");
        succeeds(&home, &["imatrix", model, "-o", &file("imatrix")]);
        // Rows of Q and K are summed in another order, so importances are the same to rounding.
        let importances = ["--imatrix", "a.imatrix.gguf"];
        let quantize = ["quantize", model, &file("quantized"), "q4_0"];
        succeeds(&home, &[&quantize[..], &importances].concat());
        succeeds(&home, &["prune", model, &file("pruned"), "--prune-layers", "1"]);
        let trained =
            ["distill", model, &file("trained"), "--teacher", "hf", "--train", "lora", "--steps", "1"];
        succeeds(&home, &trained);
    }
    for kind in ["quantized", "pruned", "trained"] {
        let [a, b] = ["a", "b"].map(|name| tensors(&open(&home, &format!("{name}.{kind}.gguf"))));
        assert!(a == b, "{kind}");
    }
    let [a, b] = ["a", "b"].map(|name| floats(&open(&home, &format!("{name}.imatrix.gguf"))));
    assert_eq!(a.len(), b.len());
    assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() <= 1e-4 * b.abs()), "importances");
}

#[test]
fn a_dry_run_of_a_directory_writes_nothing_and_a_directory_is_never_replaced() {
    let home = Home::new();
    tiny_directory::write_wide(home.path(), "hf", 1);
    succeeds(&home, &["quantize", "hf", "new.gguf", "q4_0", "--dry-run"]);
    succeeds(&home, &["compress", "hf", "-o", "new.gguf", "--max-bits", "6", "--dry-run"]);
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
    let line = error_line(&mut home.lossy(&["quantize", "hf", "hf/model.safetensors", "q4_0"]));
    assert!(line.contains("is MODEL"), "{line}");
    tiny_directory::change_json(&home.path().join("hf/tokenizer.json"), |json| {
        json["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = r"\w+".into();
    });
    let line = error_line(&mut home.lossy(&["quantize", "hf", "new.gguf", "q4_0"]));
    assert!(line.contains("cannot be written as GGUF") && line.contains(r"\\w+"), "{line}");
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
}

/// `wide` in so many files, `wide-00001-of-00003.gguf` and so on; and as one.
fn with_split(n_parts: usize) -> Home {
    let home = Home::new();
    let source = open_path(&tiny_model::write_wide(home.path()));
    let new: Vec<NewTensor> = source
        .tensors()
        .map(|t| NewTensor { name: t.name.to_owned(), dtype: t.dtype, shape: t.shape.to_vec() })
        .collect();
    let parts: Vec<usize> = (0..new.len()).map(|at| at * n_parts / new.len()).collect();
    let entries = source.metadata().iter().map(|(key, value)| (key.to_owned(), value.clone())).collect();
    let layout = Layout::split(entries, &new, &parts).unwrap();
    let mut file = GgufFile::create(&home.path().join("wide.gguf"), &layout).unwrap();
    source.tensors().for_each(|tensor| file.put(tensor.name, tensor.bytes).unwrap());
    file.commit().unwrap();
    home
}

fn open_path(path: &Path) -> Gguf {
    Gguf::open(path).unwrap()
}

const PARTS: [&str; 3] =
    ["small-00001-of-00003.gguf", "small-00002-of-00003.gguf", "small-00003-of-00003.gguf"];

fn parts_there(home: &Home) -> usize {
    PARTS.iter().filter(|name| home.path().join(name).exists()).count()
}

#[test]
fn a_split_model_is_compressed_to_as_many_files() {
    let home = with_split(3);
    let args = ["compress", "wide-00002-of-00003.gguf", "--max-bits", "6", "-o"];
    succeeds(&home, &[&args[..], &["one.gguf"]].concat());
    succeeds(&home, &[&args[..], &["small.gguf", "--keep-split"]].concat());
    assert!(home.path().join("one.gguf").exists() && !home.path().join("small.gguf").exists());
    assert_eq!(parts_there(&home), 3);
    let split = open(&home, PARTS[1]);
    assert_eq!(split.n_parts(), 3);
    assert_eq!(tensors(&split), tensors(&open(&home, "one.gguf")));
    for (no, name) in PARTS.iter().enumerate() {
        let part = Gguf::from_bytes(fs::read(home.path().join(name)).unwrap()).unwrap();
        let key = |key: &str| part.metadata().u64(key).unwrap();
        assert_eq!((key("split.no"), key("split.count")), (no as u64, 3));
        assert_eq!(key("split.tensors.count"), split.tensors().len() as u64);
        // The same tensors are together as in the source.
        let source = fs::read(home.path().join(format!("wide-0000{}-of-00003.gguf", no + 1))).unwrap();
        let names = |gguf: &Gguf| tensors(gguf).into_iter().map(|(name, ..)| name).collect::<Vec<_>>();
        assert_eq!(names(&part), names(&Gguf::from_bytes(source).unwrap()));
    }
    let said = json(&home, "small.gguf.json");
    assert_eq!(said["files"], serde_json::json!(PARTS));
    assert_eq!(said["bytes"].as_u64().unwrap(), split.file_bytes());
    let card = fs::read_to_string(home.path().join("small.gguf.md")).unwrap();
    assert!(PARTS.iter().all(|name| card.contains(name)), "{card}");
    // The command of the certificate gives its figures.
    let command = said["report"]["command"].as_str().unwrap();
    let args: Vec<&str> = command.split(' ').skip(1).chain(["-o", "json"]).collect();
    let measured: serde_json::Value =
        serde_json::from_slice(&home.lossy(&args).output().unwrap().stdout).expect("JSON");
    assert_eq!(said["certificates"][0]["model_hash"], measured["model_hash"]);
    assert_eq!(
        said["certificates"][0]["loss"]["kl"]["value"],
        measured["divergence"][0]["settings"][0]["kl"]["mean"]["value"]
    );
}

#[test]
fn a_trained_file_is_split_too() {
    let home = with_split(3);
    let args = ["compress", "wide-00001-of-00003.gguf", "--max-bits", "5", "--steps", "12", "-o"];
    succeeds(&home, &[&args[..], &["small.gguf", "--keep-split"]].concat());
    succeeds(&home, &[&args[..], &["one.gguf"]].concat());
    assert_eq!(json(&home, "small.gguf.json")["training"]["is_kept"], true);
    assert_eq!(parts_there(&home), 3);
    assert_eq!(tensors(&open(&home, PARTS[0])), tensors(&open(&home, "one.gguf")));
}

#[test]
fn a_killed_run_leaves_no_part_and_goes_on_to_all() {
    let home = with_split(3);
    let args =
        ["compress", "wide-00001-of-00003.gguf", "--max-size", "90K", "--keep-split", "-o", "small.gguf"];
    succeeds(&home, &args);
    let whole = PARTS.map(|name| fs::read(home.path().join(name)).unwrap());
    PARTS.iter().for_each(|name| fs::remove_file(home.path().join(name)).unwrap());
    let mut child = home.spawn(&args);
    let start = Instant::now();
    while !home.path().join("small.gguf.partial/prices.0.json").exists() {
        assert!(start.elapsed() < Duration::from_secs(100), "no layer was finished");
        std::thread::sleep(Duration::from_millis(1));
    }
    // SIGKILL.
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success());
    assert_eq!(parts_there(&home), 0);
    succeeds(&home, &[&args[..], &["--resume"]].concat());
    assert!(whole == PARTS.map(|name| fs::read(home.path().join(name)).unwrap()), "other bytes");
}

#[test]
fn of_several_files_none_appears_where_one_cannot() {
    let home = with_split(3);
    fs::create_dir(home.path().join(PARTS[1])).unwrap();
    for args in [
        &["compress", "wide-00001-of-00003.gguf", "-o", "small.gguf", "--max-bits", "6", "--keep-split"][..],
        &["quantize", "wide-00001-of-00003.gguf", "small.gguf", "q4_0", "--keep-split"],
    ] {
        let line = error_line(&mut home.lossy(args));
        assert!(line.contains(PARTS[1]) && line.contains("is a directory"), "{line}");
        assert_eq!(parts_there(&home), 1, "but for the directory itself");
    }
}

#[test]
fn the_shards_of_a_directory_become_files() {
    let home = Home::new();
    tiny_directory::write_wide(home.path(), "hf", 3);
    succeeds(&home, &["quantize", "hf", "small.gguf", "q4_0", "--keep-split"]);
    assert_eq!(parts_there(&home), 3);
    succeeds(&home, &["quantize", "hf", "one.gguf", "q4_0"]);
    assert_eq!(tensors(&open(&home, PARTS[2])), tensors(&open(&home, "one.gguf")));
}
