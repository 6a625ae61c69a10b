"""llama.cpp, driven through llama-cpp-python's bindings of its C API the way llama-bench drives it.

usage: llama_worker.py MODEL.gguf --threads N [--depth-fill prefill|copies] [--states DIR]
                                                             (run.py starts it; see protocol.py)

- A prompt is decoded in batches of at most 2,048 tokens, which llama.cpp computes in pieces of 512; only the last
  token's logits are asked for. A generation decodes one random token at a time. Nothing is sampled.
- A context is made for each setting and depth, with room for what the tests at that depth need, and kept; its cache
  is filled once, and cut back to that depth after each test.
- With --depth-fill copies only the first 2,048 tokens of a fill are prefilled; the others are copies (llama_state.py).
- With --states the prefilled cache is stored in DIR, so that the next run need not prefill it again.
"""
import argparse
import ctypes
import math
import pathlib
import random
import time

import llama_cpp as lib
import llama_state
import protocol

CACHE_TYPES = {"f16": lib.GGML_TYPE_F16, "q8_0": lib.GGML_TYPE_Q8_0, "q4_0": lib.GGML_TYPE_Q4_0}
# The cache's values can be quantized only with flash attention.
SETTINGS = {
    "f16, fa off": ("f16", lib.LLAMA_FLASH_ATTN_TYPE_DISABLED),
    "f16, fa on": ("f16", lib.LLAMA_FLASH_ATTN_TYPE_ENABLED),
    "q8_0, fa on": ("q8_0", lib.LLAMA_FLASH_ATTN_TYPE_ENABLED),
    "q4_0, fa on": ("q4_0", lib.LLAMA_FLASH_ATTN_TYPE_ENABLED),
}
N_BATCH, N_UBATCH = 2048, 512
FILL_SEED = 1
# As many tokens of a depth are prefilled where the others are copies; as many as `lossy bench` prefills.
N_PREFILL = 2048

# Kept for as long as the library may log: the pointer itself keeps nothing alive.
quiet = lib.llama_log_callback(lambda level, text, data: None)


def load_model(path: str):
    lib.llama_log_set(quiet, ctypes.c_void_p(0))
    lib.llama_backend_init()
    model = lib.llama_model_load_from_file(path.encode(), lib.llama_model_default_params())
    if not model:
        raise RuntimeError(f"llama.cpp cannot load {path}")
    return model


def new_context(model, setting: str, n_ctx: int, n_threads: int):
    cache, flash_attention = SETTINGS[setting]
    params = lib.llama_context_default_params()
    params.n_ctx, params.n_batch, params.n_ubatch = n_ctx, N_BATCH, N_UBATCH
    params.n_threads = params.n_threads_batch = n_threads
    params.flash_attn_type = flash_attention
    params.type_k = params.type_v = CACHE_TYPES[cache]
    context = lib.llama_init_from_model(model, params)
    if not context:
        raise RuntimeError(f"llama.cpp cannot make a context of {n_ctx} tokens with {setting}")
    return context


def decode(context, tokens: list[int], n_batch: int) -> None:
    """Append `tokens` to sequence 0, `n_batch` at a time, and wait for the last one's logits."""
    for start in range(0, len(tokens), n_batch):
        part = tokens[start : start + n_batch]
        array = (lib.llama_token * len(part))(*part)
        status = lib.llama_decode(context, lib.llama_batch_get_one(array, len(part)))
        if status != 0:
            raise RuntimeError(f"llama_decode returned {status}")
        if n_batch == 1:
            lib.llama_synchronize(context)
    lib.llama_synchronize(context)


def cut(context, n_tokens: int) -> None:
    if not lib.llama_memory_seq_rm(lib.llama_get_memory(context), 0, n_tokens, -1):
        raise RuntimeError(f"llama.cpp cannot cut its cache back to {n_tokens} tokens")


