//! Against the GGUF files that `tools/make_tiny_models.py` wrote with the Python package gguf, as llama.cpp's converter lays them out.

use std::fs;
use std::path::Path;

use lossy_formats::gguf::{Gguf, GgufFile, Layout, NewTensor};
use lossy_testkit::{TINY_MODELS, testdata, tiny_directory};
use serde_json::json;

use super::*;

fn converted(folder: &Path, name: &str) -> ModelSource {
    let directory = tiny_directory::write(folder, name);
    ModelSource::open(&directory).unwrap().to_gguf(Some(folder)).unwrap()
}

fn error(directory: &Path) -> String {
    let source = ModelSource::open(directory).unwrap();
    match source.to_gguf(None) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("{} was taken for one that a GGUF can say", directory.display()),
    }
}

/// Keys whose values are other ones, or other types of the same number, in the files of the Python program.
fn is_comparable(key: &str) -> bool {
    !key.starts_with("general.") && !key.starts_with("tokenizer.") && !key.ends_with(".vocab_size")
}

#[test]
fn tensors_and_keys_are_those_of_the_python_package() {
    let folder = tempfile::tempdir().unwrap();
    for name in TINY_MODELS {
        let source = converted(folder.path(), name);
        let ours = source.gguf().unwrap();
        let theirs = Gguf::open(&testdata().join("tiny").join(name).join("model.gguf")).unwrap();
        let names = |gguf: &Gguf| {
            let mut names: Vec<String> = gguf.tensors().map(|tensor| tensor.name.to_owned()).collect();
            names.sort();
            names
        };
        assert_eq!(names(ours), names(&theirs), "{name}");
        for wanted in theirs.tensors() {
            let found = ours.tensor(wanted.name).unwrap();
            assert_eq!(found.shape, wanted.shape, "{name} {}", wanted.name);
            let is_same = match wanted.name {
                // Computed here in float64 and there too, and rounded.
                "rope_freqs.weight" => floats(&found)
                    .unwrap()
                    .iter()
                    .zip(floats(&wanted).unwrap())
                    .all(|(found, wanted)| (found - wanted).abs() <= 2e-7 * wanted),
                _ if found.shape.len() == 1 => floats(&found).unwrap() == floats(&wanted).unwrap(),
                _ => (found.dtype, found.bytes) == (wanted.dtype, wanted.bytes),
            };
            assert!(is_same, "{name} {}", wanted.name);
            assert!(found.shape.len() > 1 || found.dtype == DType::F32, "llama.cpp wants vectors as F32");
        }
        for (key, wanted) in theirs.metadata().iter().filter(|(key, _)| is_comparable(key)) {
            let found = ours.metadata().get(key);
            assert_eq!(found, Some(wanted), "{name}: {key}");
        }
    }
}

#[test]
fn a_directory_without_scratch_has_all_names_and_shapes() {
    let folder = tempfile::tempdir().unwrap();
    let directory = tiny_directory::write(folder.path(), "llama");
    let source = ModelSource::open(&directory).unwrap();
    let shapes = |model: ModelSource| -> Vec<(String, Vec<usize>)> {
        model.tensors().map(|tensor| (tensor.name.to_owned(), tensor.shape.to_vec())).collect()
    };
    assert_eq!(shapes(source.to_gguf(None).unwrap()), shapes(source.to_gguf(Some(folder.path())).unwrap()));
}

#[test]
fn a_shard_becomes_a_part_and_the_model_is_told_from_others() {
    let folder = tempfile::tempdir().unwrap();
    let source = converted(folder.path(), "qwen2");
    let gguf = source.gguf().unwrap();
    let mut parts: Vec<usize> = gguf.parts_of_tensors().collect();
    parts.sort_unstable();
    parts.dedup();
    assert_eq!(parts, [0, 1, 2]);
    assert_eq!(gguf.paths().len(), 3);
    assert!(gguf.paths()[2].ends_with("model-00003-of-00003.safetensors"));
    let again = converted(folder.path(), "qwen2");
    assert_eq!(source.fingerprint(), again.fingerprint());
    tiny_directory::change_json(&folder.path().join("qwen2/config.json"), |config| {
        config["rms_norm_eps"] = json!(1e-4);
    });
    let other = ModelSource::open(&folder.path().join("qwen2")).unwrap().to_gguf(Some(folder.path()));
    assert_ne!(source.fingerprint(), other.unwrap().fingerprint());
}

