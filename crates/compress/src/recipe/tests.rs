use super::*;
use lossy_formats::gguf::Value;
use serde_json::Value as Json;
use std::path::PathBuf;

fn fixtures() -> Vec<(String, Json)> {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/recipes"));
    let mut found: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            (path.display().to_string(), serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap())
        })
        .collect();
    found.sort_by(|a: &(String, Json), b| a.0.cmp(&b.0));
    found
}

/// Name, shape as we have it, and type before: the fixtures are made of F16 matrices and F32 vectors.
fn tensors(fixture: &Json) -> Vec<(String, Vec<usize>, DType)> {
    let listed = fixture["tensors"].as_object().unwrap().iter();
    let shape = |ne: &Json| {
        ne.as_array().unwrap().iter().rev().map(|n| n.as_u64().unwrap() as usize).collect::<Vec<_>>()
    };
    let dtype = |name: &str, n_dims: usize| {
        if n_dims == 1 || name.contains("gate_inp") { DType::F32 } else { DType::F16 }
    };
    listed.map(|(name, ne)| (name.clone(), shape(ne), dtype(name, ne.as_array().unwrap().len()))).collect()
}

fn shape(fixture: &Json) -> Shape {
    let architecture = fixture["architecture"].as_str().unwrap();
    let mut entries = vec![("general.architecture".to_owned(), Value::from(architecture))];
    for (key, value) in fixture["keys"].as_object().unwrap() {
        if let Some(n) = value.as_u64() {
            entries.push((format!("{architecture}.{key}"), Value::U32(n as u32)));
        }
    }
    Shape::of(&Metadata::from_entries(entries).unwrap()).unwrap()
}

#[test]
fn types_are_those_that_llama_cpp_chooses() {
    let fixtures = fixtures();
    assert!(fixtures.len() >= 8);
    for (path, fixture) in &fixtures {
        let listed = tensors(fixture);
        let sources: Vec<_> =
            listed.iter().map(|(name, shape, dtype)| SourceTensor { name, dtype: *dtype, shape }).collect();
        let letters = fixture["letters"].as_object().unwrap();
        let type_of = |letter: char| {
            let found = letters.iter().find(|(_, value)| value.as_str().unwrap().contains(letter)).unwrap();
            found.0.as_str()
        };
        for recipe in RECIPES {
            for (suffix, has_imatrix, is_pure) in
                [("", false, false), (" imatrix", true, false), (" pure", false, true)]
            {
                let changes = Changes { has_imatrix, is_pure, ..Changes::default() };
                let choices = choose(recipe, &shape(fixture), &sources, &changes).unwrap();
                let wanted = fixture["recipes"][format!("{}{suffix}", recipe.name)].as_str().unwrap();
                assert_eq!(wanted.len(), choices.len());
                for ((choice, letter), source) in choices.iter().zip(wanted.chars()).zip(&sources) {
                    assert_eq!(
                        choice.dtype.name(),
                        type_of(letter),
                        "{path}, {}{suffix}: {}",
                        recipe.name,
                        source.name
                    );
                }
            }
        }
    }
}

fn dense() -> (Shape, Vec<(String, Vec<usize>)>) {
    let shape =
        Shape { architecture: "llama".into(), n_layers: 2, heads_per_kv: 3, is_grouped: true, n_experts: 0 };
    let mut tensors = vec![("token_embd.weight".to_owned(), vec![64, 256])];
    for i in 0..2 {
        tensors.push((format!("blk.{i}.attn_norm.weight"), vec![256]));
        tensors.push((format!("blk.{i}.attn_v.weight"), vec![64, 256]));
        tensors.push((format!("blk.{i}.ffn_down.weight"), vec![256, 96]));
    }
    tensors.push(("output.weight".to_owned(), vec![64, 256]));
    (shape, tensors)
}

fn types(recipe: &str, changes: &Changes) -> Result<Vec<String>, RecipeError> {
    let (shape, tensors) = dense();
    let sources: Vec<_> =
        tensors.iter().map(|(name, shape)| SourceTensor { name, dtype: DType::F32, shape }).collect();
    let choices = choose(Recipe::named(recipe)?, &shape, &sources, changes)?;
    Ok(choices.iter().map(|choice| choice.dtype.name().to_owned()).collect())
}

#[test]
fn changes_take_the_place_of_rules() {
    let changes = Changes {
        token_embedding: Some(DType::Q8_0),
        output: Some(DType::Q4K),
        by_name: vec![
            NamedType::parse(r"blk\.1\..*=iq4_nl").unwrap(),
            NamedType::parse("attn_v=F16").unwrap(),
        ],
        ..Changes::default()
    };
    let found = types("Q5_K_M", &changes).unwrap();
    assert_eq!(found, ["Q8_0", "F32", "F16", "Q5_1", "F32", "IQ4_NL", "IQ4_NL", "Q4_K"]);
}

#[test]
fn what_does_not_fit_falls_back_and_says_from_what() {
    let (shape, tensors) = dense();
    let sources: Vec<_> =
        tensors.iter().map(|(name, shape)| SourceTensor { name, dtype: DType::F32, shape }).collect();
    let choices = choose(Recipe::named("q4_k_s").unwrap(), &shape, &sources, &Changes::default()).unwrap();
    assert_eq!(
        choices[3],
        Choice { dtype: DType::Q5_0, fallback_from: Some(DType::Q4K), is_quantized: true }
    );
    assert_eq!(choices.iter().filter(|choice| choice.fallback_from.is_some()).count(), 2);
    assert!(!choices[1].is_quantized);
}

#[test]
fn what_is_unknown_is_told_with_what_is_nearest() {
    let error = Recipe::named("q4km").unwrap_err().to_string();
    assert!(error.starts_with("there is no recipe `q4km`: do you mean q4_k_m?"), "{error}");
    assert!(dtype_named("q6k").unwrap_err().to_string().contains("do you mean q6_k?"));
    assert!(dtype_named("iq2_s").is_err(), "its blocks cannot be computed");
    assert!(NamedType::parse("ffn_down").unwrap_err().to_string().contains("PATTERN=TYPE"));
    assert!(NamedType::parse("(=q4_0").unwrap_err().to_string().contains("no regular expression"));
    let changes =
        Changes { by_name: vec![NamedType::parse("attn_norm=q8_0").unwrap()], ..Changes::default() };
    let error = types("q4_0", &changes).unwrap_err().to_string();
    assert!(error.contains("`attn_norm` matches no tensor that is quantized"), "{error}");
    assert!(error.contains("blk.0.attn_v.weight"), "{error}");
}