class Bench:
    """One model and the contexts made for it so far."""

    def __init__(self, path: str, n_threads: int, depth_fill: str, states: pathlib.Path | None):
        self.path, self.n_threads, self.depth_fill, self.states = pathlib.Path(path), n_threads, depth_fill, states
        self.model = load_model(path)
        self.n_vocab = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(self.model))
        self.contexts: dict[tuple[str, int], tuple[int, object]] = {}

    def random_tokens(self, seed: int, n_tokens: int) -> list[int]:
        rng = random.Random(seed)
        return [rng.randrange(self.n_vocab) for _ in range(n_tokens)]

    def context(self, setting: str, n_depth: int, n_new: int):
        """A context whose cache holds exactly `n_depth` tokens and has room for `n_new` more."""
        n_ctx, context = self.contexts.get((setting, n_depth), (0, None))
        if n_ctx < n_depth + n_new:
            if context:
                lib.llama_free(context)
            n_ctx = n_depth + n_new
            context = new_context(self.model, setting, n_ctx, self.n_threads)
            self.contexts[setting, n_depth] = n_ctx, context
            n_prefill = min(n_depth, N_PREFILL) if self.depth_fill == "copies" else n_depth
            if n_prefill:
                self.prefill(context, setting, n_prefill)
            if n_prefill < n_depth:
                self.extend_with_copies(context, n_depth)
        else:
            cut(context, n_depth)
        return context

    def prefill(self, context, setting: str, n_depth: int) -> None:
        tokens = self.random_tokens(FILL_SEED, n_depth)
        array = (lib.llama_token * n_depth)(*tokens)
        file = None
        if self.states:
            version = lib.llama_version().decode()
            name = f"{self.path.stem}-{self.path.stat().st_size}-{version}-{setting}-d{n_depth}.state"
            file = self.states / name.replace(", ", "-").replace(" ", "-")
            n_found = ctypes.c_size_t(0)
            if file.exists() and lib.llama_state_seq_load_file(
                context, str(file).encode(), 0, array, n_depth, ctypes.byref(n_found)
            ):
                if n_found.value != n_depth:
                    raise RuntimeError(f"{file} holds {n_found.value} tokens instead of {n_depth}")
                return
        decode(context, tokens, N_BATCH)
        if file:
            file.parent.mkdir(parents=True, exist_ok=True)
            if not lib.llama_state_seq_save_file(context, str(file).encode(), 0, array, n_depth):
                raise RuntimeError(f"llama.cpp cannot write {file}")

    def extend_with_copies(self, context, n_depth: int) -> None:
        n_bytes = lib.llama_state_seq_get_size(context, 0)
        state = (ctypes.c_uint8 * n_bytes)()
        if lib.llama_state_seq_get_data(context, state, n_bytes, 0) != n_bytes:
            raise RuntimeError(f"llama.cpp does not give the {n_bytes} bytes of its cache")
        longer = llama_state.with_copies(bytes(state), n_depth)
        array = (ctypes.c_uint8 * len(longer)).from_buffer(longer)
        if lib.llama_state_seq_set_data(context, array, len(longer), 0) != len(longer):
            raise RuntimeError(f"llama.cpp does not take a cache of {n_depth} tokens, {len(longer)} bytes")
        memory = lib.llama_get_memory(context)
        first, last = lib.llama_memory_seq_pos_min(memory, 0), lib.llama_memory_seq_pos_max(memory, 0)
        if (first, last) != (0, n_depth - 1) or lib.llama_state_seq_get_size(context, 0) != len(longer):
            raise RuntimeError(f"llama.cpp holds the positions {first} to {last}, not 0 to {n_depth - 1}")
        decode(context, self.random_tokens(FILL_SEED, 1), 1)
        logits = lib.llama_get_logits_ith(context, -1)
        if not all(math.isfinite(logits[token]) for token in range(self.n_vocab)):
            raise RuntimeError(f"not all logits behind {n_depth} tokens are finite")
        cut(context, n_depth)

    def measure(self, request: dict) -> float:
        n_prompt, n_gen, n_depth = request["n_prompt"], request["n_gen"], request["n_depth"]
        context = self.context(request["setting"], n_depth, n_prompt + n_gen)
        tokens = self.random_tokens(request["seed"], n_prompt + n_gen)
        start = time.perf_counter()
        if n_prompt:
            decode(context, tokens[:n_prompt], N_BATCH)
        if n_gen:
            decode(context, tokens[n_prompt:], 1)
        return time.perf_counter() - start


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("model")
    arguments.add_argument("--threads", type=int, required=True)
    arguments.add_argument("--depth-fill", choices=["prefill", "copies"], default="prefill")
    arguments.add_argument("--states", type=pathlib.Path)
    args = arguments.parse_args()

    def start():
        bench = Bench(args.model, args.threads, args.depth_fill, args.states)
        version = f"{lib.llama_version().decode()} (llama-cpp-python {lib.__version__})"
        about = {"version": version, "settings": list(SETTINGS), "build": lib.llama_print_system_info().decode()}
        return about, bench.measure

    protocol.serve(start)


if __name__ == "__main__":
    main()