#[test]
fn a_written_file_is_the_same_model_with_the_same_tokens() {
    let folder = tempfile::tempdir().unwrap();
    for name in TINY_MODELS {
        let source = converted(folder.path(), name);
        let gguf = source.gguf().unwrap();
        let entries = gguf.metadata().iter().map(|(key, value)| (key.to_owned(), value.clone())).collect();
        let tensors: Vec<NewTensor> = gguf
            .tensors()
            .map(|t| NewTensor { name: t.name.to_owned(), dtype: t.dtype, shape: t.shape.to_vec() })
            .collect();
        let path = folder.path().join(format!("{name}.gguf"));
        let mut file = GgufFile::create(&path, &Layout::new(entries, &tensors).unwrap()).unwrap();
        gguf.tensors().for_each(|tensor| file.put(tensor.name, tensor.bytes).unwrap());
        file.commit().unwrap();
        let written = ModelSource::open(&path).unwrap();
        written.check().unwrap();
        let directory = ModelSource::open(&folder.path().join(name)).unwrap();
        let [wanted, found] = [&directory, &written].map(|model| model.tokenizer().unwrap());
        let text = "the thin 12 <|im_start|>then<tool> that, in 2012.\n\n  (hm?)";
        for parse_special in [true, false] {
            let options = lossy_tokenizer::EncodeOptions { add_special: true, parse_special };
            assert_eq!(found.encode(text, options).unwrap(), wanted.encode(text, options).unwrap());
        }
        assert_eq!((found.bos(), found.eos()), (wanted.bos(), wanted.eos()));
        let prompt = |model: &ModelSource| {
            let template = model.chat_template().unwrap().unwrap();
            template.render(&[lossy_tokenizer::Message::user("hm")], &Default::default()).unwrap()
        };
        assert_eq!(prompt(&written), prompt(&directory));
    }
}

#[test]
fn what_no_key_says_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let with = |name: &str, file: &str, change: &dyn Fn(&mut serde_json::Value)| {
        let directory = tiny_directory::write(folder.path(), name);
        tiny_directory::change_json(&directory.join(file), change);
        error(&directory)
    };
    let config = |change: &dyn Fn(&mut serde_json::Value)| with("llama", "config.json", change);
    assert!(config(&|config| config["hidden_act"] = json!("gelu")).contains("hidden_act"));
    assert!(config(&|config| config["frobnication"] = json!(3)).contains("frobnication"));
    let yarn = json!({"rope_theta": 100.0, "rope_type": "yarn", "factor": 4.0, "truncate": false});
    assert!(config(&|config| config["rope_parameters"] = yarn.clone()).contains("truncate"));
    let llama3 = json!({
        "rope_theta": 500.0, "rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 16
    });
    let told = with("qwen3", "config.json", &|config| config["rope_parameters"] = llama3.clone());
    assert!(told.contains("rope_freqs.weight"), "{told}");
    let tokenizer = |change: &dyn Fn(&mut serde_json::Value)| with("llama", "tokenizer.json", change);
    let pattern = |json: &mut serde_json::Value| {
        json["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = json!(r"\w+|\W");
    };
    assert!(tokenizer(&pattern).contains(r"\\w+|\\W"));
    let many: serde_json::Map<String, serde_json::Value> =
        (0..81).map(|id| (format!("token {id}"), json!(id))).collect();
    let told = tokenizer(&|json| {
        json["model"]["vocab"] = json!(many);
        json["model"]["merges"] = json!([]);
    });
    assert!(told.contains("80"), "{told}");
    let directory = tiny_directory::write(folder.path(), "llama");
    fs::remove_file(directory.join("tokenizer.json")).unwrap();
    assert!(error(&directory).contains("tokenizer.json"));
}
