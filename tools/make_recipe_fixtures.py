#!/usr/bin/env python3
"""Write testdata/recipes: the types that llama.cpp chooses, for models of several shapes and every recipe.

usage: python3 tools/make_recipe_fixtures.py        needs gguf==0.19.0; llama.cpp is the library that bench/weights uses

For each model a file of zeros is made, with its shapes but narrow where width does not matter, and `llama_model_quantize` is asked
for a dry run, whose messages say which type each tensor would get. A fixture has: the key values that our rules ask for, the tensors
with their shapes, and for every recipe (as it is, with importances, pure) a letter for the type of each tensor, in their order.
"""
import ctypes
import json
import pathlib
import re
import sys
import tempfile

import gguf
import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[1]
OUT = ROOT / "testdata" / "recipes"
sys.path.insert(0, str(ROOT / "bench" / "weights"))
import library  # noqa: E402

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
LINE = re.compile(r"\] (\S+)\s+- \[.*?\], type = +(\S+), size = .*?(?:\((\S+)\))?\s*$")


def llama(name: str, n_layers: int, width: int, ffn: int, heads: int, kv_heads: int, *, experts: int = 0, tied: bool = True, architecture: str = "llama", vocabulary: int = 32) -> dict:
    """A model: its keys and its tensors, shapes as GGUF has them (rows last)."""
    keys = {
        "block_count": n_layers,
        "context_length": 128,
        "embedding_length": width,
        "feed_forward_length": ffn,
        "attention.head_count": heads,
        "attention.head_count_kv": kv_heads,
        "attention.layer_norm_rms_epsilon": 1e-5,
    }
    if experts:
        keys |= {"expert_count": experts, "expert_used_count": 2}
    kv_width = width // heads * kv_heads
    tensors = {"token_embd.weight": [width, vocabulary], "output_norm.weight": [width]}
    if not tied:
        tensors["output.weight"] = [width, vocabulary]
    for i in range(n_layers):
        layer = {"attn_norm": [width], "attn_q": [width, width], "attn_k": [width, kv_width], "attn_v": [width, kv_width], "attn_output": [width, width], "ffn_norm": [width]}
        if experts:
            layer |= {"ffn_gate_inp": [width, experts], "ffn_gate_exps": [width, ffn, experts], "ffn_up_exps": [width, ffn, experts], "ffn_down_exps": [ffn, width, experts]}
        else:
            layer |= {"ffn_gate": [width, ffn], "ffn_up": [width, ffn], "ffn_down": [ffn, width]}
        tensors |= {f"blk.{i}.{name}.weight": shape for name, shape in layer.items()}
    return {"name": name, "architecture": architecture, "keys": keys, "tensors": tensors}


MODELS = [
    # The shapes of the test models: 256 divides neither 576 nor 896.
    llama("smollm2", 30, 576, 1536, 9, 3, vocabulary=64),
    llama("qwen2.5-0.5b", 24, 896, 4864, 14, 2, architecture="qwen2", vocabulary=64),
    llama("grouped", 32, 256, 256, 8, 2, tied=False),
    llama("ungrouped", 13, 512, 256, 8, 8),
    llama("70b", 80, 256, 256, 16, 2, tied=False),
    llama("mixtral", 16, 256, 512, 8, 2, experts=8, tied=False),
    llama("four experts", 12, 256, 256, 8, 4, experts=4, tied=False),
    llama("narrow", 4, 96, 48, 2, 1),
]


def write(model: dict, path: pathlib.Path) -> None:
    writer = gguf.GGUFWriter(path, model["architecture"])
    for key, value in model["keys"].items():
        add = writer.add_float32 if isinstance(value, float) else writer.add_uint32
        add(f"{model['architecture']}.{key}", value)
    vocabulary = model["tensors"]["token_embd.weight"][1]
    writer.add_tokenizer_model("none")
    writer.add_vocab_size(vocabulary)
    for name, shape in model["tensors"].items():
        kind = np.float32 if len(shape) == 1 or "gate_inp" in name else np.float16
        writer.add_tensor(name, np.zeros(shape[::-1], kind))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def choices(path: pathlib.Path, file_type: int, with_importances: bool, pure: bool) -> dict[str, str]:
    """Types by tensor, out of what a dry run says."""
    messages = []
    with library.messages_to(messages):
        parameters = library.parameters(file_type)
        parameters.dry_run = True
        parameters.pure = pure
        if with_importances:
            library.set_importances(parameters, {"blk.0.attn_q.weight": np.ones(1, np.float32)})
        if library.llama().llama_model_quantize(str(path).encode(), b"", ctypes.byref(parameters)):
            raise SystemExit("error: " + "".join(messages[-3:]))
    found = {}
    for line in "".join(messages).splitlines():
        match = LINE.search(line)
        if match:
            found[match[1]] = (match[3] or match[2]).upper()
    return found


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    for model in MODELS:
        out = {"architecture": model["architecture"], "keys": model["keys"], "tensors": model["tensors"], "letters": {}, "recipes": {}}
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "model.gguf"
            write(model, path)
            for recipe, file_type in library.FILE_TYPES.items():
                for suffix, importances, pure in (("", False, False), (" imatrix", True, False), (" pure", False, True)):
                    found = choices(path, file_type, importances, pure)
                    if found.keys() != model["tensors"].keys():
                        raise SystemExit(f"error: {recipe} of {model['name']}: {len(found)} tensors of {len(model['tensors'])} were told")
                    for kind in found.values():
                        out["letters"].setdefault(kind, LETTERS[len(out["letters"])])
                    out["recipes"][recipe + suffix] = "".join(out["letters"][found[name]] for name in model["tensors"])
        (OUT / f"{model['name'].replace(' ', '-')}.json").write_text(json.dumps(out, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
