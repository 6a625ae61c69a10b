#!/usr/bin/env python3
"""Makes testdata/quant/: blocks of ggml's formats, and what the Python package `gguf` reads in them.

    pip install gguf==0.19.0 numpy==2.4.6
    python3 tools/make_quant_fixtures.py

NAME.dequantize   blocks of format NAME, then the float32 values that gguf.quants.dequantize gives for them
NAME.quantize     float32 values, then the blocks that gguf.quants.quantize makes of them

Blocks are random bytes with ordinary scales, random bytes throughout (so with every kind of half: infinite, NaN,
subnormal), random codes under extreme scales, all zeros and all ones. The package computes in numpy, float by float,
without fused multiply-add; the test in crates/quant/tests/reference.rs asks for the same bits.
"""

import importlib.metadata
import pathlib

import gguf
import numpy as np

VERSIONS = {"gguf": "0.19.0", "numpy": "2.4.6"}
OUT = pathlib.Path(__file__).resolve().parent.parent / "testdata" / "quant"

# Byte offsets of the half-precision scales in a block.
SCALES = {
    "F16": [0],
    "BF16": [],
    "Q4_0": [0],
    "Q4_1": [0, 2],
    "Q5_0": [0],
    "Q5_1": [0, 2],
    "Q8_0": [0],
    "Q2_K": [80, 82],
    "Q3_K": [108],
    "Q4_K": [0, 2],
    "Q5_K": [0, 2],
    "Q6_K": [208],
    "IQ4_NL": [0],
    "IQ4_XS": [0],
}
EXTREMES = [0x0001, 0x03FF, 0x8001, 0x7BFF, 0x8000, 0xFBFF, 0xFC00, 0x7C00, 0x7E00]
ENCODED = ["BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"]


def blocks(name: str, rng: np.random.Generator) -> np.ndarray:
    """Rows of bytes, one block each."""
    block_len, block_bytes = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name]]
    few, extremes = (2, EXTREMES[::2]) if block_len == 256 else (12, EXTREMES)
    random = rng.integers(0, 256, (2 * few + len(extremes), block_bytes), dtype=np.uint8)
    for at in SCALES[name]:
        ordinary = (rng.standard_normal(few) * 0.01).astype(np.float16)
        random[:few, at : at + 2] = ordinary.view(np.uint8).reshape(few, 2)
        extreme = np.array(extremes, dtype="<u2").view(np.uint8).reshape(-1, 2)
        random[2 * few :, at : at + 2] = extreme
    return np.concatenate([random, np.zeros((1, block_bytes), np.uint8), np.full((1, block_bytes), 255, np.uint8)])


def rows(rng: np.random.Generator) -> np.ndarray:
    """Blocks of 32 values: ordinary, constant, one-sided, one outlier, subnormal scale, exact halves, zeros."""
    ordinary = rng.standard_normal((24, 32)).astype(np.float32)
    ordinary[8:] *= np.float32(10.0) ** rng.integers(-4, 4, (16, 1)).astype(np.float32)
    outlier = rng.standard_normal((2, 32)).astype(np.float32) * np.array([[0.01], [1e-6]], np.float32)
    outlier[:, 5] = [-40.0, 3.0]
    halves = (np.arange(64, dtype=np.float32).reshape(2, 32) - 32) / 2
    special = [np.full((1, 32), 0.3, np.float32), np.full((1, 32), -2.0, np.float32), np.zeros((1, 32), np.float32)]
    return np.concatenate([ordinary, np.abs(ordinary[:2]), -np.abs(ordinary[2:4]), outlier, halves, *special])


def main() -> None:
    for package, version in VERSIONS.items():
        found = importlib.metadata.version(package)
        if found != version:
            raise SystemExit(f"{package} is {found}; the fixtures are made with {version}")
    OUT.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(20240917)
    for name in SCALES:
        data = blocks(name, rng)
        with np.errstate(all="ignore"):
            values = gguf.quants.dequantize(data.reshape(-1), gguf.GGMLQuantizationType[name])
        (OUT / f"{name}.dequantize").write_bytes(data.tobytes() + values.astype("<f4").tobytes())
    values = rows(rng)
    for name in ENCODED:
        data = gguf.quants.quantize(values.reshape(-1), gguf.GGMLQuantizationType[name])
        (OUT / f"{name}.quantize").write_bytes(values.astype("<f4").tobytes() + data.tobytes())


if __name__ == "__main__":
    main()
