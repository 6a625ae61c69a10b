"""python3 -m unittest discover bench/peers"""
import pathlib
import struct
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "workers"))
from llama_state import MAGIC, StateError, with_copies

N_LAYERS, N_CHANNELS = 2, 3


def element(what: str, layer: int, channel: int, cell: int) -> bytes:
    """Two bytes that nothing else of a state has."""
    return struct.pack("<H", ord(what) * 256 + layer * 128 + channel * 32 + cell)


def saved(source: list[int], transposed: bool, sequence: int = 0) -> bytes:
    """The state of cells at 0, 1, 2, … with the keys and values of the cells `source`."""
    state = struct.pack("<IiII", MAGIC, 0, 1, len(source))
    state += b"".join(struct.pack("<iIi", position, 1, sequence) for position in range(len(source)))
    state += struct.pack("<II", transposed, N_LAYERS)
    for what in "kv":
        for layer in range(N_LAYERS):
            if what == "v" and transposed:
                state += struct.pack("<iII", 1, 2, N_CHANNELS)
                places = [(channel, cell) for channel in range(N_CHANNELS) for cell in source]
            else:
                state += struct.pack("<iQ", 1, 2 * N_CHANNELS)
                places = [(channel, cell) for cell in source for channel in range(N_CHANNELS)]
            state += b"".join(element(what, layer, channel, cell) for channel, cell in places)
    return state


class Copies(unittest.TestCase):
    def test_cells_are_repeated_at_new_positions(self):
        for transposed in (False, True):
            state = saved([0, 1, 2, 3], transposed)
            for n_cells in (4, 5, 8, 11):
                source = [position % 4 for position in range(n_cells)]
                self.assertEqual(with_copies(state, n_cells), saved(source, transposed), (transposed, n_cells))

    def test_a_state_that_ends_early_or_late_is_refused(self):
        for transposed in (False, True):
            state = saved([0, 1], transposed)
            for n_bytes in range(len(state)):
                with self.assertRaisesRegex(StateError, f"but the state has {n_bytes}$", msg=n_bytes):
                    with_copies(state[:n_bytes], 4)
            with self.assertRaisesRegex(StateError, f"the values end at byte {len(state)}, but the state has"):
                with_copies(state + b"\0", 4)

    def test_anything_else_is_refused(self):
        state = saved([0, 1], False)
        cases = [
            (b"ggsq" + state[4:], "the header is"),
            (state[:8] + struct.pack("<I", 2) + state[12:], "the header is"),
            (state[:12] + struct.pack("<I", 0) + state[16:], "0 cells cannot become 4"),
            (state[:16] + struct.pack("<i", 7) + state[20:], r"cell 0 is \(7, 1, 0\)"),
            (saved([0, 1], False, sequence=1), r"cell 0 is \(0, 1, 1\)"),
            (state[:40] + struct.pack("<I", 2) + state[44:], "values_transposed is 2"),
            (state[:44] + struct.pack("<I", 0) + state[48:], "there are 0 layers"),
            (state[:52] + struct.pack("<Q", 0) + state[60:], "keys of layer 0: 1 channels of 0 bytes"),
            (state[:52] + struct.pack("<Q", 2**63) + state[60:], "keys of layer 0: they end at byte"),
        ]
        for bad, message in cases:
            with self.assertRaisesRegex(StateError, message):
                with_copies(bad, 4)
        with self.assertRaisesRegex(StateError, "2 cells cannot become 1"):
            with_copies(state, 1)


if __name__ == "__main__":
    unittest.main()
