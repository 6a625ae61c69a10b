"""From samples to the table: medians, spreads and ratios."""
import statistics
from typing import NamedTuple

from workload import Workload


class Result(NamedTuple):
    """One engine in one setting on one workload; tokens per second of each counted round, or why there are none."""

    engine: str
    workload: Workload
    setting: str
    samples: list[float]
    error: str | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def spread_percent(self) -> float:
        """(largest − smallest) / median."""
        return 100 * (max(self.samples) - min(self.samples)) / self.median


def best(results: list[Result], engine: str, workload: Workload) -> Result | None:
    """The engine's fastest setting on a workload, by the median; None if none ran."""
    own = [r for r in results if r.engine == engine and r.workload == workload and r.samples]
    return max(own, key=lambda r: r.median, default=None)


def table(results: list[Result], engines: list[str]) -> str:
    """Markdown: a row for each workload, each engine at its best setting, and what the first engine is over the others."""
    first, others = engines[0], engines[1:]
    lines = ["| test |" + "".join(f" {name} t/s |" for name in engines) + "".join(f" {first} / {n} |" for n in others)]
    lines.append("| --- |" + " ---: |" * (len(engines) + len(others)))
    for workload in dict.fromkeys(result.workload for result in results):
        row = [best(results, name, workload) for name in engines]
        cells = [f"{r.median:.1f} ± {r.spread_percent / 2:.0f} % ({r.setting})" if r else "—" for r in row]
        ratios = [f"{row[0].median / r.median:.2f}×" if r and row[0] else "—" for r in row[1:]]
        lines.append("| " + " | ".join([workload.name, *cells, *ratios]) + " |")
    return "\n".join(lines)


def details(results: list[Result]) -> str:
    """Markdown: every setting that was measured, with the number of samples behind it."""
    lines = ["| test | engine | setting | t/s | spread | samples |", "| --- | --- | --- | ---: | ---: | ---: |"]
    for r in results:
        if r.samples:
            figures = f"{r.median:.1f} | {r.spread_percent:.0f} % | {len(r.samples)}"
        else:
            figures = f"— | | {r.error}"
        lines.append(f"| {r.workload.name} | {r.engine} | {r.setting} | {figures} |")
    return "\n".join(lines)


def as_json(results: list[Result], about: dict) -> dict:
    """The same, for programs: `about` and one object for each engine, workload and setting."""
    rows = []
    for r in results:
        row = {"engine": r.engine, "test": r.workload.name, "setting": r.setting, "samples_tokens_per_s": r.samples}
        if r.samples:
            row["median_tokens_per_s"] = r.median
        if r.error:
            row["error"] = r.error
        rows.append(row)
    return dict(about, results=rows)
