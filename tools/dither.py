#!/usr/bin/env python3
"""Make an honest original of a quantized model: every weight spread uniformly over its quantization step, written as F16.

usage: python3 tools/dither.py MODEL.gguf OUT.gguf [--seed 0]        needs numpy and gguf (pip install gguf==0.19.0)

On a quantized file every grid of the same kind looks exact: quantizing it again to the same type loses nothing, which says
nothing about real weights. A weight that was rounded may have been anything within half a step of what the file says. So each
becomes a random number of that range, once, from a seed. The result is not the model before quantization (nobody has that here),
but a network with the same kind of weights, on no grid.

The step of a value is the distance of the two levels around it: steps are measured by decoding the block once with each code
alone. Tensors that are not quantized stay as they are.
"""
import argparse
import sys

import gguf
import numpy as np
from gguf.quants import dequantize

# Where the codes of a block are: the bytes of the low bits, those of the high bits, and the byte that makes every code 1.
LAYOUTS = {
    "Q4_0": ((2, 18), None, 0x11),
    "Q4_1": ((4, 20), None, 0x11),
    "Q5_0": ((6, 22), (2, 6), 0x11),
    "Q5_1": ((8, 24), (4, 8), 0x11),
    "Q8_0": ((2, 34), None, 0x01),
    "Q2_K": ((16, 80), None, 0x55),
    "Q3_K": ((32, 96), (0, 32), 0x55),
    "Q4_K": ((16, 144), None, 0x11),
    "Q5_K": ((48, 176), (16, 48), 0x11),
    "Q6_K": ((0, 128), (128, 192), 0x11),
}


def steps(data: np.ndarray, kind: gguf.GGMLQuantizationType) -> np.ndarray:
    """The distance of neighbouring levels at each value."""
    (first, end), high, ones = LAYOUTS[kind.name]
    blocks = data.reshape(-1, gguf.GGML_QUANT_SIZES[kind][1]).copy()
    if high:
        blocks[:, high[0] : high[1]] = 0
    blocks[:, first:end] = ones
    one = dequantize(blocks.reshape(data.shape), kind)
    blocks[:, first:end] = 0
    return np.abs(one - dequantize(blocks.reshape(data.shape), kind))


def dithered(tensor, rng: np.random.Generator) -> np.ndarray:
    """The values of a tensor, spread over their steps."""
    kind = tensor.tensor_type
    values = dequantize(tensor.data, kind).astype(np.float32)
    if kind.name not in LAYOUTS:
        raise SystemExit(f"error: {tensor.name} is {kind.name}; known are {', '.join(LAYOUTS)}")
    spread = rng.random(values.shape, np.float32) - np.float32(0.5)
    return (values + spread * steps(tensor.data, kind)).astype(np.float16)


def copy_fields(reader: gguf.GGUFReader, writer: gguf.GGUFWriter) -> None:
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name in ("general.architecture", "general.file_type", "general.quantization_version"):
            continue
        kind = field.types[0]
        sub_kind = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), kind, sub_type=sub_kind)


def make(model: str, out: str, seed: int) -> tuple[int, int]:
    """Writes the file; how many tensors were spread, and of how many."""
    reader = gguf.GGUFReader(model)
    writer = gguf.GGUFWriter(out, reader.fields["general.architecture"].contents())
    copy_fields(reader, writer)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    exact = (gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.F16, gguf.GGMLQuantizationType.BF16)
    rng = np.random.default_rng(seed)
    n_dithered = 0
    for tensor in reader.tensors:
        if tensor.tensor_type in exact:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
        else:
            writer.add_tensor(tensor.name, dithered(tensor, rng))
            n_dithered += 1
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return n_dithered, len(reader.tensors)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("out")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    n_dithered, n_tensors = make(options.model, options.out, options.seed)
    print(f"{options.out}: {n_dithered} of {n_tensors} tensors spread over their steps", file=sys.stderr)


if __name__ == "__main__":
    main()
