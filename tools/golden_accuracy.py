#!/usr/bin/env python3
"""How far an engine is from the reference on the golden texts: runs it on each text's ids and compares the logits.

usage: golden_accuracy.py --model smollm2|qwen [--lossy PROGRAM] [--activations f32|q8]
       golden_accuracy.py --model smollm2|qwen --llama-python PYTHON        (llama.cpp on the same file)

PYTHON is an interpreter that has llama-cpp-python, such as the one that bench/peers makes. The ids come from the golden
files, so tokenizers play no part. See compare_logits.py for the columns.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import compare_logits
import fetch_test_models

ROOT = pathlib.Path(__file__).resolve().parents[1]
GOLDEN = {"smollm2": ROOT / "testdata/golden/smollm2", "qwen": ROOT / "testdata/golden/qwen2.5-coder-0.5b"}


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare an engine's logits with the golden files.")
    parser.add_argument("--model", choices=sorted(GOLDEN), required=True)
    parser.add_argument("--lossy", type=pathlib.Path, default=ROOT / "target/release/lossy")
    parser.add_argument("--activations", choices=["f32", "q8"], default="q8")
    parser.add_argument("--llama-python", help="measure llama.cpp with this interpreter instead of lossy")
    args = parser.parse_args()

    model = fetch_test_models.models_dir() / fetch_test_models.MODELS[args.model].file_name
    comparisons = []
    with tempfile.TemporaryDirectory() as folder:
        for golden in sorted(GOLDEN[args.model].glob("*.json")):
            reference = json.loads(golden.read_text())
            rows = pathlib.Path(folder) / f"{golden.stem}.f32"
            if args.llama_python:
                command = [args.llama_python, str(ROOT / "bench/peers/workers/llama_logits.py"), str(model)]
            else:
                command = [str(args.lossy), "logits", str(model), "--activations", args.activations]
            ids = ",".join(str(token) for token in reference["ids"])
            command += ["--ids", ids, "--last", str(len(reference["positions"])), "-o", str(rows)]
            done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
            if done.returncode != 0:
                raise SystemExit(f"error: {command[0]} on {golden.stem}: {done.stderr.strip()}")
            comparisons.append(compare_logits.compare_with_golden(golden, rows))
    print(compare_logits.table(comparisons))
    return 0


if __name__ == "__main__":
    sys.exit(main())
