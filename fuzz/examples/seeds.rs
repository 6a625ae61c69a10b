//! Writes small good files into `fuzz/corpus/`, from which fuzzing starts: `cargo run --example seeds` in `fuzz/`.

use lossy_eval::divergence::{LogProb, Origin, OriginKey, SavedPrediction, SavedReference};
use lossy_formats::gguf::write::GgufWriter;
use lossy_formats::gguf::{Array, Value};
use lossy_formats::hf::write::SafetensorsWriter;
use lossy_quant::DType;
use std::path::Path;

fn main() -> std::io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let put = |target: &str, name: &str, bytes: Vec<u8>| {
        std::fs::create_dir_all(corpus.join(target))?;
        std::fs::write(corpus.join(target).join(name), bytes)
    };
    let nested = Value::Array(Array::Array(vec![Array::U8(vec![1]), Array::F64(vec![0.5])]));
    let metadata = GgufWriter::new()
        .set("general.architecture", "llama")
        .set("general.alignment", 8u32)
        .set("split.count", 1u16)
        .set("tokens", vec!["", "ß", "日本"])
        .set("scores", vec![0.5f32, -1.0])
        .set("flags", vec![true, false])
        .set("wide", u64::MAX)
        .set("nested", nested);
    put("gguf", "metadata", metadata.to_bytes())?;
    put("gguf", "version2", metadata.version(2).to_bytes())?;
    for &dtype in DType::ALL {
        let bytes = vec![0x35; 2 * dtype.block_bytes()];
        let writer = GgufWriter::new().tensor("t", dtype, &[2, dtype.block_len()], &bytes);
        put("gguf", dtype.name(), writer.tensor("u", DType::I8, &[1, 1, 1, 3], &[1, 2, 3]).to_bytes())?;
    }
    let weights = SafetensorsWriter::new().raw_entry(r#""__metadata__":{"format":"pt"}"#);
    let weights = weights.tensor("a", "BF16", &[2, 3], &[1; 12]).tensor("b", "F32", &[], &[2; 4]);
    put("safetensors_header", "two", weights.to_bytes())?;
    put("safetensors_header", "none", SafetensorsWriter::new().to_bytes())?;
    put("chat_template", "loop", CHAT_TEMPLATE.as_bytes().to_vec())?;
    let listing = r#"{"sha":"0123456789abcdef0123456789abcdef01234567","siblings":[{"rfilename":"README.md"},
        {"rfilename":"m.gguf","size":7,"blobId":null,"lfs":{"sha256":"ab","size":7,"pointerSize":130}}]}"#;
    put("hub_answer", "listing", listing.into())?;
    put("hub_answer", "range", "bytes 10-56/57".into())?;
    put(
        "hub_answer",
        "pointer",
        "version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 7\n".into(),
    )?;
    put("reference_file", "two", reference_rows()?)
}

/// A template with a loop, a macro, a filter, a test and a method.
const CHAT_TEMPLATE: &str = "{% macro f(x) %}{{ x|trim }}{% endmacro %}{% for m in messages %}<{{ m.role }}>\n\
    {% if m.content is string and not loop.last %}{{ f(m.content.split('a')[-1]) }}{% else %}{{ m.content }}{% endif %}\
    {%- endfor %}{% if add_generation_prompt %}<assistant>{% endif %}";

/// The number of predictions, and what stands between the header and the checksum of a file that holds them.
fn reference_rows() -> std::io::Result<Vec<u8>> {
    let kept = |token| LogProb { token, log_prob: -1.5 };
    let row = |top| SavedPrediction {
        top,
        nll: 0.25,
        rest: 0.1,
        head: vec![kept(top), kept(9)],
        sample: vec![kept(4)],
    };
    let what = OriginKey {
        model_hash: String::new(),
        setting: String::new(),
        activations: String::new(),
        version: String::new(),
        start_position: 0,
        n_vocab: 64,
        n_ctx: 8,
        n_scored: 2,
        text_hash: String::new(),
    };
    let (date, model) = (String::new(), String::new());
    let origin = Origin { what, bytes_per_token: 1, date, model };
    let header_bytes = serde_json::to_vec(&origin)?.len();
    let mut file = Vec::new();
    SavedReference { origin, predictions: vec![row(1), row(2)] }.save(&mut file)?;
    let rows = &file[8 + 4 + header_bytes..file.len() - 32];
    Ok([&[2], rows].concat())
}
