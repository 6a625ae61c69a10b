"""What is measured: one prompt, or one generation after a prompt."""
import re
from typing import NamedTuple


class Workload(NamedTuple):
    """`n_prompt` new tokens at once, then `n_gen` one by one, in a cache that already holds `n_depth` tokens.

    As in llama-bench one of `n_prompt` and `n_gen` is zero, and filling the cache is not part of the time.
    """

    n_prompt: int
    n_gen: int
    n_depth: int

    @property
    def name(self) -> str:
        """The spelling of llama-bench's table: `pp512`, `tg128 @ d8192`."""
        work = f"pp{self.n_prompt}" if self.n_prompt else f"tg{self.n_gen}"
        return f"{work} @ d{self.n_depth}" if self.n_depth else work

    @property
    def n_measured(self) -> int:
        """Tokens that the measured time is spent on."""
        return self.n_prompt + self.n_gen


def parse_workload(text: str) -> Workload:
    """`pp512`, `pp512@4096`, `tg128`, `tg128@8192`; also with ` @ d` as in the tables.

    Raises ValueError for anything else, and for zero tokens.
    """
    match = re.fullmatch(r"(pp|tg)([1-9][0-9]*)(?: ?@ ?d?([0-9]+))?", text.strip())
    if not match:
        raise ValueError(f"{text!r} is no test: write pp512, tg128 or tg128@8192")
    n_tokens, n_depth = int(match[2]), int(match[3] or 0)
    return Workload(n_tokens, 0, n_depth) if match[1] == "pp" else Workload(0, n_tokens, n_depth)
