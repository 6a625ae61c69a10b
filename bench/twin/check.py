#!/usr/bin/env python3
"""Compares the twin with the program: KL divergence of their predictions after the last tokens of a text.

usage: python3 bench/twin/check.py target/release/lossy MODEL.gguf [--calibration FILE]
"""
import argparse
import json
import pathlib
import subprocess
import tempfile

import numpy as np
import torch

import retrieval
import twin

TEXT = pathlib.Path(__file__).resolve().parents[2] / "crates/eval/text/prose.txt"
N_TEXT, N_ASKED = 652, 48
# Small windows, so that a short text goes beyond them. The program wants every number, the twin likewise.
MAPS = [
    "linear",
    "adaptive:window=128,reach=512,growth=0,exact=512,logn=on",
    "adaptive:window=128,reach=384,growth=100,exact=512,logn=off",
    "self-extend:group=4,window=128",
    "dca:chunk=256",
    "yarn:factor=4",
    "ntk:factor=4",
]
MOST = {"f16": 1e-5, "k2v2": 2e-3}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("model")
    parser.add_argument("--calibration", type=pathlib.Path)
    args = parser.parse_args()
    calibration = json.loads(args.calibration.read_text()) if args.calibration else None
    model = twin.Model(args.model)
    ids = retrieval.encoder(model)(TEXT.read_text())[:N_TEXT + N_ASKED]
    tokens = torch.tensor(ids, device=twin.DEVICE)
    worst = 0.0
    for kv in ["f16", "k2v2"] if calibration else ["f16"]:
        for spelled in MAPS:
            program = logits(args.program, args.model, ids, spelled, "f32" if kv == "f16" else kv)
            cache = twin.Cache(kv, calibration)
            reader = twin.Reader(model, twin.Positions(spelled, model), cache, tokens[None, :N_TEXT])
            own = reader.ask(tokens[None, None, N_TEXT:])[0, 0]
            theirs = torch.from_numpy(program).to(twin.DEVICE).log_softmax(-1)
            divergence = float((theirs.exp() * (theirs - own)).sum(-1).mean())
            worst = max(worst, divergence / MOST[kv])
            print(f"{kv:5} {spelled:60} KL {divergence:.1e} nats, {MOST[kv]:.0e} at most", flush=True)
    if worst > 1:
        raise SystemExit("the twin and the program disagree")


def logits(program: str, model: str, ids: list[int], positions: str, kv: str):
    """`[N_ASKED, n_vocab]` of the program."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "logits"
        command = [program, "logits", model, "--ids", ",".join(map(str, ids)), "--last", str(N_ASKED), "-o", str(path)]
        command += ["-c", str(len(ids)), "--activations", "f32", "--kv", kv, "--positions", positions]
        subprocess.run(command, check=True, capture_output=True)
        return np.fromfile(path, dtype="<f4").reshape(N_ASKED, -1)


if __name__ == "__main__":
    main()
