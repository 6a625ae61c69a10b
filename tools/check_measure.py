#!/usr/bin/env python3
"""Compute the figures of `lossy measure` a second time, from raw logits, and compare. Needs numpy.

usage: check_measure.py MODEL --kv SCHEME -f TEXT [-c N_CTX] [--tokens N] [--skip N] [--activations q8|f32]
                        [--lossy PROGRAM]

Runs `lossy measure -o json`; then cuts the text into the same windows from what `lossy tokenize` says, has `lossy logits`
write all logits of the reference and of the setting for each window, and computes perplexities, KL divergences, changes
of probability and standard errors in float64. Prints every figure that differs by more than rounding allows (1e-6, and 1e-5 of
its size); exit code 1 if there is one. A window of 512 tokens is 100 MB of logits for a vocabulary of 49,152.
"""
import argparse
import json
import math
import pathlib
import subprocess
import sys
import tempfile

import numpy

PERCENTILES = {
    "max": 100, "p99_9": 99.9, "p99": 99, "p95": 95, "p90": 90, "p75": 75, "median": 50,
    "p25": 25, "p10": 10, "p5": 5, "p1": 1, "p0_1": 0.1, "min": 0,
}  # fmt: skip


def output(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def mean(values: numpy.ndarray) -> dict[str, float]:
    """A mean with its standard error."""
    error = values.std() / math.sqrt(len(values) - 1) if len(values) > 1 else 0.0
    return {"value": float(values.mean()), "se": float(error)}


def spread(values: numpy.ndarray) -> dict:
    levels = {name: float(numpy.percentile(values, level)) for name, level in PERCENTILES.items()}
    return {"mean": mean(values), **levels}


def log_softmax(logits: numpy.ndarray) -> numpy.ndarray:
    logits = logits.astype(numpy.float64)
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - numpy.log(numpy.exp(shifted).sum(axis=1, keepdims=True))


class Losses:
    """One value for each prediction that counts."""

    def __init__(self) -> None:
        self.kl: list[float] = []
        self.reference_nll: list[float] = []
        self.nll: list[float] = []
        self.same_top: list[float] = []
        self.depth: list[int] = []

    def add_window(self, ids: list[int], first: int, reference: numpy.ndarray, found: numpy.ndarray) -> None:
        """Rows of the positions `first` … len(ids) − 2."""
        for start in range(0, len(reference), 64):
            p, q = log_softmax(reference[start : start + 64]), log_softmax(found[start : start + 64])
            self.kl += (numpy.exp(p) * (p - q)).sum(axis=1).tolist()
            self.same_top += (p.argmax(axis=1) == q.argmax(axis=1)).astype(float).tolist()
            for row in range(len(p)):
                position = first + start + row
                self.reference_nll.append(-p[row, ids[position + 1]])
                self.nll.append(-q[row, ids[position + 1]])
                self.depth.append(position + 1)

    def figures(self) -> dict:
        kl, reference, found = map(numpy.array, (self.kl, self.reference_nll, self.nll))
        delta_p = numpy.exp(-found) - numpy.exp(-reference)
        squares = mean(delta_p**2)
        rms = math.sqrt(squares["value"])
        ln_ratio = mean(found - reference)
        ppl, ppl_reference = math.exp(found.mean()), math.exp(reference.mean())
        # d(e^x − e^y) = e^x dx − e^y dy, where x and y vary together.
        difference = mean(ppl * (found - found.mean()) - ppl_reference * (reference - reference.mean()))
        correlation = numpy.corrcoef(found, reference)[0, 1]
        return {
            "n_scored": len(kl),
            "ppl": {"value": ppl, "se": ppl * mean(found)["se"]},
            "ppl_reference": {"value": ppl_reference, "se": ppl_reference * mean(reference)["se"]},
            "ln_ppl_correlation": float(correlation),
            "ln_ppl_ratio": ln_ratio,
            "ppl_ratio": {"value": math.exp(ln_ratio["value"]), "se": math.exp(ln_ratio["value"]) * ln_ratio["se"]},
            "ppl_difference": {"value": ppl - ppl_reference, "se": difference["se"]},
            "kl": spread(kl),
            "delta_p": spread(delta_p),
            "delta_p_rms": {"value": rms, "se": squares["se"] / (2 * rms) if rms else 0.0},
            "same_top": mean(numpy.array(self.same_top)),
            "depths": self.by_depth(kl),
        }

    def by_depth(self, kl: numpy.ndarray) -> list[dict]:
        starts = [0 if depth < 512 else 2 ** int(math.log2(depth)) for depth in self.depth]
        return [
            {"from": start, "kl": mean(kl[[index for index, other in enumerate(starts) if other == start]])}
            for start in sorted(set(starts))
        ]


def differences(wanted, found, path: str = "") -> list[str]:
    """Every number of `wanted` that `found` has otherwise."""
    if isinstance(wanted, dict):
        return [line for key in wanted for line in differences(wanted[key], found[key], f"{path}.{key}".strip("."))]
    if isinstance(wanted, list):
        if len(wanted) != len(found):
            return [f"{path}: {len(found)} entries, not {len(wanted)}"]
        pairs = enumerate(zip(wanted, found))
        return [line for index, pair in pairs for line in differences(*pair, f"{path}[{index}]")]
    if abs(wanted - found) <= 1e-6 + 1e-5 * abs(wanted):
        return []
    return [f"{path}: {found}, not {wanted}"]


def rows(lossy: str, args: argparse.Namespace, ids: list[int], kv: str, n_vocab: int | None) -> numpy.ndarray:
    """The logits after every token of a window."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "logits.f32"
        listed = ",".join(map(str, ids))
        output([lossy, "logits", args.model, "--ids", listed, "--activations", args.activations, "--kv", kv]
               + ["-o", str(path)])  # fmt: skip
        values = numpy.fromfile(path, dtype="<f4")
    return values.reshape(len(ids), n_vocab or -1)


def main() -> int:
    parser = argparse.ArgumentParser(description="Check the figures of `lossy measure`.")
    parser.add_argument("model")
    parser.add_argument("--kv", required=True)
    parser.add_argument("-f", "--file", required=True)
    parser.add_argument("-c", "--ctx-size", default="256")
    parser.add_argument("--tokens", default="300")
    parser.add_argument("--skip", default="100")
    parser.add_argument("--activations", default="q8")
    parser.add_argument("--lossy", default="target/release/lossy")
    args = parser.parse_args()
    measured = json.loads(
        output([args.lossy, "measure", args.model, "--kv", args.kv, "-f", args.file, "-c", args.ctx_size]
               + ["--tokens", args.tokens, "--skip", args.skip, "--activations", args.activations, "-o", "json"])
    )["divergence"][0]  # fmt: skip
    setting = measured["settings"][0]
    listed = output([args.lossy, "tokenize", args.model, "-f", args.file, "--ids", "--no-bos", "--no-special"])
    ids = [int(word) for word in listed.replace("[", " ").replace("]", " ").replace(",", " ").split()]
    n_ctx = measured["n_ctx"]
    first = n_ctx - 1 - measured["n_scored_per_window"]
    losses = Losses()
    for window in range(measured["n_windows"]):
        part = ids[window * n_ctx : (window + 1) * n_ctx]
        reference = rows(args.lossy, args, part, measured["reference"]["setting"], None)
        found = rows(args.lossy, args, part, setting["setting"], reference.shape[1])
        losses.add_window(part, first, reference[first:-1], found[first:-1])
    wanted = losses.figures()
    lines = differences(wanted, setting)
    for line in lines:
        print(line)
    print(f"{setting['setting']}: {wanted['n_scored']} predictions, mean KL {wanted['kl']['mean']['value']:.6g}, "
          f"{len(lines)} figures differ")  # fmt: skip
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
