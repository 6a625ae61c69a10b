#!/usr/bin/env python3
"""Quantize a model with lossy and with llama.cpp, and measure both files against the model that they were made of.

usage: python3 bench/weights/run.py MODEL.gguf [--recipes q4_k_m,q2_k] [--imatrix FILE] [--planned] [--windows N] [--work FOLDER]
$LOSSY names another program than target/release/lossy.

MODEL is F16: an original, or what tools/dither.py makes of a quantized file. llama.cpp's side is `llama_model_quantize` of its own
library. Both get the same importances, or none. The files must have the same types, tensor by tensor, and so the same size; the
program checks that. `lossy logits` computes the predictions of all three models on the bundled text, in windows of 512 tokens, and
the last 480 of each count: KL divergence in nats from MODEL's, and how often the most likely token is the same. It also decodes
every tensor of lossy's file with the Python package gguf and compares the floats with those that lossy decodes. --planned adds a
file of `lossy compress` that is not larger than llama.cpp's.
"""
import argparse
import os
import pathlib
import subprocess
import tempfile
import time

import gguf
import numpy as np
from gguf.quants import dequantize

import library

ROOT = pathlib.Path(__file__).resolve().parents[2]
LOSSY = pathlib.Path(os.environ.get("LOSSY", ROOT / "target" / "release" / "lossy"))
TEXTS = ("prose", "code", "dialogue")
WINDOW, SKIP = 512, 31


def lossy(*arguments: str) -> str:
    done = subprocess.run([str(LOSSY), *arguments], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"error: lossy {arguments[0]}: {done.stderr.strip()}")
    return done.stdout


def windows(model: str, count: int) -> list[list[int]]:
    """Pieces of the bundled text, evenly spread over its parts."""
    found = []
    for i, name in enumerate(TEXTS):
        ids = [int(line.split()[0]) for line in lossy("tokenize", model, "-f", str(ROOT / "crates/eval/text" / f"{name}.txt")).splitlines() if line.split()[:1] and line.split()[0].isdigit()]
        share = count // len(TEXTS) + (i < count % len(TEXTS))
        step = (len(ids) - WINDOW) // max(1, share)
        found += [ids[k * step : k * step + WINDOW] for k in range(share)]
    return found


def predictions(model: str, ids: list[int], work: pathlib.Path) -> np.ndarray:
    """Log-probabilities after each token from SKIP on but the last."""
    path = work / "logits"
    lossy("logits", model, "--ids", ",".join(map(str, ids)), "-o", str(path))
    logits = np.fromfile(path, np.float32).reshape(len(ids), -1)[SKIP:-1].astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def types(path: str) -> dict[str, str]:
    return {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(path).tensors}


def check_floats(path: str, work: pathlib.Path) -> int:
    """Every tensor decoded by lossy (to a file of F32) has the floats that gguf decodes."""
    wide = str(work / "wide.gguf")
    lossy("quantize", path, wide, "f16", "--tensor-type", ".=f32")
    ours = {tensor.name: tensor for tensor in gguf.GGUFReader(wide).tensors}
    for tensor in gguf.GGUFReader(path).tensors:
        theirs = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        mine = ours[tensor.name].data.reshape(theirs.shape)
        if not np.array_equal(mine, theirs):
            raise SystemExit(f"error: {tensor.name}: gguf decodes other floats than lossy")
    return len(ours)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--recipes", default="q4_k_m,q2_k")
    parser.add_argument("--imatrix")
    parser.add_argument("--planned", action="store_true")
    parser.add_argument("--windows", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--work", help="where files are kept [default: a folder that is removed]")
    options = parser.parse_args()
    importances = library.read_imatrix(options.imatrix) if options.imatrix else None
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(options.work or folder)
        files = {}
        for recipe in options.recipes.split(","):
            mine, theirs = str(work / f"lossy-{recipe}.gguf"), str(work / f"llama-{recipe}.gguf")
            extra = ["--imatrix", options.imatrix] if options.imatrix else []
            start = time.perf_counter()
            lossy("quantize", options.model, mine, recipe, "-t", str(options.threads), *extra)
            ours_s = time.perf_counter() - start
            library.quantize_model(options.model, theirs, recipe, importances, options.threads)
            theirs_s = time.perf_counter() - start - ours_s
            if types(mine) != types(theirs):
                different = [name for name, kind in types(mine).items() if types(theirs)[name] != kind]
                raise SystemExit(f"error: {recipe}: other types for {different[:5]}")
            n = check_floats(mine, work)
            print(f"{recipe}: the same types; {n} tensors decoded alike; lossy {ours_s:.1f} s, llama.cpp {theirs_s:.1f} s", flush=True)
            files[recipe] = [mine, theirs]
            if options.planned:
                planned, size = str(work / f"planned-{recipe}.gguf"), os.path.getsize(theirs)
                start = time.perf_counter()
                lossy("compress", options.model, "-o", planned, "--max-size", str(size), "-t", str(options.threads))
                check_floats(planned, work)
                print(f"{recipe}: planned {os.path.getsize(planned)} bytes of {size}, {time.perf_counter() - start:.1f} s", flush=True)
                files[recipe].append(planned)
        sums = {(recipe, side): [] for recipe in files for side in range(len(files[recipe]))}
        for ids in windows(options.model, options.windows):
            reference = predictions(options.model, ids, work)
            probabilities, top = np.exp(reference), reference.argmax(axis=1)
            for (recipe, side), figures in sums.items():
                found = predictions(files[recipe][side], ids, work)
                kl = (probabilities * (reference - found)).sum(axis=1)
                figures.append((kl.mean(), (found.argmax(axis=1) == top).mean()))
        print("recipe    KL: lossy   llama.cpp    ratio    same top token: lossy   llama.cpp")
        for recipe in files:
            (kl, same), (their_kl, their_same) = (np.mean(sums[recipe, side], axis=0) for side in (0, 1))
            print(f"{recipe:8s}  {kl:9.4f}   {their_kl:9.4f}   {kl / their_kl:6.3f}    {100 * same:20.1f} %   {100 * their_same:7.1f} %")
            if options.planned:
                kl, same = np.mean(sums[recipe, 2], axis=0)
                print(f"planned   {kl:9.4f}   {their_kl:9.4f}   {kl / their_kl:6.3f}    {100 * same:20.1f} %")


if __name__ == "__main__":
    main()
