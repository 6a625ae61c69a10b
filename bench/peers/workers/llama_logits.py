"""Rows of logits from llama.cpp, in the format of `lossy logits`; with an f16 cache, and on the CPU.

usage: llama_logits.py MODEL.gguf --ids 1,2,3 [--last N] [--threads 2] [--setting 'f16, fa on'] -o ROWS.f32
"""
import argparse
import ctypes
import pathlib

import llama_cpp as lib
from llama_worker import N_BATCH, SETTINGS, load_model, new_context


def main() -> None:
    arguments = argparse.ArgumentParser(description="Write llama.cpp's logits as raw float32 rows.")
    arguments.add_argument("model")
    arguments.add_argument("--ids", required=True, help="comma list of token ids")
    arguments.add_argument("--last", type=int, default=1, help="how many of the last rows to write")
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--setting", choices=SETTINGS, default="f16, fa off")
    arguments.add_argument("-o", "--output", type=pathlib.Path, required=True)
    args = arguments.parse_args()

    ids = [int(text) for text in args.ids.split(",")]
    if len(ids) > N_BATCH or not 0 < args.last <= len(ids):
        raise SystemExit(f"error: {len(ids)} ids (at most {N_BATCH}), and --last {args.last} of them")
    model = load_model(args.model)
    n_vocab = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))
    context = new_context(model, args.setting, max(len(ids), 256), args.threads)
    batch = lib.llama_batch_init(len(ids), 0, 1)
    batch.n_tokens = len(ids)
    for position, token in enumerate(ids):
        batch.token[position], batch.pos[position] = token, position
        batch.n_seq_id[position], batch.seq_id[position][0] = 1, 0
        batch.logits[position] = position >= len(ids) - args.last
    status = lib.llama_decode(context, batch)
    if status != 0:
        raise SystemExit(f"error: llama_decode returned {status}")
    with args.output.open("wb") as out:
        for position in range(len(ids) - args.last, len(ids)):
            out.write(ctypes.string_at(lib.llama_get_logits_ith(context, position), 4 * n_vocab))


if __name__ == "__main__":
    main()
