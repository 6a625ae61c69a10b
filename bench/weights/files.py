#!/usr/bin/env python3
"""Measure GGUF files against the model that they were made of: quantized, pruned, distilled.

usage: python3 bench/weights/files.py MODEL.gguf FILE.gguf... [--windows N] [--llama]
$LOSSY names another program than target/release/lossy.

Figures are those of run.py: KL divergence in nats from MODEL's predictions on the bundled text, with its standard error over windows,
also by text, and how often the most likely token is the same. With --llama, llama.cpp loads every file too, and the divergence of its predictions
from lossy's on the first window is said: both round activations, so it is small and not 0.
"""
import argparse
import pathlib
import subprocess
import tempfile

import numpy as np

import library
from run import SKIP, TEXTS, predictions, windows


def llama_predictions(path: str, ids: list[int], work: pathlib.Path) -> np.ndarray:
    """As `predictions`, by llama.cpp."""
    python = library.environments().python_of(library.environments().LLAMA)
    script, out = pathlib.Path(__file__).with_name("llama_logits.py"), work / "llama"
    done = subprocess.run([str(python), str(script), path, ",".join(map(str, ids)), str(out)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"error: llama.cpp does not run {path}: {done.stderr.strip()[-500:]}")
    logits = np.fromfile(out, np.float32).reshape(len(ids), -1)[SKIP:-1].astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("files", nargs="+")
    parser.add_argument("--windows", type=int, default=10)
    parser.add_argument("--llama", action="store_true")
    options = parser.parse_args()
    figures = {path: [] for path in options.files}
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        for at, ids in enumerate(windows(options.model, options.windows)):
            reference = predictions(options.model, ids, work)
            probabilities, top = np.exp(reference), reference.argmax(axis=1)
            for path in options.files:
                found = predictions(path, ids, work)
                kl = (probabilities * (reference - found)).sum(axis=1)
                figures[path].append((kl.mean(), (found.argmax(axis=1) == top).mean()))
                if options.llama and at == 0:
                    theirs = llama_predictions(path, ids, work)
                    apart = (np.exp(found) * (found - theirs)).sum(axis=1).mean()
                    same = (found.argmax(axis=1) == theirs.argmax(axis=1)).mean()
                    print(f"{path}: llama.cpp's predictions are {apart:.5f} nats from lossy's, the same top token in {100 * same:.1f} %", flush=True)
    for path, rows in figures.items():
        # `windows` gives the first texts one more where the number does not divide.
        n_each = [options.windows // len(TEXTS) + (i < options.windows % len(TEXTS)) for i in range(len(TEXTS))]
        parts = np.split(np.array(rows)[:, 0], np.cumsum(n_each)[:-1])
        by_text = ", ".join(f"{name} {part.mean():.4f}" for name, part in zip(TEXTS, parts) if len(part))
        (kl, same), error = np.mean(rows, axis=0), np.std(rows, axis=0)[0] / max(1, len(rows) - 1) ** 0.5
        print(f"{path}: KL {kl:.4f} ± {error:.4f}, same top token {100 * same:.1f} %; {by_text}")


if __name__ == "__main__":
    main()
