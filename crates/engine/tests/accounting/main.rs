//! One thing of a model is added, renamed, dropped, reshaped or changed at a time: what is computed then is what a float64
//! reference computes of the same, or the model is refused with an error that names the thing.

mod change;
mod fingerprints;
mod models;
mod numbers;
mod read;
mod reference;

use std::sync::{Arc, Mutex};

use lossy_engine::Unread;
use lossy_formats::gguf::{Array, Value as GgufValue};
use serde_json::{Value, json};

use change::{Model, Must, Tally, folder};
use models::{FAMILIES, IDS, N_LAYERS, N_VOCAB, config, metadata, random, shape};
use reference::Tensor;

fn all_models() -> impl Iterator<Item = (String, Model)> {
    FAMILIES.into_iter().flat_map(|family| {
        [(format!("{family} directory"), Model::hf(family)), (format!("{family} GGUF"), Model::gguf(family))]
    })
}

#[test]
fn unchanged_models_are_computed() {
    let mut tally = Tally::default();
    for (name, model) in all_models() {
        tally.look(&folder("unchanged"), &model, &name, &[], Must::Compute);
    }
    tally.check(8, 0);
}

#[test]
fn every_tensor_that_is_dropped_renamed_or_reshaped_is_noticed() {
    let mut tally = Tally::default();
    let folder = folder("tensors");
    for (model_name, model) in all_models() {
        for name in model.tensors().keys() {
            // Of a GGUF file without an output matrix the embedding is it.
            let is_optional = matches!(model, Model::Gguf { .. }) && name == "output.weight";
            let must = if is_optional { Must::Compute } else { Must::Refuse };
            let named = [name.as_str()];
            let dropped = model.with_tensors(|tensors| {
                tensors.remove(name);
            });
            tally.look(&folder, &dropped, &format!("{model_name}: without {name}"), &named, must);
            let renamed = model.with_tensors(|tensors| {
                let tensor = tensors.remove(name).expect("a tensor of the model");
                tensors.insert(format!("{name}_x"), tensor);
            });
            tally.look(&folder, &renamed, &format!("{model_name}: {name}_x"), &named, Must::Refuse);
            let longer = model.with_tensors(|tensors| {
                let tensor = tensors.get_mut(name).expect("a tensor of the model");
                let row: usize = tensor.shape[1..].iter().product();
                tensor.shape[0] += 1;
                tensor.values.extend(vec![0.0; row]);
            });
            tally.look(
                &folder,
                &longer,
                &format!("{model_name}: {name} with a row more"),
                &named,
                Must::Refuse,
            );
            let flat = model.with_tensors(|tensors| {
                let tensor = tensors.get_mut(name).expect("a tensor of the model");
                tensor.shape = vec![1, tensor.values.len()];
            });
            tally.look(&folder, &flat, &format!("{model_name}: {name} in one row"), &named, Must::Refuse);
            for value in [f32::NAN, f32::INFINITY] {
                let broken = model.with_tensors(|tensors| {
                    let values = &mut tensors.get_mut(name).expect("a tensor of the model").values;
                    // Of the embedding the row of a token that is asked for.
                    let at =
                        if name.starts_with(model.names().embedding) { IDS[0] as usize * 32 + 5 } else { 7 };
                    values[at] = value;
                });
                let change = format!("{model_name}: {value} in {name}");
                tally.look(&folder, &broken, &change, &named, Must::Refuse);
            }
        }
    }
    tally.check(4, 1000);
}

