"""python3 -m unittest discover tools"""
import pathlib
import tempfile
import unittest

try:
    import gguf
    import numpy as np
    from gguf.quants import dequantize, quantize

    import dither
except ImportError as error:
    raise unittest.SkipTest(f"needs numpy and gguf: {error}") from error

KINDS = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0")


class Dither(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.path = pathlib.Path(self.folder.name) / "model.gguf"
        values = np.random.default_rng(3).standard_normal((8, 256), np.float32)
        writer = gguf.GGUFWriter(self.path, "llama")
        writer.add_array("words", ["a", "b"])
        writer.add_uint32("llama.block_count", 1)
        for kind in KINDS:
            kind = gguf.GGMLQuantizationType[kind]
            writer.add_tensor(kind.name, quantize(values, kind), raw_dtype=kind)
        writer.add_tensor("norm", values[0])
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()

    def spread(self, seed: int) -> dict:
        out = str(self.path) + f".{seed}"
        dither.make(str(self.path), out, seed)
        return {tensor.name: tensor for tensor in gguf.GGUFReader(out).tensors} | {"fields": gguf.GGUFReader(out).fields}

    def test_values_move_by_half_a_step_at_most_and_evenly(self):
        before = {tensor.name: tensor for tensor in gguf.GGUFReader(self.path).tensors}
        after = self.spread(0)
        for kind in KINDS:
            steps = dither.steps(before[kind].data, before[kind].tensor_type)
            moved = (after[kind].data.astype(np.float32) - dequantize(before[kind].data, before[kind].tensor_type)) / steps
            # F16 rounds what is written once more.
            self.assertLess(np.abs(moved).max(), 0.6, kind)
            self.assertAlmostEqual(moved.mean(), 0, delta=0.03, msg=kind)
            self.assertAlmostEqual(moved.std(), 12**-0.5, delta=0.02, msg=kind)

    def test_what_is_exact_and_the_keys_stay(self):
        after = self.spread(0)
        self.assertEqual(after["norm"].tensor_type, gguf.GGMLQuantizationType.F32)
        self.assertEqual(after["fields"]["words"].contents(), ["a", "b"])
        self.assertEqual(after["fields"]["general.file_type"].contents(), 1)

    def test_a_seed_gives_the_same_file_and_another_seed_another(self):
        first, again, other = self.spread(5), self.spread(5), self.spread(6)
        self.assertTrue(np.array_equal(first["Q4_0"].data, again["Q4_0"].data))
        self.assertFalse(np.array_equal(first["Q4_0"].data, other["Q4_0"].data))


if __name__ == "__main__":
    unittest.main()
