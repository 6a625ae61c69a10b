#!/usr/bin/env python3
"""Compare lossy's encoders with llama.cpp's: weighted squared error and time, type by type, on the weights of a model.

usage: python3 bench/weights/encoders.py MODEL.gguf [--imatrix FILE] [--types Q4_K,Q3_K] [--tensors N] [--rows N]

llama.cpp's side is `ggml_quantize_chunk` of its own library; both results are read by the Python package gguf. Without
--imatrix the errors of all values count the same, and llama.cpp gets no importances. With it both get them, and an error
counts by the mean square of what the value is multiplied with. Rows whose length 256 does not divide are skipped for K types.
"""
import argparse
import pathlib
import subprocess
import tempfile
import time

import gguf
import numpy as np
from gguf.quants import dequantize

import library

ROOT = pathlib.Path(__file__).resolve().parents[2]
TYPES = "Q4_0,Q4_1,Q5_0,Q5_1,Q8_0,Q2_K,Q3_K,Q4_K,Q5_K,Q6_K,IQ4_NL,IQ4_XS"


def ours(work: pathlib.Path, name: str, values: np.ndarray, weights: np.ndarray | None) -> tuple[np.ndarray, float]:
    program = ROOT / "target" / "release" / "examples" / "encode"
    values.tofile(work / "values")
    command = [str(program), name, str(values.shape[1]), str(work / "values")]
    if weights is not None:
        weights.tofile(work / "weights")
        command.append(str(work / "weights"))
    start = time.perf_counter()
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    return np.frombuffer(out, np.uint8).reshape(len(values), -1), time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--imatrix", help="importances, a GGUF of `lossy imatrix` or llama-imatrix")
    parser.add_argument("--types", default=TYPES)
    parser.add_argument("--tensors", type=int, default=14, help="matrices, evenly spread over the model")
    parser.add_argument("--rows", type=int, default=128, help="rows of each")
    parser.add_argument("--pad", action="store_true", help="fill rows up to a multiple of 256 with zeros, for K types")
    options = parser.parse_args()
    tensors = [t for t in gguf.GGUFReader(options.model).tensors if len(t.shape) == 2 and t.name.startswith("blk.")]
    tensors = tensors[:: max(1, len(tensors) // options.tensors)]
    importances = library.read_imatrix(options.imatrix) if options.imatrix else {}
    print("type     error, lossy / llama.cpp: sum   worst matrix   time, lossy / llama.cpp")
    with tempfile.TemporaryDirectory() as folder:
        for name in options.types.split(","):
            kind = gguf.GGMLQuantizationType[name]
            block = gguf.GGML_QUANT_SIZES[kind][0]
            errors, seconds = [], [0.0, 0.0]
            for tensor in tensors:
                values = dequantize(tensor.data, tensor.tensor_type)[: options.rows].astype(np.float32)
                weights = importances.get(tensor.name)
                if options.imatrix and weights is None:
                    continue
                rest = -values.shape[1] % block
                if rest and not options.pad:
                    continue
                values = np.ascontiguousarray(np.pad(values, ((0, 0), (0, rest))))
                if weights is not None:
                    weights = np.pad(weights, (0, rest)).astype(np.float32)
                counts = 1.0 if weights is None else weights.astype(np.float64)
                mine, t = ours(pathlib.Path(folder), name, values, weights)
                seconds[0] += t
                start = time.perf_counter()
                theirs = library.quantize(kind, values, weights)
                seconds[1] += time.perf_counter() - start
                errors.append([((dequantize(q, kind).astype(np.float64) - values) ** 2 * counts).sum() for q in (mine, theirs)])
            if not errors:
                print(f"{name:7s}  no matrix has rows of whole blocks")
                continue
            errors = np.array(errors)
            # Matrices differ by orders of magnitude, so each counts by its ratio.
            ratios = errors[:, 0] / errors[:, 1]
            print(f"{name:7s}  {np.exp(np.log(ratios).mean()):27.4f}   {ratios.max():12.4f}   {seconds[0] / seconds[1]:10.2f}", flush=True)


if __name__ == "__main__":
    main()