#[test]
fn every_tensor_that_is_added_is_computed_or_named() {
    let mut tally = Tally::default();
    let folder = folder("added");
    for (model_name, model) in all_models() {
        let names = model.names();
        let family = model_name.split(' ').next().expect("a family");
        let in_layer = |layer: usize, part: &str| format!("{}{layer}{}{part}", names.layer.0, names.layer.1);
        let mut added: Vec<(String, Vec<usize>)> = [
            "unheard_of.weight",
            "model.unheard_of.weight",
            "lm_head.bias",
            "output.bias",
            "output_norm.bias",
            "model.norm.bias",
            "model.layers.0.self_attn.q_proj.weight_scale_inv",
            "score.weight",
            "rope_freqs.scale",
        ]
        .map(|name| (name.to_owned(), vec![32]))
        .into();
        for part in [
            "post_attention_norm.weight",
            "pre_feedforward_layernorm.weight",
            "attn_sinks.weight",
            "layer_output_scale.weight",
            "ffn_gate_inp.weight",
            "mlp.experts.0.gate_proj.weight",
            "self_attn.q_proj.lora_A.weight",
        ] {
            added.push((in_layer(1, part), vec![32]));
        }
        for (part, part_name) in names.parts.iter().enumerate() {
            let whole = shape(family, part);
            // Norms have no biases; a layer beyond the last has everything too much.
            added.push((in_layer(0, part_name) + ".bias", whole[..1].to_vec()));
            added.push((in_layer(1, part_name) + ".weight", whole.clone()));
            added.push((in_layer(N_LAYERS, part_name) + ".weight", whole));
        }
        for (name, shape) in added {
            if model.tensors().contains_key(&name) {
                continue;
            }
            let with = model.with_tensors(|tensors| {
                tensors.insert(name.clone(), random(&name, &shape));
            });
            // A single bias asks for the others of its group, which are missing.
            let group = name.replace(".bias", "");
            let sibling = if name.ends_with(".bias") { ".bias" } else { "no such name" };
            let change = format!("{model_name}: with {name}");
            let named = [name.as_str(), if group == name { "no such name" } else { sibling }];
            tally.look(&folder, &with, &change, &named, Must::Refuse);
            // The same is told, not refused, to whoever goes on without.
            let told = Arc::new(Mutex::new(String::new()));
            let to = told.clone();
            let warn = Unread::Warn(Arc::new(move |parts| *to.lock().expect("no panic") = parts.to_string()));
            if with.run(&folder, warn).is_ok() {
                assert!(told.lock().expect("no panic").contains(&name), "{change}: not told");
            }
        }
    }
    tally.check(0, 250);
}

#[test]
fn biases_of_all_projections_are_computed_where_the_configuration_has_them() {
    let mut tally = Tally::default();
    for (model_name, model) in all_models() {
        let family = model_name.split(' ').next().expect("a family");
        for (groups, parts) in
            [("output", vec![6]), ("MLP", vec![8, 9, 10]), ("all", vec![1, 2, 3, 6, 8, 9, 10])]
        {
            let with = model.with_tensors(|tensors| {
                for layer in 0..N_LAYERS {
                    for &part in &parts {
                        let (names, shape) = (model.names(), shape(family, part));
                        let name =
                            format!("{}{layer}{}{}.bias", names.layer.0, names.layer.1, names.parts[part]);
                        tensors.insert(name.clone(), random(&name, &shape[..1]));
                    }
                }
            });
            // `attention_bias` says that Q, K and V have biases too, where the class has that key.
            let is_whole = groups == "all" || family == "qwen2" || family == "mistral" || groups == "MLP";
            let stated = with.with_config(|config| {
                config["attention_bias"] = json!(groups != "MLP");
                config["mlp_bias"] = json!(groups != "output");
            });
            let must = match with {
                Model::Gguf { .. } => Must::Compute,
                Model::Hf { .. } if is_whole => Must::Compute,
                Model::Hf { .. } => Must::Refuse,
            };
            let change = format!("{model_name}: {groups} biases");
            tally.look(&folder("biases"), &stated, &change, &[".bias"], must);
            if let Model::Hf { .. } = with {
                let denied = format!("{change} that config.json denies");
                tally.look(&folder("biases"), &with, &denied, &["_bias"], Must::Refuse);
            }
        }
    }
    tally.check(18, 12);
}

