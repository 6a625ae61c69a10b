//! Which of a repository's GGUF files a name means.
//!
//! Repositories hold one model in many quantizations, told apart only by file names: `Model-Q4_K_M.gguf`,
//! `model.q4_0.gguf`, `Q8_0/Model-00001-of-00003.gguf`. A *variant* is one of them, with all parts of a split file.

use std::collections::BTreeMap;

use anyhow::{Result, bail};

/// What is taken when nobody asks for a quantization, best first, as llama.cpp does.
const PREFERRED: [&str; 2] = ["Q4_K_M", "Q8_0"];

/// One model in one quantization: a file, or all parts of a split one in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variant {
    /// the quantization in capitals (`Q4_K_M`), or the file's name where it names none
    pub label: String,
    /// paths in the repository
    pub files: Vec<String>,
    /// the parts that the file names announce; 1 for a file that is not split
    pub n_parts: usize,
}

impl Variant {
    /// Every part is there.
    pub fn is_complete(&self) -> bool {
        self.files.len() == self.n_parts
    }
}

/// Groups the GGUF files among `paths` into variants, sorted by path. Vision projectors and importance matrices are not
/// models and are left out.
pub fn variants<'a>(paths: impl IntoIterator<Item = &'a str>) -> Vec<Variant> {
    let mut by_stem: BTreeMap<(String, usize), Vec<String>> = BTreeMap::new();
    for path in paths {
        let Some(stem) = strip_gguf(path) else { continue };
        let name = file_name(path).to_ascii_lowercase();
        if name.contains("mmproj") || name.contains("imatrix") {
            continue;
        }
        let (stem, n_parts) = match split_part(stem) {
            Some((stem, _, n_parts)) => (stem, n_parts),
            None => (stem, 1),
        };
        by_stem.entry((stem.to_string(), n_parts)).or_default().push(path.to_string());
    }
    let named = by_stem.into_iter().map(|((stem, n_parts), mut files)| {
        files.sort();
        let label = label(&stem).unwrap_or_else(|| file_name(&files[0]).to_string());
        Variant { label, files, n_parts }
    });
    let mut variants: Vec<Variant> = named.collect();
    // A label must lead back to its variant: where two have the same, one keeps it and the others go by their files.
    for index in 0..variants.len() {
        let label = &variants[index].label;
        if shortest(&variants, label).is_some_and(|found| found.files != variants[index].files) {
            variants[index].label = file_name(&variants[index].files[0]).to_string();
        }
    }
    variants
}

/// Chooses the variant that `tag` names, or a default one.
///
/// # Errors
/// No variant fits; the message lists those there are.
pub fn choose(variants: &[Variant], tag: Option<&str>) -> Result<Variant> {
    let found = match tag {
        Some(tag) if strip_gguf(tag).is_some() => variants.iter().find(|variant| {
            variant.files.iter().any(|path| path == tag || (!tag.contains('/') && file_name(path) == tag))
        }),
        Some(tag) => shortest(variants, tag),
        None => PREFERRED.iter().find_map(|tag| shortest(variants, tag)).or(variants.first()),
    };
    let Some(found) = found else {
        let labels: Vec<&str> = variants.iter().map(|variant| variant.label.as_str()).collect();
        bail!("no `{}` among its GGUF files; it has {}", tag.unwrap_or_default(), labels.join(", "));
    };
    if !found.is_complete() {
        bail!("{} has {} of {} parts", found.label, found.files.len(), found.n_parts);
    }
    Ok(found.clone())
}

/// The variant with the shortest name that has `tag` in it: `Q4_K_M` prefers `x-Q4_K_M` to `x-UD-Q4_K_M`.
fn shortest<'a>(variants: &'a [Variant], tag: &str) -> Option<&'a Variant> {
    let fitting = variants.iter().filter(|variant| has_word(&variant.files[0], tag));
    fitting.min_by_key(|variant| variant.files[0].len())
}

/// `tag` stands in `path` as a word of its own: `Q4_K` is not in `x-Q4_K_M.gguf`.
fn has_word(path: &str, tag: &str) -> bool {
    let (path, tag) = (path.to_ascii_lowercase(), tag.to_ascii_lowercase());
    path.match_indices(&tag).any(|(start, _)| {
        let before = path[..start].chars().next_back();
        let after = path[start + tag.len()..].chars().next();
        before.is_none_or(|c| "-._/".contains(c)) && after.is_none_or(|c| "-./".contains(c))
    })
}

/// The quantization that a path without `.gguf` names, in capitals. The last one counts.
fn label(stem: &str) -> Option<String> {
    let words = stem.split(['-', '.', '/']).rev();
    words.flat_map(suffixes).find(|word| is_quantization(word)).map(|word| word.to_ascii_uppercase())
}

