"""A GGUF file as a Hugging Face directory, and whether a GGUF that was made of such a directory says the same again.

usage: gguf_to_directory.py MODEL.gguf OUT_DIR [--type f16|bf16|f32] [--shards N]
       gguf_to_directory.py MODEL.gguf MADE.gguf --compare
  needs: gguf, numpy

The first writes config.json, the weights as safetensors (Q and K of `llama` in the order of transformers), tokenizer.json and
tokenizer_config.json with the pipelines that SmolLM2 and Qwen2 publish. The second fails unless MADE.gguf, of the directory, has the
values of MODEL.gguf rounded to its own types, and its keys of shapes, tokens, merges, ids and chat template.
"""
import argparse, json, pathlib, struct
import gguf, numpy as np

QWEN2 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
WORDS = {
    "qwen2": [{"type": "Split", "pattern": {"Regex": QWEN2}, "behavior": "Isolated", "invert": False}, BYTES | {"use_regex": False}],
    "smollm": [{"type": "Digits", "individual_digits": True}, BYTES | {"use_regex": True}],
}
IN_LAYER = {"attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
            "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
            "ffn_down": "mlp.down_proj", "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}
OUTSIDE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}

def keys(path):
    reader = gguf.GGUFReader(path)
    return reader, {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}

def values(tensor):
    n = tuple(int(n) for n in reversed(tensor.shape))
    return gguf.dequantize(tensor.data, tensor.tensor_type).reshape(n).astype(np.float32)

def stored(array, kind):
    if kind == "f16": return "F16", array.astype("<f2").tobytes()
    if kind == "f32": return "F32", array.astype("<f4").tobytes()
    bits = array.astype("<f4").view("<u4").astype(np.uint64)  # round to nearest, ties to even
    return "BF16", ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2").tobytes()

def directory_name(name):
    stem, kind = name.rsplit(".", 1)
    if stem in OUTSIDE: return f"{OUTSIDE[stem]}.{kind}"
    _, layer, part = stem.split(".")
    return f"model.layers.{layer}.{IN_LAYER[part]}.{kind}"

def half_split(rows, n_heads):
    """Neighbours 2i and 2i + 1 of a head become i and i + head_dim / 2."""
    return rows.reshape(n_heads, rows.shape[0] // n_heads // 2, 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)

def write_safetensors(path, tensors):
    header, at = {}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(data for _, _, data in tensors.values()))

