"""Ids that llama.cpp gives to hostile strings under every pre-tokenizer, with the vocabulary of SmolLM2.

usage: make_pre_tokenizer_fixtures.py MODEL.gguf OUT_FILE
  needs: gguf, llama-cpp-python
The strings are those of strings.json beside OUT_FILE. OUT_FILE holds, for every name of a pre-tokenizer, one number per string:
FNV-1a (32 bits) of its ids as little-endian 32-bit numbers. The ids themselves would be ten times that.
"""
import json, pathlib, struct, sys, tempfile
import gguf, llama_cpp

NAMES = ["default", "gpt-2", "smollm", "qwen2", "qwen35", "llama-bpe", "dbrx", "tekken", "gpt-4o", "deepseek-v3", "falcon"]

def fnv1a(ids):
    h = 0x811C9DC5
    for byte in struct.pack(f"<{len(ids)}I", *ids):
        h = (h ^ byte) * 0x01000193 & 0xFFFFFFFF
    return h

reader = gguf.GGUFReader(sys.argv[1])
field = lambda key: reader.fields["tokenizer.ggml." + key].contents()
tokens, types, merges = field("tokens"), field("token_type"), field("merges")
out_file = pathlib.Path(sys.argv[2])
texts = json.loads((out_file.parent / "strings.json").read_text())
out = {"made_with": {"llama-cpp-python": llama_cpp.__version__, "vocabulary": pathlib.Path(sys.argv[1]).name}, "fnv1a": {}}
for name in NAMES:
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/vocab.gguf"
        writer = gguf.GGUFWriter(path, "llama")
        writer.add_block_count(1); writer.add_context_length(64); writer.add_embedding_length(32); writer.add_head_count(1)
        writer.add_feed_forward_length(32); writer.add_layer_norm_rms_eps(1e-5)
        writer.add_tokenizer_model("gpt2"); writer.add_tokenizer_pre(name); writer.add_token_list(tokens)
        writer.add_token_types(types); writer.add_token_merges(merges); writer.add_bos_token_id(1); writer.add_eos_token_id(2)
        writer.write_header_to_file(); writer.write_kv_data_to_file(); writer.write_tensors_to_file(); writer.close()
        model = llama_cpp.Llama(path, vocab_only=True, verbose=False)
        ids = [model.tokenize(s.encode(), add_bos=False, special=False) for s in texts]
    if len(sys.argv) > 3:
        json.dump(ids, open(f"{sys.argv[3]}/{name}.json", "w"))
    out["fnv1a"][name] = [fnv1a(i) for i in ids]
    print(name, flush=True)
json.dump(out, open(out_file, "w"), separators=(",", ":"))
