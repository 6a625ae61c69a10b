"""llama.cpp's own quantizer, out of the shared library of llama-cpp-python (bench/peers builds it), and imatrix files.

$LOSSY_LLAMA_LIBRARY names a folder with libllama.so and libggml-base.so to take instead.
"""
import ctypes
import functools
import importlib.util
import os
import pathlib

import gguf
import numpy as np

PEERS = pathlib.Path(__file__).resolve().parents[1] / "peers"


@functools.cache
def folder() -> pathlib.Path:
    given = os.environ.get("LOSSY_LLAMA_LIBRARY")
    if given:
        return pathlib.Path(given)
    spec = importlib.util.spec_from_file_location("environments", PEERS / "environments.py")
    environments = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(environments)
    python = pathlib.Path(environments.python_of(environments.LLAMA))
    return next(python.parents[1].glob("lib/python3*/site-packages/llama_cpp/lib"))


@functools.cache
def ggml() -> ctypes.CDLL:
    library = ctypes.CDLL(str(folder() / "libggml-base.so"))
    library.ggml_quantize_chunk.restype = ctypes.c_size_t
    library.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * 3, ctypes.c_void_p]
    return library


def quantize(kind: gguf.GGMLQuantizationType, values: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """The bytes of each row."""
    n_rows, n_cols = values.shape
    block, size = gguf.GGML_QUANT_SIZES[kind]
    out = np.zeros((n_rows, n_cols // block * size), np.uint8)
    weights_at = None if weights is None else weights.ctypes.data
    n_bytes = ggml().ggml_quantize_chunk(int(kind), values.ctypes.data, out.ctypes.data, 0, n_rows, n_cols, weights_at)
    if n_bytes != out.size:
        raise SystemExit(f"error: ggml_quantize_chunk wrote {n_bytes} bytes of {kind.name}, not {out.size}")
    return out


def read_imatrix(path: str) -> dict[str, np.ndarray]:
    """Mean squares by the name of the matrix."""
    tensors = {tensor.name: tensor.data for tensor in gguf.GGUFReader(path).tensors}
    sums = {name.removesuffix(".in_sum2"): data for name, data in tensors.items() if name.endswith(".in_sum2")}
    return {name: (data / tensors[name + ".counts"]).reshape(-1).astype(np.float32) for name, data in sums.items()}