/// `a_b_c`, `b_c`, `c`.
fn suffixes(word: &str) -> impl Iterator<Item = &str> {
    std::iter::once(word).chain(word.match_indices('_').map(|(at, _)| &word[at + 1..]))
}

/// `Q4_K_M`, `IQ3_XXS`, `TQ1_0`, `MXFP4`, `F16`, `BF16`, `FP32`.
fn is_quantization(word: &str) -> bool {
    let word = word.to_ascii_uppercase();
    if matches!(word.as_str(), "F16" | "BF16" | "F32" | "FP16" | "FP32") || word.starts_with("MXFP4") {
        return true;
    }
    let rest = word.strip_prefix("IQ").or(word.strip_prefix("TQ")).or(word.strip_prefix('Q'));
    let Some((bits, rest)) = rest.and_then(|rest| rest.split_at_checked(1)) else { return false };
    matches!(bits.as_bytes(), [b'1'..=b'8']) && (rest.is_empty() || rest.starts_with('_'))
}

/// `model-00002-of-00005` is part 2 of 5 of `model`.
fn split_part(stem: &str) -> Option<(&str, usize, usize)> {
    let (rest, n_parts) = stem.rsplit_once("-of-")?;
    let (stem, part) = rest.rsplit_once('-')?;
    let number = |text: &str| (text.len() == 5).then(|| text.parse::<usize>().ok()).flatten();
    let (part, n_parts) = (number(part)?, number(n_parts)?);
    (part >= 1 && part <= n_parts).then_some((stem, part, n_parts))
}

fn strip_gguf(path: &str) -> Option<&str> {
    let (stem, extension) = path.rsplit_once('.')?;
    extension.eq_ignore_ascii_case("gguf").then_some(stem)
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILES: [&str; 9] = [
        "README.md",
        "Model-Q8_0.gguf",
        "Model-UD-Q4_K_M.gguf",
        "Model-Q4_K_M.gguf",
        "Model-Q4_K_S.gguf",
        "mmproj-Model-f16.gguf",
        "BF16/Model-BF16-00002-of-00002.gguf",
        "BF16/Model-BF16-00001-of-00002.gguf",
        "Model.imatrix.gguf",
    ];

    fn chosen(tag: Option<&str>) -> Vec<String> {
        choose(&variants(FILES), tag).unwrap().files
    }

    #[test]
    fn the_default_is_q4_k_m_and_not_a_longer_name_with_it() {
        assert_eq!(chosen(None), ["Model-Q4_K_M.gguf"]);
        assert_eq!(chosen(Some("ud-q4_k_m")), ["Model-UD-Q4_K_M.gguf"]);
    }

    #[test]
    fn a_split_file_comes_with_all_its_parts_in_order() {
        let parts = ["BF16/Model-BF16-00001-of-00002.gguf", "BF16/Model-BF16-00002-of-00002.gguf"];
        assert_eq!(chosen(Some("bf16")), parts);
    }

    #[test]
    fn a_missing_part_is_an_error_with_both_numbers() {
        let variants = variants(["m-Q8_0-00001-of-00003.gguf"]);
        assert_eq!(choose(&variants, None).unwrap_err().to_string(), "Q8_0 has 1 of 3 parts");
    }

    #[test]
    fn half_a_quantization_is_not_one() {
        let error = choose(&variants(FILES), Some("Q4_K")).unwrap_err().to_string();
        assert!(error.contains("BF16, Q4_K_M, Q4_K_S, Q8_0, Model-UD-Q4_K_M.gguf"), "{error}");
    }

    #[test]
    fn a_file_name_chooses_exactly_that_file() {
        assert_eq!(chosen(Some("Model-Q8_0.gguf")), ["Model-Q8_0.gguf"]);
        assert!(choose(&variants(FILES), Some("Q8_0.gguf")).is_err());
    }

    #[test]
    fn without_a_preferred_one_the_first_file_is_taken() {
        assert_eq!(choose(&variants(["b.Q5_0.gguf", "a.Q6_K.gguf"]), None).unwrap().label, "Q6_K");
        assert_eq!(choose(&variants(["b.Q8_0.gguf", "a.Q6_K.gguf"]), None).unwrap().label, "Q8_0");
    }

    #[test]
    fn labels_are_read_in_every_spelling() {
        for (path, expected) in [
            ("SmolLM2-135M-Instruct.Q4_1.gguf", "Q4_1"),
            ("qwen2.5-coder-0.5b-instruct-q4_k_m.gguf", "Q4_K_M"),
            ("model_iq3_xxs.gguf", "IQ3_XXS"),
            ("gpt-oss-20b-mxfp4.gguf", "MXFP4"),
            ("Q4_0/model-f16.gguf", "F16"),
            ("Q4_0/model.gguf", "Q4_0"),
            ("qwen-7b.gguf", "qwen-7b.gguf"),
        ] {
            assert_eq!(variants([path])[0].label, expected, "{path}");
        }
    }
}
