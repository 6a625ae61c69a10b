#!/usr/bin/env python3
"""Generated tokens per second of KV schemes that share one budget of bytes: fewer bits, more answers at once.

usage: python3 bench/serve/budget.py --model qwen|PATH [--schemes f16,k2v2] [--budget 64MiB] [--clients 8]
                                     [--document 4000] [--generate 128] [--rounds 3] [--least R] [-o FILE.json]

Each client has a document of its own, which is read and cached before the clock starts, so that decoding is what is
measured. Schemes take turns, each in a server of its own. While a load runs, /metrics says how many requests run, wait
and how full the cache is, and /proc how much memory the process has.
"""
import argparse
import asyncio
import json
import pathlib
import re
import statistics
import sys
import tempfile

import figures
import http1
import load
import servers
import workload as work
from load import Target

WATCHED = {
    "running": "vllm:num_requests_running",
    "waiting": "vllm:num_requests_waiting",
    "cache_usage": "vllm:kv_cache_usage_perc",
}


def bytes_of(text: str) -> int:
    """`64MiB`, `256M`, `1000`; ValueError for anything else."""
    match = re.fullmatch(r"(\d+) ?([kmg]?)(i?)b?", text.strip().lower())
    if not match or match[3] and not match[2]:
        raise ValueError(f"{text!r} is no number of bytes: write 64MiB")
    return int(match[1]) * (1024 if match[3] else 1000) ** " kmg".index(match[2] or " ")


def sample(text: str, name: str) -> float:
    """The value of a metric, summed over its labels; NaN if it is not there."""
    found = re.findall(rf"^{re.escape(name)}(?:\{{[^}}]*\}})? (\S+)", text, re.MULTILINE)
    return sum(float(value) for value in found) if found else float("nan")


async def watch(server: servers.Server, samples: list[dict]) -> None:
    """A sample of the server's own figures every half second, until it is cancelled."""
    while True:
        text = await http1.ask(server.address, "GET", "/metrics")
        taken = {key: sample(text, name) for key, name in WATCHED.items()}
        samples.append(taken | {"resident_bytes": server.resident_bytes()})
        await asyncio.sleep(0.5)


async def under_load(server: servers.Server, workload: work.Workload) -> dict:
    samples: list[dict] = []
    target = await Target.find(server.url)
    prompts = await work.make_prompts(target.address, workload)
    await load.warm_up(target, prompts._replace(requests=[]))
    watcher = asyncio.ensure_future(watch(server, samples))
    try:
        transcripts = await load.closed_loop(target, workload, prompts)
    finally:
        watcher.cancel()
    told = figures.summary([figures.stream_of(transcript) for transcript in transcripts], workload.n_clients)
    told["watched"] = {
        key: {"median": statistics.median(s[key] for s in samples), "max": max(s[key] for s in samples)}
        for key in (*WATCHED, "resident_bytes")
    }
    return told


def run_scheme(args: argparse.Namespace, scheme: str, seed: int) -> dict:
    workload = work.Workload(
        args.requests or 3 * args.clients, args.clients, None, args.question, args.generate, args.clients,
        args.document, seed,
    )
    n_ctx = args.ctx or args.document + args.question + args.generate + 128
    args.kv = scheme
    with tempfile.TemporaryDirectory(prefix="lossy-budget-") as folder:
        options = ["--kv-budget", str(bytes_of(args.budget)), "--parallel", str(args.clients)]
        options += ["--cache-ram", str(bytes_of(args.cache_ram)), "--cache-dir", str(pathlib.Path(folder) / "cache")]
        with servers.lossy_of(args, n_ctx, *options) as server:
            return {"command": server.command} | asyncio.run(under_load(server, workload))


def speed(told: dict) -> float:
    return told.get("generated_tokens_per_s", float("nan"))


def table(results: dict[str, list[dict]], budget: str) -> str:
    first = next(iter(results))
    base = statistics.median(speed(told) for told in results[first])
    lines = [
        f"| KV scheme, {budget} | generated tokens/s | of {first} | from the cache | running, median and max | "
        "cache usage, max | resident MB, max | errors |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for scheme, rounds in results.items():
        median = statistics.median(speed(told) for told in rounds)
        low, high = min(map(speed, rounds)), max(map(speed, rounds))
        last = rounds[-1]
        cached = 100 * last.get("n_cached_tokens", 0) / max(last.get("n_prompt_tokens", 0), 1)
        seen = last["watched"]
        lines.append(
            f"| {scheme} | {median:.1f} ({low:.1f}–{high:.1f}) | {median / base:.2f}× | {cached:.0f} % | "
            f"{seen['running']['median']:.0f}, {seen['running']['max']:.0f} | {seen['cache_usage']['max']:.2f} | "
            f"{seen['resident_bytes']['max'] / 1e6:.0f} | {sum(told['n_errors'] for told in rounds)} |"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description="Throughput of KV schemes at an equal budget of bytes.")
    servers.add_arguments(parser)
    parser.add_argument("--schemes", default="f16,k2v2", help="comma list; ratios are over the first")
    parser.add_argument("--budget", default="64MiB", help="bytes for the KV cache")
    parser.add_argument("--cache-ram", default="2GiB", help="bytes for documents that wait in memory")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--requests", type=int, help="in all [default: 3 for each client]")
    parser.add_argument("--document", type=int, default=4000, help="tokens of each client's document")
    parser.add_argument("--question", type=int, default=16, help="tokens of each question")
    parser.add_argument("--generate", type=int, default=128, help="tokens of each answer")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--least", type=float, help="fail if the last scheme is not so many times as fast as the first")
    args = parser.parse_args()
    schemes = args.schemes.split(",")
    results: dict[str, list[dict]] = {scheme: [] for scheme in schemes}
    try:
        for seed in range(1, args.rounds + 1):
            for scheme in schemes:
                results[scheme].append(run_scheme(args, scheme, seed))
                print(f"round {seed}  {scheme}: {speed(results[scheme][-1]):.1f} t/s", file=sys.stderr, flush=True)
    except (http1.BadResponse, servers.ServerError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(table(results, args.budget))
    if args.output:
        told = {"budget_bytes": bytes_of(args.budget), "results": results}
        args.output.write_text(json.dumps(servers.about_machine() | told, indent=2) + "\n")
    if any(told["n_errors"] for rounds in results.values() for told in rounds):
        return 1
    medians = [statistics.median(speed(told) for told in results[scheme]) for scheme in schemes]
    if args.least and medians[-1] < args.least * medians[0]:
        print(f"error: {medians[-1] / medians[0]:.2f} times as fast, not {args.least:g}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
