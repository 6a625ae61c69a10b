//! The keys of the new file.

use super::Options;
use lossy_formats::gguf::{Gguf, Value};

/// ggml's number for the present meaning of all block types.
const QUANTIZATION_VERSION: u32 = 2;

/// The source's keys, with what has changed. Types that were planned tensor by tensor are of no recipe.
pub(super) fn entries(source: &Gguf, options: &Options, is_planned: bool) -> Vec<(String, Value)> {
    const OURS: [&str; 3] = ["general.file_type", "general.quantization_version", "general.quantized_by"];
    let kept = |key: &str| {
        !OURS.contains(&key) && !key.starts_with("quantize.imatrix.") && !key.starts_with("lossy.quantize.")
    };
    let mut entries: Vec<(String, Value)> = source
        .metadata()
        .iter()
        .filter(|(key, _)| kept(key))
        .map(|(key, value)| (key.to_owned(), value.clone()))
        .collect();
    let mut set = |key: &str, value: Value| entries.push((key.to_owned(), value));
    set("general.file_type", Value::U32(options.recipe.file_type()));
    set("general.quantization_version", Value::U32(QUANTIZATION_VERSION));
    set("general.quantized_by", Value::from(options.program.as_str()));
    if let Some(provenance) = &options.provenance {
        set("quantize.imatrix.file", Value::from(provenance.file.as_str()));
        set("quantize.imatrix.dataset", Value::from(provenance.dataset.as_str()));
        set("quantize.imatrix.entries_count", Value::U32(provenance.n_entries));
        set("quantize.imatrix.chunks_count", Value::U32(provenance.n_chunks));
    }
    let recipe = if is_planned { "planned" } else { options.recipe.name() };
    set("lossy.quantize.recipe", Value::from(recipe));
    set("lossy.quantize.feedback", Value::Bool(options.has_feedback));
    entries
}