/// Values that a key of `config.json` may be changed to.
fn hostile() -> Vec<Value> {
    let texts = ["text", "4"].map(Value::from);
    let mut values =
        vec![json!(null), json!(true), json!(false), json!([]), json!({}), json!(0.5), json!(-1)];
    values.extend([0, 1, 2, 3, 5, 32, 100].map(Value::from));
    values.extend(texts);
    values
}

/// Keys that say how large something is: an error may name the tensor that has another size.
const SHAPES: &[&str] = &[
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "max_position_embeddings",
    "block_count",
    "embedding_length",
    "feed_forward_length",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "context_length",
];

#[test]
fn every_key_of_config_json_that_is_changed_is_computed_or_named() {
    let mut tally = Tally::default();
    let folder = folder("keys");
    for family in FAMILIES {
        let model = Model::hf(family);
        let base = config(family);
        for key in base.as_object().expect("an object").keys() {
            let named: &[&str] = match key.as_str() {
                key if SHAPES.contains(&key) => {
                    &[".weight", "heads", "layers", "width", "channels", "context length"]
                }
                // A type of model that needs other tensors.
                "model_type" => &["model_type", ".bias", "_norm", "architecture"],
                "tie_word_embeddings" => &["lm_head.weight"],
                "attention_bias" | "mlp_bias" => &[".bias"],
                _ => &[],
            };
            let named = [&[key.as_str()], named].concat();
            for value in hostile() {
                let changed = model.with_config(|config| config[key] = value.clone());
                tally.look(
                    &folder,
                    &changed,
                    &format!("{family}: {key} = {value}"),
                    &named,
                    Must::ComputeOrRefuse,
                );
            }
            let dropped = model.with_config(|config| {
                config.as_object_mut().expect("an object").remove(key);
            });
            tally.look(&folder, &dropped, &format!("{family}: without {key}"), &named, Must::ComputeOrRefuse);
            let renamed = model.with_config(|config| {
                let value = config.as_object_mut().expect("an object").remove(key);
                config[format!("{key}_x")] = value.expect("a key of the file");
            });
            let is_null = base[key].is_null();
            let must = if is_null { Must::ComputeOrRefuse } else { Must::Refuse };
            tally.look(&folder, &renamed, &format!("{family}: {key}_x"), &named, must);
        }
    }
    tally.check(300, 500);
}

