#!/usr/bin/env python3
"""How soon a document is answered again: the first time, a second time, and after a restart of the server.

usage: python3 bench/serve/reload.py --model qwen|PATH [--tokens 30000] [--rounds 3] [--threads 2] [--kv SCHEME]
                                     [--least-again R] [--least-restart R] [-o FILE.json] [-- OPTIONS OF lossy serve]
       python3 bench/serve/reload.py --model smollm2 --ci        4,000 tokens; 20 and 10 times sooner, or exit code 1

Each round has a document of its own, and three different questions about it; what is compared is the time to the first
token. The server has an empty --cache-dir. Before each measurement a short prompt of its own is answered, so that none
of the three pays for weights that are not in memory yet.
"""
import argparse
import asyncio
import json
import pathlib
import statistics
import sys
import tempfile

import figures
import http1
import servers
import workload as work
from load import Target

N_QUESTION = 32
# What a document is asked in turn.
TIMES = ("first", "again", "after_restart")


class Documents:
    """The documents of all rounds, each with three questions."""

    def __init__(self, prompts: work.Prompts, n_tokens: int):
        questions = [ids[n_tokens:] for ids in prompts.requests]
        self.asked = {
            (number, time): document + questions[len(TIMES) * number + at]
            for number, document in enumerate(prompts.documents)
            for at, time in enumerate(TIMES)
        }
        self.short = questions[-1]


async def make_documents(target: Target, n_rounds: int, n_tokens: int, seed: int) -> Documents:
    load = work.Workload(len(TIMES) * n_rounds + 1, 1, None, N_QUESTION, 1, n_rounds, n_tokens, seed)
    return Documents(await work.make_prompts(target.address, load), n_tokens)


async def ask(target: Target, ids: list[int]) -> dict:
    stream = figures.stream_of(await target.stream(ids, 1))
    if stream.error:
        raise http1.BadResponse(stream.error)
    return {"first_token_ms": 1000 * stream.first_s, "n_cached": stream.n_cached, "n_prompt": stream.n_prompt}


async def ask_all(target: Target, documents: Documents, times: tuple[str, ...], n_rounds: int) -> dict:
    told = {}
    for number in range(n_rounds):
        for time in times:
            await ask(target, documents.short)
            told[number, time] = await ask(target, documents.asked[number, time])
    return told


def measure(args: argparse.Namespace, cache: pathlib.Path) -> dict:
    options = ("--cache-dir", str(cache), "--parallel", "1")
    n_ctx = args.ctx or args.tokens + 512

    async def first(url: str) -> tuple[Documents, dict]:
        target = await Target.find(url)
        documents = await make_documents(target, args.rounds, args.tokens, args.seed)
        return documents, await ask_all(target, documents, ("first", "again"), args.rounds)

    async def second(url: str, documents: Documents) -> dict:
        return await ask_all(await Target.find(url), documents, ("after_restart",), args.rounds)

    with servers.lossy_of(args, n_ctx, *options) as server:
        command = server.command
        documents, told = asyncio.run(first(server.url))
    cache_bytes = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file())
    with servers.lossy_of(args, n_ctx, *options) as server:
        told |= asyncio.run(second(server.url, documents))
    rows = [{time: told[number, time] for time in TIMES} for number in range(args.rounds)]
    medians = {time: statistics.median(row[time]["first_token_ms"] for row in rows) for time in TIMES}
    return {
        "command": command,
        "n_tokens": args.tokens,
        "cache_dir_bytes": cache_bytes,
        "rounds": rows,
        "median_first_token_ms": medians,
        "times_sooner_again": medians["first"] / medians["again"],
        "times_sooner_after_restart": medians["first"] / medians["after_restart"],
    }


def table(told: dict) -> str:
    names = {"first": "the first time", "again": "again", "after_restart": "after a restart"}
    ratios = {"first": "", "again": f"{told['times_sooner_again']:.1f}×",
              "after_restart": f"{told['times_sooner_after_restart']:.1f}×"}
    lines = [
        f"A document of {told['n_tokens']} tokens, medians of {len(told['rounds'])} rounds; "
        f"{told['cache_dir_bytes'] / 1e6:.1f} MB in the cache directory",
        "",
        "| asked | first token, ms | sooner | tokens from the cache |",
        "| --- | ---: | ---: | ---: |",
    ]
    for time in TIMES:
        cached = [row[time]["n_cached"] for row in told["rounds"]]
        lines.append(f"| {names[time]} | {told['median_first_token_ms'][time]:.1f} | {ratios[time]} | {min(cached)} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description="How soon a document is answered again.")
    servers.add_arguments(parser)
    parser.add_argument("--tokens", type=int, default=30_000, help="of each document")
    parser.add_argument("--rounds", type=int, default=3, help="documents")
    parser.add_argument("--seed", type=int, default=1, help="of the documents' texts")
    parser.add_argument("--ci", action="store_true", help="4,000 tokens, at least 20 and 10 times sooner")
    parser.add_argument("--least-again", type=float, default=0, help="fail if the second time is not so much sooner")
    parser.add_argument("--least-restart", type=float, default=0, help="the same after a restart")
    args = parser.parse_args()
    if args.ci:
        args.tokens, args.least_again, args.least_restart = 4000, 20, 10
    try:
        with tempfile.TemporaryDirectory(prefix="lossy-reload-") as folder:
            told = measure(args, pathlib.Path(folder) / "cache")
    except (http1.BadResponse, servers.ServerError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(table(told))
    if args.output:
        args.output.write_text(json.dumps(servers.about_machine() | told, indent=2) + "\n")
    failed = 0
    for what, least in (("again", args.least_again), ("after_restart", args.least_restart)):
        if told[f"times_sooner_{what}"] < least:
            print(f"error: {what}: {told[f'times_sooner_{what}']:.1f} times sooner, not {least:g}", file=sys.stderr)
            failed = 1
    return failed


if __name__ == "__main__":
    sys.exit(main())
