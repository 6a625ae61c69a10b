"""What llama.cpp gives as the state of one sequence, and the same with its cells repeated until there are more of them.

The format of `llama_state_seq_get_data` in the pinned version, as its bytes show it; numbers are little-endian:

    u32 magic = 0xaf143cd8, i32 sequence = 0
    u32 n_streams = 1, u32 n_cells
    n_cells × (i32 position, u32 n_sequences = 1, i32 sequence = 0)
    u32 values_transposed, u32 n_layers
    n_layers × (i32 type, u64 row_bytes, n_cells × row)                                           keys
    n_layers × the same                                                                           values, not transposed
    n_layers × (i32 type, u32 element_bytes, u32 n_channels, n_channels × n_cells × element)      values, transposed

Without flash attention values are transposed: a channel's elements of all cells follow one another. A copy has a position
of its own, and key and value of the cell that it is a copy of, whose key is rotated as at its own position. What a model
says behind copies means nothing; they are for measuring time.
"""
import struct

MAGIC = 0xAF143CD8


class StateError(ValueError):
    """Why some bytes are no state that can be extended."""


class Reader:
    """Takes bytes off the front of a state."""

    def __init__(self, state: bytes):
        self.state, self.n_taken = memoryview(state), 0

    def take(self, n_bytes: int, what: str) -> memoryview:
        start, self.n_taken = self.n_taken, self.n_taken + n_bytes
        if self.n_taken > len(self.state):
            raise StateError(f"{what}: they end at byte {self.n_taken}, but the state has {len(self.state)}")
        return self.state[start : self.n_taken]

    def numbers(self, layout: str, what: str) -> tuple[int, ...]:
        return struct.unpack(layout, self.take(struct.calcsize(layout), what))


def with_copies(state: bytes, n_cells: int) -> bytearray:
    """`state` with `n_cells` cells at the positions 0, 1, 2, …: its own, and behind them the same again and again.

    Raises StateError if the state is not of the format above, or has gaps between positions, or `n_cells` cells are fewer
    than it has.
    """
    reader = Reader(state)
    magic, sequence, n_streams, n_read = reader.numbers("<IiII", "the header")
    if (magic, sequence, n_streams) != (MAGIC, 0, 1):
        raise StateError(f"the header is {(hex(magic), sequence, n_streams)}, not {(hex(MAGIC), 0, 1)}")
    if not 0 < n_read <= n_cells:
        raise StateError(f"{n_read} cells cannot become {n_cells}")
    cells = struct.iter_unpack("<iIi", reader.take(12 * n_read, "the cells"))
    for position, cell in enumerate(cells):
        if cell != (position, 1, 0):
            raise StateError(f"cell {position} is {cell}, not {(position, 1, 0)}: position, sequences, sequence")
    transposed, n_layers = reader.numbers("<II", "the counts of layers")
    if transposed > 1 or n_layers == 0:
        raise StateError(f"values_transposed is {transposed} (0 or 1), and there are {n_layers} layers")

    out = bytearray(struct.pack("<IiII", MAGIC, 0, 1, n_cells))
    for position in range(n_cells):
        out += struct.pack("<iIi", position, 1, 0)
    out += struct.pack("<II", transposed, n_layers)
    for layer in range(2 * n_layers):
        is_value = layer >= n_layers
        what = f"the {'values' if is_value else 'keys'} of layer {layer % n_layers}"
        if is_value and transposed:
            kind, n_bytes, n_channels = reader.numbers("<iII", what)
            out += struct.pack("<iII", kind, n_bytes, n_channels)
        else:
            (kind, n_bytes), n_channels = reader.numbers("<iQ", what), 1
            out += struct.pack("<iQ", kind, n_bytes)
        if n_bytes == 0 or n_channels == 0:
            raise StateError(f"{what}: {n_channels} channels of {n_bytes} bytes")
        for _ in range(n_channels):
            append_repeated(out, reader.take(n_bytes * n_read, what), n_bytes * n_cells)
    if reader.n_taken != len(state):
        raise StateError(f"the values end at byte {reader.n_taken}, but the state has {len(state)}")
    return out


def append_repeated(out: bytearray, part: memoryview, n_bytes: int) -> None:
    """Appends `n_bytes` of `part`, `part`, `part`, …"""
    n_whole, n_left = divmod(n_bytes, len(part))
    for _ in range(n_whole):
        out += part
    out += part[:n_left]