/// A key, its value, what an error may name, and what must become of it.
type Change = (&'static str, Value, &'static [&'static str], Must);

#[test]
fn what_configurations_can_ask_for_is_computed_or_named() {
    const COMPUTED: Must = Must::Compute;
    const REFUSED: Must = Must::Refuse;
    let four = json!([1.0, 1.5, 2.0, 4.0]);
    let eight = json!([1.0, 1.5, 2.0, 4.0, 1.0, 1.5, 2.0, 4.0]);
    let factors = |family: &str| if family == "qwen3" { eight.clone() } else { four.clone() };
    let mut tally = Tally::default();
    for family in FAMILIES {
        let rope = |more: Value| {
            let mut parameters = json!({"rope_theta": 500.0});
            more.as_object().into_iter().flatten().for_each(|(key, value)| parameters[key] = value.clone());
            parameters
        };
        let llama3 = json!({"rope_type": "llama3", "factor": 4, "low_freq_factor": 1, "high_freq_factor": 4,
                            "original_max_position_embeddings": 16});
        let longrope = json!({"rope_type": "longrope", "short_factor": factors(family), "long_factor": factors(family),
                              "original_max_position_embeddings": 10});
        let longrope_factor = json!({"rope_type": "longrope", "short_factor": factors(family),
                                     "long_factor": factors(family), "factor": 3.0});
        let yarn = json!({"rope_type": "yarn", "factor": 4, "original_max_position_embeddings": 16});
        let yarn_more = json!({"rope_type": "yarn", "original_max_position_embeddings": 16, "attention_factor": 1.2,
                               "beta_fast": 8, "beta_slow": 2, "truncate": false});
        let changes: Vec<Change> = vec![
            ("hidden_act", json!("gelu"), &[], COMPUTED),
            ("hidden_act", json!("gelu_pytorch_tanh"), &[], COMPUTED),
            ("hidden_act", json!("gelu_new"), &[], COMPUTED),
            ("hidden_act", json!("quick_gelu"), &[], COMPUTED),
            ("hidden_act", json!("relu"), &[], COMPUTED),
            ("hidden_act", json!("relu2"), &[], COMPUTED),
            ("hidden_act", json!("mish"), &["hidden_act"], REFUSED),
            ("rms_norm_eps", json!(0.01), &[], COMPUTED),
            ("rope_parameters", rope(json!({})), &[], COMPUTED),
            ("rope_parameters", rope(json!({"rope_type": "linear", "factor": 3})), &[], COMPUTED),
            ("rope_parameters", rope(json!({"rope_type": "dynamic", "factor": 3})), &[], COMPUTED),
            ("rope_parameters", rope(llama3), &[], COMPUTED),
            ("rope_parameters", rope(yarn), &[], COMPUTED),
            ("rope_parameters", rope(yarn_more), &[], COMPUTED),
            ("rope_parameters", rope(longrope), &[], COMPUTED),
            ("rope_parameters", rope(longrope_factor), &[], COMPUTED),
            ("rope_parameters", rope(json!({"rope_type": "proportional"})), &["proportional"], REFUSED),
            ("rope_parameters", rope(json!({"rope_type": "linear", "factor": "3"})), &["factor"], REFUSED),
            ("rope_parameters", rope(json!({"factor": 3})), &["rope_type"], REFUSED),
            (
                "rope_parameters",
                rope(json!({"rope_type": "default", "beta_fast": 3})),
                &["beta_fast"],
                REFUSED,
            ),
            (
                "rope_parameters",
                rope(json!({"partial_rotary_factor": 0.5})),
                &["partial_rotary_factor"],
                REFUSED,
            ),
            ("rope_parameters", rope(json!({"unheard_of": 3})), &["unheard_of"], REFUSED),
            (
                "rope_parameters",
                json!({"full_attention": {"rope_type": "default"}}),
                &["full_attention"],
                REFUSED,
            ),
            ("rope_theta", json!(300.0), &[], COMPUTED),
            ("rope_theta", json!("300"), &["rope_theta"], Must::ComputeOrRefuse),
            ("rope_scaling", json!({"type": "linear", "factor": 2}), &["rope_scaling"], REFUSED),
            ("layer_types", json!(["full_attention", "chunked_attention"]), &["layer_types"], REFUSED),
            ("sliding_window", json!(6), &[], COMPUTED),
            ("sliding_window", json!("6"), &["sliding_window"], REFUSED),
            ("partial_rotary_factor", json!(0.5), &["partial_rotary_factor"], REFUSED),
            ("partial_rotary_factor", json!(1.0), &[], COMPUTED),
            ("logits_scaling", json!(8.0), &["logits_scaling"], REFUSED),
            ("logits_scaling", json!(1), &[], COMPUTED),
            ("embedding_multiplier", json!(12.0), &["embedding_multiplier"], REFUSED),
            ("residual_multiplier", json!(0.2), &["residual_multiplier"], REFUSED),
            ("attention_multiplier", json!(0.1), &["attention_multiplier"], REFUSED),
            ("final_logit_softcapping", json!(30.0), &["final_logit_softcapping"], REFUSED),
            ("num_experts", json!(4), &["num_experts"], REFUSED),
            ("num_experts", json!(0), &[], COMPUTED),
            ("quantization_config", json!({"quant_method": "gptq"}), &["quantization_config"], REFUSED),
            ("quantization_config", json!(null), &[], COMPUTED),
            ("architectures", json!(["LlamaForSequenceClassification"]), &["architectures"], REFUSED),
            ("unheard_of", json!(1), &["unheard_of"], REFUSED),
            ("auto_map", json!({"AutoModelForCausalLM": "modeling.X"}), &["auto_map"], REFUSED),
            ("torch_dtype", json!("float16"), &[], COMPUTED),
            ("initializer_range", json!(9), &[], COMPUTED),
        ];
        for (key, value, named, must) in changes {
            let changed = Model::hf(family).with_config(|config| config[key] = value.clone());
            tally.look(&folder("asked"), &changed, &format!("{family}: {key} = {value}"), named, must);
        }
        let tied = Model::hf(family).with_config(|config| config["tie_word_embeddings"] = json!(true));
        let change = format!("{family}: tied");
        tally.look(&folder("asked"), &tied, &change, &["tie_word_embeddings"], REFUSED);
        let without = tied.with_tensors(|tensors| {
            tensors.remove("lm_head.weight");
        });
        tally.look(&folder("asked"), &without, &change, &[], COMPUTED);
        let same = tied.with_tensors(|tensors| {
            let embedding = tensors["model.embed_tokens.weight"].clone();
            tensors.insert("lm_head.weight".to_owned(), embedding);
        });
        tally.look(&folder("asked"), &same, &change, &[], COMPUTED);
        let untied = Model::hf(family).with_tensors(|tensors| {
            tensors.remove("lm_head.weight");
        });
        tally.look(&folder("asked"), &untied, &change, &["tie_word_embeddings"], REFUSED);
    }
    tally.check(80, 80);
}

#[test]
fn every_key_of_gguf_that_is_changed_is_computed_or_named() {
    let mut tally = Tally::default();
    let folder = folder("gguf-keys");
    let hostile = || {
        vec![
            GgufValue::U32(0),
            GgufValue::U32(1),
            GgufValue::U32(3),
            GgufValue::I32(-1),
            GgufValue::F32(0.5),
            GgufValue::F32(-0.5),
            GgufValue::F32(f32::NAN),
            GgufValue::F32(1e-3),
            GgufValue::F32(500.0),
            GgufValue::Bool(true),
            GgufValue::from("text"),
            GgufValue::Array(Array::I32(vec![2, 2])),
            GgufValue::Array(Array::I32(vec![2, 3])),
        ]
    };
    for family in ["llama", "qwen2", "qwen3"] {
        let model = Model::gguf(family);
        let n_general = 4;
        for (at, (key, _)) in metadata(family).into_iter().enumerate() {
            let own = key.strip_prefix(&format!("{family}.")).unwrap_or(&key).to_owned();
            let named: &[&str] = match own.as_str() {
                own if SHAPES.contains(&own) => {
                    &[".weight", "heads", "layers", "width", "channels", "context length"]
                }
                "general.architecture" => &["architecture"],
                _ => &[],
            };
            let named = [&[key.as_str()], named].concat();
            for value in hostile() {
                let changed = model.with_key(&key, value.clone());
                tally.look(
                    &folder,
                    &changed,
                    &format!("{family}: {key} = {value:?}"),
                    &named,
                    Must::ComputeOrRefuse,
                );
            }
            let Model::Gguf { keys, tensors } = &model else { unreachable!("made as GGUF") };
            let without: Vec<_> = keys.iter().filter(|(found, _)| *found != key).cloned().collect();
            let dropped = Model::Gguf { keys: without.clone(), tensors: tensors.clone() };
            tally.look(&folder, &dropped, &format!("{family}: without {key}"), &named, Must::ComputeOrRefuse);
            let value = keys.iter().find(|(found, _)| *found == key).expect("a key of the file").1.clone();
            let renamed = [without, vec![(format!("{key}_x"), value)]].concat();
            let renamed = Model::Gguf { keys: renamed, tensors: tensors.clone() };
            let must = if at < n_general { Must::ComputeOrRefuse } else { Must::Refuse };
            tally.look(&folder, &renamed, &format!("{family}: {key}_x"), &named, must);
        }
        let own = |key: &str| format!("{family}.{key}");
        let half = if family == "qwen3" { 8 } else { 4 };
        let divisors = |name: &str| Tensor {
            shape: vec![half],
            values: random(name, &[half]).values.iter().map(|x| 1.5 + x.abs()).collect(),
        };
        let with = |name: &str| {
            model.with_tensors(|tensors| {
                tensors.insert(name.to_owned(), divisors(name));
            })
        };
        let linear = model.with_key(&own("rope.scaling.type"), "linear".into());
        let longrope = with("rope_factors_short.weight")
            .with_tensors(|tensors| {
                tensors.insert("rope_factors_long.weight".to_owned(), divisors("long"));
            })
            .with_key(&own("rope.scaling.type"), "longrope".into())
            .with_key(&own("rope.scaling.attn_factor"), 1.19f32.into())
            .with_key(&own("rope.scaling.original_context_length"), 11u32.into());
        for (changed, named, must) in [
            (with("rope_freqs.weight"), "", Must::Compute),
            (with("rope_factors_short.weight"), "rope_factors_short.weight", Must::Refuse),
            (linear.with_key(&own("rope.scaling.factor"), 2f32.into()), "", Must::Compute),
            (model.with_key(&own("rope.scaling.factor"), 2f32.into()), "", Must::Compute),
            (linear.clone(), "rope.scaling.factor", Must::Refuse),
            (longrope, "", Must::Compute),
            (model.with_key(&own("rope.scaling.type"), "su".into()), "su", Must::Refuse),
            (model.with_key(&own("rope.scaling.attn_factor"), 1.5f32.into()), "attn_factor", Must::Refuse),
            (model.with_key(&own("attention.sliding_window"), 6u32.into()), "", Must::Compute),
            (model.with_key(&own("logit_scale"), 1f32.into()), "", Must::Compute),
            (model.with_key(&own("logit_scale"), 0.5f32.into()), "logit_scale", Must::Refuse),
            (model.with_key(&own("expert_count"), 8u32.into()), "expert_count", Must::Refuse),
            (model.with_key(&own("expert_count"), 0u32.into()), "", Must::Compute),
            (model.with_key(&own("attention.scale"), 0.5f32.into()), "attention.scale", Must::Refuse),
            (model.with_key(&own("rope.freq_base_swa"), 1e4f32.into()), "freq_base_swa", Must::Refuse),
            (model.with_key(&own("final_logit_softcapping"), 30f32.into()), "softcapping", Must::Refuse),
            (model.with_key("general.type", "adapter".into()), "general.type", Must::Refuse),
            (model.with_key("general.author", "somebody".into()), "", Must::Compute),
            (model.with_key("somebody.note", 1u32.into()), "", Must::Compute),
            (model.with_key("xielu.beta", 1f32.into()), "xielu.beta", Must::Refuse),
        ] {
            tally.look(&folder, &changed, &format!("{family}: {named} added"), &[named], must);
        }
    }
    tally.check(60, 350);
}

#[test]
fn a_tensor_without_its_prefix_is_found_and_named() {
    let model = Model::hf("llama").with_tensors(|tensors| {
        let all = std::mem::take(tensors);
        tensors.extend(all.into_iter().map(|(name, t)| (name.trim_start_matches("model.").to_owned(), t)));
    });
    let error = model.run(&folder("prefix"), Unread::Refuse).unwrap_err().to_string();
    assert_eq!(
        error,
        "the model has no tensor `model.embed_tokens.weight`, but one called `embed_tokens.weight`"
    );
}

#[test]
fn the_output_is_as_large_as_the_vocabulary() {
    let rows = Model::hf("llama").run(&folder("rows"), Unread::Refuse).expect("a good model");
    assert_eq!((rows.len(), rows[0].len()), (IDS.len(), N_VOCAB));
}
