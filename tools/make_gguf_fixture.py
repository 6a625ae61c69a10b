#!/usr/bin/env python3
"""Makes testdata/gguf/reference.gguf: a file written by ggml's own Python writer, with every type of value.

    pip install gguf==0.19.0 numpy==2.4.6
    python3 tools/make_gguf_fixture.py

The test that reads it, crates/formats/tests/reference.rs, says what it must find.
"""

import importlib.metadata
import pathlib

import gguf
import numpy as np
from gguf import GGMLQuantizationType, GGUFValueType, GGUFWriter

VERSIONS = {"gguf": "0.19.0", "numpy": "2.4.6"}
OUT = pathlib.Path(__file__).resolve().parent.parent / "testdata" / "gguf" / "reference.gguf"


def main() -> None:
    for package, version in VERSIONS.items():
        found = importlib.metadata.version(package)
        if found != version:
            raise SystemExit(f"{package} is {found}; the fixture is made with {version}")
    OUT.parent.mkdir(parents=True, exist_ok=True)
    writer = GGUFWriter(OUT, "llama")
    writer.add_custom_alignment(64)
    writer.add_uint8("value.u8", 0x12)
    writer.add_int8("value.i8", -0x12)
    writer.add_uint16("value.u16", 0x1234)
    writer.add_int16("value.i16", -0x1234)
    writer.add_uint32("value.u32", 0x12345678)
    writer.add_int32("value.i32", -0x12345678)
    writer.add_uint64("value.u64", 0x123456789ABCDEF0)
    writer.add_int64("value.i64", -0x123456789ABCDEF0)
    writer.add_float32("value.f32", 0.1)
    writer.add_float64("value.f64", 0.1)
    writer.add_bool("value.bool", True)
    writer.add_string("value.string", "Größe 日本 🦙")
    writer.add_array("array.strings", ["", "Ġthe", "日", "<|im_end|>"])
    writer.add_array("array.i32", [1, -2, 3])
    writer.add_array("array.f32", [0.5, -0.25])
    writer.add_array("array.bool", [True, False])
    writer.add_key_value("array.nested", [[1, 2], [3]], GGUFValueType.ARRAY, sub_type=GGUFValueType.ARRAY)

    grid = np.arange(-96, 96, dtype=np.float32).reshape(3, 64) / 96
    writer.add_tensor("singles", grid)
    writer.add_tensor("halves", grid.astype(np.float16))
    for name in ["BF16", "Q4_0", "Q8_0"]:
        dtype = GGMLQuantizationType[name]
        writer.add_tensor(f"grid.{name}", gguf.quants.quantize(grid, dtype), raw_dtype=dtype)
    writer.add_tensor("cube", np.arange(24, dtype=np.int16).reshape(2, 3, 4))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
