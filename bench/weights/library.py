"""llama.cpp's own quantizer, out of the shared library of llama-cpp-python (bench/peers builds it), and imatrix files.

$LOSSY_LLAMA_LIBRARY names a folder with libllama.so and libggml-base.so to take instead.
"""
import contextlib
import ctypes
import functools
import importlib.util
import os
import pathlib

import gguf
import numpy as np

PEERS = pathlib.Path(__file__).resolve().parents[1] / "peers"


@functools.cache
def environments():
    """The module of bench/peers that knows where its Pythons are."""
    spec = importlib.util.spec_from_file_location("environments", PEERS / "environments.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@functools.cache
def folder() -> pathlib.Path:
    given = os.environ.get("LOSSY_LLAMA_LIBRARY")
    if given:
        return pathlib.Path(given)
    python = pathlib.Path(environments().python_of(environments().LLAMA))
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


# `llama_ftype`, for the recipes that lossy knows.
FILE_TYPES = {
    "q2_k": 10, "q3_k_s": 11, "q3_k_m": 12, "q3_k_l": 13, "iq4_xs": 30, "iq4_nl": 25, "q4_0": 2, "q4_1": 3, "q4_k_s": 14, "q4_k_m": 15,
    "q5_0": 8, "q5_1": 9, "q5_k_s": 16, "q5_k_m": 17, "q6_k": 18, "q8_0": 7, "f16": 1, "bf16": 32,
}  # fmt: skip


class Importances(ctypes.Structure):
    """`llama_model_imatrix_data`"""

    _fields_ = [("name", ctypes.c_char_p), ("data", ctypes.c_void_p), ("size", ctypes.c_size_t)]


class Parameters(ctypes.Structure):
    """`llama_model_quantize_params`"""

    _fields_ = [
        ("nthread", ctypes.c_int32),
        ("ftype", ctypes.c_int),
        ("output_tensor_type", ctypes.c_int),
        ("token_embedding_type", ctypes.c_int),
        ("allow_requantize", ctypes.c_bool),
        ("quantize_output_tensor", ctypes.c_bool),
        ("only_copy", ctypes.c_bool),
        ("pure", ctypes.c_bool),
        ("keep_split", ctypes.c_bool),
        ("dry_run", ctypes.c_bool),
        ("imatrix", ctypes.POINTER(Importances)),
        ("kv_overrides", ctypes.c_void_p),
        ("tt_overrides", ctypes.c_void_p),
        ("prune_layers", ctypes.c_void_p),
        ("max_buf_size", ctypes.c_size_t),
    ]


LOG = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)


@functools.cache
def llama() -> ctypes.CDLL:
    for name in ("libggml-base.so", "libggml-cpu.so", "libggml.so"):
        ctypes.CDLL(str(folder() / name), mode=ctypes.RTLD_GLOBAL)
    library = ctypes.CDLL(str(folder() / "libllama.so"))
    library.llama_model_quantize_default_params.restype = Parameters
    library.llama_model_quantize.restype = ctypes.c_uint32
    library.llama_model_quantize.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.POINTER(Parameters)]
    library.llama_log_set.argtypes = [LOG, ctypes.c_void_p]
    library.llama_backend_init()
    return library


@contextlib.contextmanager
def messages_to(messages: list[str]):
    """Appends what llama.cpp says, and prints nothing."""
    callback = LOG(lambda level, text, data: messages.append(text.decode(errors="replace")))
    llama().llama_log_set(callback, None)
    yield
    llama().llama_log_set(LOG(), None)


def parameters(file_type: int) -> Parameters:
    parameters = llama().llama_model_quantize_default_params()
    if parameters.ftype != FILE_TYPES["q8_0"] or not parameters.quantize_output_tensor or parameters.max_buf_size != 8 << 30:
        raise SystemExit("error: llama_model_quantize_params of this llama.cpp has another layout than 0.3.36's")
    parameters.ftype = file_type
    return parameters


def set_importances(parameters: Parameters, importances: dict[str, np.ndarray]) -> None:
    """They are kept alive by the parameters."""
    rows = [(name.encode(), data) for name, data in importances.items()]
    array = (Importances * (len(rows) + 1))(*[Importances(name, data.ctypes.data, data.size) for name, data in rows])
    parameters.imatrix = array
    parameters.keep = (rows, array)


def quantize_model(source: str, out: str, recipe: str, importances: dict[str, np.ndarray] | None, threads: int = 2) -> None:
    """llama.cpp's own file."""
    options, messages = parameters(FILE_TYPES[recipe]), []
    options.nthread = threads
    if importances:
        set_importances(options, importances)
    with messages_to(messages):
        if llama().llama_model_quantize(source.encode(), out.encode(), ctypes.byref(options)):
            raise SystemExit("error: llama.cpp: " + "".join(messages[-3:]))
