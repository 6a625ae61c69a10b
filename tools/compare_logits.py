#!/usr/bin/env python3
"""Compare rows of logits of any engine with reference rows. Python's standard library only.

usage: compare_logits.py GOLDEN.json ROWS.f32 [GOLDEN.json ROWS.f32 ...]
       compare_logits.py --rows N_VOCAB REFERENCE.f32 ROWS.f32 [REFERENCE.f32 ROWS.f32 ...]

ROWS.f32 is what `lossy logits --last N -o ROWS.f32` writes: little-endian float32, [n_rows, n_vocab], the last row being
the one after the last token. GOLDEN.json is a file of testdata/golden, which has the full row after the last token in
NAME.logits.f32 beside it and, for the last 32 positions, the 20 largest logits and the log-sum-exp.

Printed for each pair, over the whole vocabulary and in double precision:
  KL        Kullback-Leibler divergence (reference || rows) in nats, of the last row, or the mean over all with --rows
  top-1     rows whose largest logit is the reference's, and those of them where the reference leads by more than 0.5
  d logit   largest difference of a logit among the reference's 20 largest, over all rows compared
  d logprob the same for log-probabilities, which an added constant does not change
"""
import array
import json
import math
import pathlib
import sys
from typing import NamedTuple, Sequence

TOP = 20
# Where the reference's best two tokens are closer than this, rounding may decide between them.
CLEAR_MARGIN = 0.5


class Reference(NamedTuple):
    """One row as the reference has it: its largest logits, and the whole row where that is known."""

    top: list[tuple[int, float]]  # id, logit; falling
    logsumexp: float
    row: Sequence[float] | None


class Comparison(NamedTuple):
    """What two engines differ by on one text."""

    name: str
    kl: list[float]  # of each row that the reference has whole
    n_rows: int
    n_same_top: int
    n_clear: int
    n_clear_same_top: int
    max_logit_difference: float
    max_logprob_difference: float


def read_rows(path: pathlib.Path, n_vocab: int) -> list[array.array]:
    values = array.array("f")
    values.frombytes(path.read_bytes())
    if sys.byteorder == "big":
        values.byteswap()
    if n_vocab == 0 or len(values) == 0 or len(values) % n_vocab:
        raise SystemExit(f"error: {path} has {len(values)} values, which is no number of rows of {n_vocab}")
    return [values[start : start + n_vocab] for start in range(0, len(values), n_vocab)]


def logsumexp(row: Sequence[float]) -> float:
    largest = max(row)
    return largest + math.log(math.fsum(math.exp(x - largest) for x in row))


def kl_divergence(reference: Sequence[float], row: Sequence[float]) -> float:
    """Σ p (ln p − ln q) with p, q the softmax of the two rows."""
    of_reference, of_row = logsumexp(reference), logsumexp(row)
    return math.fsum(math.exp(a - of_reference) * ((a - of_reference) - (b - of_row)) for a, b in zip(reference, row))


def reference_of(row: Sequence[float]) -> Reference:
    largest = sorted(range(len(row)), key=row.__getitem__, reverse=True)[:TOP]
    return Reference([(i, row[i]) for i in largest], logsumexp(row), row)


def read_golden(path: pathlib.Path) -> list[Reference]:
    """The listed positions in order; only the last one has its whole row."""
    golden = json.loads(path.read_text())
    (last_row,) = read_rows(path.with_suffix(".logits.f32"), path.with_suffix(".logits.f32").stat().st_size // 4)
    references = [Reference([(i, x) for i, x in p["top"]], p["logsumexp"], None) for p in golden["positions"]]
    references[-1] = references[-1]._replace(row=last_row)
    return references


def compare(name: str, references: list[Reference], rows: list[array.array]) -> Comparison:
    """The last rows of both are the same position; what only one of them has is left out."""
    n_rows = min(len(references), len(rows))
    kl, same, clear, clear_same, logit, logprob = [], 0, 0, 0, 0.0, 0.0
    for reference, row in zip(references[-n_rows:], rows[-n_rows:]):
        of_row = logsumexp(row)
        if not math.isfinite(of_row):
            raise SystemExit(f"error: {name}: a row holds values that are not finite")
        if reference.row is not None:
            kl.append(kl_divergence(reference.row, row))
        is_same = max(range(len(row)), key=row.__getitem__) == reference.top[0][0]
        is_clear = reference.top[0][1] - reference.top[1][1] > CLEAR_MARGIN
        same, clear, clear_same = same + is_same, clear + is_clear, clear_same + (is_same and is_clear)
        for token, value in reference.top:
            logit = max(logit, abs(row[token] - value))
            logprob = max(logprob, abs((row[token] - of_row) - (value - reference.logsumexp)))
    return Comparison(name, kl, n_rows, same, clear, clear_same, logit, logprob)


def table(comparisons: list[Comparison]) -> str:
    """Markdown, with a row of the means (of KL) and worst cases."""
    lines = ["| text | KL (nats) | top-1 | top-1, clear | max d logit | max d logprob |"]
    lines.append("| --- | ---: | ---: | ---: | ---: | ---: |")
    for c in comparisons:
        kl = math.fsum(c.kl) / len(c.kl)
        lines.append(
            f"| {c.name} | {kl:.2e} | {c.n_same_top}/{c.n_rows} | {c.n_clear_same_top}/{c.n_clear}"
            f" | {c.max_logit_difference:.2e} | {c.max_logprob_difference:.2e} |"
        )
    if len(comparisons) > 1:
        all_kl = [kl for c in comparisons for kl in c.kl]
        lines.append(
            f"| mean, worst | {math.fsum(all_kl) / len(all_kl):.2e}"
            f" | {sum(c.n_same_top for c in comparisons)}/{sum(c.n_rows for c in comparisons)}"
            f" | {sum(c.n_clear_same_top for c in comparisons)}/{sum(c.n_clear for c in comparisons)}"
            f" | {max(c.max_logit_difference for c in comparisons):.2e}"
            f" | {max(c.max_logprob_difference for c in comparisons):.2e} |"
        )
    return "\n".join(lines)


def compare_with_golden(golden: pathlib.Path, rows: pathlib.Path) -> Comparison:
    n_vocab = golden.with_suffix(".logits.f32").stat().st_size // 4
    return compare(golden.stem, read_golden(golden), read_rows(rows, n_vocab))


def main(arguments: list[str]) -> int:
    n_vocab = None
    if arguments[:1] == ["--rows"] and len(arguments) > 1 and arguments[1].isdigit():
        n_vocab, arguments = int(arguments[1]), arguments[2:]
    if not arguments or len(arguments) % 2 or "-h" in arguments or "--help" in arguments:
        print(__doc__, file=sys.stderr)
        return 2
    paths = [pathlib.Path(text) for text in arguments]
    for path in paths:
        if not path.exists():
            raise SystemExit(f"error: {path} is not there")
    comparisons = []
    for reference, rows in zip(paths[::2], paths[1::2]):
        if n_vocab is None:
            comparisons.append(compare_with_golden(reference, rows))
        else:
            references = [reference_of(row) for row in read_rows(reference, n_vocab)]
            comparisons.append(compare(rows.stem, references, read_rows(rows, n_vocab)))
    print(table(comparisons))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