def write(model, out, kind, n_shards):
    reader, k = keys(model)
    arch = k["general.architecture"]
    of = lambda key, default=None: k.get(f"{arch}.{key}", default)
    n_heads, n_kv = of("attention.head_count"), of("attention.head_count_kv")
    tensors = {}
    for tensor in reader.tensors:
        array = values(tensor)
        if arch == "llama" and ".attn_q." in tensor.name: array = half_split(array, n_heads)
        if arch == "llama" and ".attn_k." in tensor.name: array = half_split(array, n_kv)
        dtype, data = stored(array, kind)
        tensors[directory_name(tensor.name)] = (dtype, list(array.shape), data)
    out.mkdir(parents=True, exist_ok=True)
    if n_shards == 1:
        write_safetensors(out / "model.safetensors", tensors)
    else:
        names, shards = list(tensors), {}
        for shard in range(n_shards):
            file = f"model-{shard + 1:05}-of-{n_shards:05}.safetensors"
            mine = names[shard * len(names) // n_shards:(shard + 1) * len(names) // n_shards]
            write_safetensors(out / file, {name: tensors[name] for name in mine})
            shards |= {name: file for name in mine}
        (out / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": shards}))
    config = {"model_type": arch, "hidden_size": of("embedding_length"), "intermediate_size": of("feed_forward_length"),
              "num_hidden_layers": of("block_count"), "num_attention_heads": n_heads, "num_key_value_heads": n_kv,
              "max_position_embeddings": of("context_length"), "rms_norm_eps": float(of("attention.layer_norm_rms_epsilon")),
              "rope_theta": float(of("rope.freq_base", 10000.0)), "hidden_act": "silu", "tie_word_embeddings": "lm_head.weight" not in tensors,
              "vocab_size": len(k["tokenizer.ggml.tokens"])}
    (out / "config.json").write_text(json.dumps(config))
    tokens, types, pre = k["tokenizer.ggml.tokens"], k["tokenizer.ggml.token_type"], k["tokenizer.ggml.pre"]
    added = [{"id": i, "content": text, "special": types[i] == 3, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
             for i, text in enumerate(tokens) if types[i] in (3, 4)]
    is_added = {token["id"] for token in added}
    unused = [i for i in range(len(tokens)) if types[i] == 5]
    last = max(i for i in range(len(tokens)) if i not in is_added and i not in unused)
    # Added tokens get the ids behind the vocabulary, but for those that are in it.
    vocab = {text: i for i, text in enumerate(tokens) if i <= last and i not in unused}
    words = {"type": "Sequence", "pretokenizers": WORDS[pre]}
    (out / "tokenizer.json").write_text(json.dumps({
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": {"type": "NFC"} if pre == "qwen2" else None,
        "pre_tokenizer": words, "post_processor": None, "decoder": BYTES | {"use_regex": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
                  "fuse_unk": False, "byte_fallback": False, "ignore_merges": False, "vocab": vocab, "merges": k["tokenizer.ggml.merges"]}}))
    named = {"bos": "bos", "eos": "eos", "pad": "padding"}
    roles = {f"{name}_token": tokens[k[f"tokenizer.ggml.{key}_token_id"]] for name, key in named.items() if f"tokenizer.ggml.{key}_token_id" in k}
    (out / "tokenizer_config.json").write_text(json.dumps(roles | {"chat_template": k.get("tokenizer.chat_template")}))

def compare(model, made):
    old_reader, old = keys(model)
    new_reader, new = keys(made)
    new_tensors = {tensor.name: tensor for tensor in new_reader.tensors}
    assert sorted(new_tensors) == sorted(tensor.name for tensor in old_reader.tensors), "names of tensors"
    for tensor in old_reader.tensors:
        found = new_tensors[tensor.name]
        kind = found.tensor_type.name.lower()
        wanted, got = values(tensor), values(found)
        assert got.ndim > 1 or kind == "f32", f"{tensor.name} is {kind}: llama.cpp takes vectors as F32 only"
        if got.ndim == 1:
            kind = new_tensors["token_embd.weight"].tensor_type.name.lower()  # what the directory had
        if kind != "f32":
            _, data = stored(wanted, kind)
            wanted = np.frombuffer(data, "<f2").astype(np.float32) if kind == "f16" else (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")
        assert np.array_equal(wanted.ravel(), got.ravel()), f"{tensor.name} ({kind})"
    arch = old["general.architecture"]
    same = [key for key in old if key.startswith(arch + ".") or key in (
        "general.architecture", "tokenizer.ggml.model", "tokenizer.ggml.pre", "tokenizer.ggml.tokens", "tokenizer.ggml.merges",
        "tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id", "tokenizer.ggml.padding_token_id", "tokenizer.chat_template")]
    for key in same:
        if key == "tokenizer.ggml.tokens":  # rows without a token may have any name
            types = old["tokenizer.ggml.token_type"]
            differing = [i for i, (a, b) in enumerate(zip(old[key], new[key])) if a != b and types[i] != 5]
            assert len(old[key]) == len(new[key]) and not differing, f"tokens {differing[:5]}"
        else:
            assert old[key] == new.get(key), f"{key}: {old[key]!r:.200} and {new.get(key)!r:.200}"
    print(f"{len(new_tensors)} tensors and {len(same)} keys are the same")

if __name__ == "__main__":
    p = argparse.ArgumentParser()
    p.add_argument("model"), p.add_argument("out", type=pathlib.Path)
    p.add_argument("--type", default="f16", choices=["f16", "bf16", "f32"])
    p.add_argument("--shards", type=int, default=1)
    p.add_argument("--compare", action="store_true")
    a = p.parse_args()
    if a.compare: compare(a.model, a.out)
    else: write(a.model, a.out, a.type, a.shards)
