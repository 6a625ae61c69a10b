#!/usr/bin/env python3
"""How long running streams pause while a long prompt is read.

usage: python3 bench/serve/interleave.py --model qwen|PATH [--clients 4] [--long 30000] [--before 10] [--limit 4]
                                         [--threads 2] [--kv SCHEME] [-o FILE.json] [-- OPTIONS OF lossy serve]
       python3 bench/serve/interleave.py --url http://127.0.0.1:8080 …

Some clients generate without an end, and without guesses. After --before seconds a prompt of --long tokens arrives;
when its first token is there, all leave. For each stream: the median time between tokens before that, and median, p99
and maximum while the prompt was read. With --limit N the exit code is 1 if a pause of any stream was longer than N
times its own median while the prompt was read.
"""
import argparse
import asyncio
import itertools
import json
import pathlib
import statistics
import sys

import figures
import http1
import servers
import workload as work
from load import Target


def figures_of(gaps_s: list[float]) -> dict[str, float]:
    """Milliseconds between tokens."""
    return {
        "n": len(gaps_s),
        "median_ms": 1000 * statistics.median(gaps_s) if gaps_s else float("nan"),
        "p99_ms": 1000 * figures.percentile(gaps_s, 0.99),
        "max_ms": 1000 * max(gaps_s, default=float("nan")),
    }


def of_stream(stream: figures.Stream, start_s: float, end_s: float) -> dict:
    """A gap belongs to the time in which it ends; one that is still open when the prompt is read counts, too."""
    before, during = [], []
    longest_s = at_s = 0.0
    for earlier, later in itertools.pairwise([*stream.text_s, end_s]):
        if later <= start_s:
            before.append(later - earlier)
        elif earlier < end_s:
            during.append(later - earlier)
            if during[-1] > longest_s:
                longest_s, at_s = during[-1], earlier - start_s
    told = {"before": figures_of(before), "during": figures_of(during), "max_at_s": at_s}
    for name in ("before", "during"):
        median_ms = told[name]["median_ms"]
        told[f"max_over_median_{name}"] = told["during"]["max_ms"] / median_ms if median_ms != 0 else float("inf")
    return told


async def measure(target: Target, n_clients: int, n_long: int, before_s: float, n_prompt: int) -> dict:
    load = work.Workload(n_clients, n_clients, None, n_prompt, 0, 1, n_long, 1)
    prompts = await work.make_prompts(target.address, load, key=target.key)
    own = [ids[n_long:] for ids in prompts.requests]
    over = asyncio.Event()
    # Tokens that were guessed arrive together, and there would be no time between them.
    endless = [target.stream(ids, 100_000, until=over, speculation="off") for ids in own]
    streams = [asyncio.ensure_future(stream) for stream in endless]
    await asyncio.sleep(before_s)
    if ended := [task for task in streams if task.done()]:
        raise http1.BadResponse(f"a stream ended by itself: {figures.stream_of(ended[0].result()).error}")
    long = figures.stream_of(await target.stream(prompts.documents[0], 1))
    await asyncio.sleep(min(before_s / 2, 2))
    over.set()
    told = [figures.stream_of(transcript, left=True) for transcript in await asyncio.gather(*streams)]
    if failed := [stream.error for stream in [long, *told] if stream.error]:
        raise http1.BadResponse(failed[0])
    start_s, end_s = long.sent_s, long.text_s[0]
    return {
        "n_clients": n_clients,
        "n_long_tokens": n_long,
        "long_first_token_s": end_s - start_s,
        "long_cached_tokens": long.n_cached,
        "streams": [of_stream(stream, start_s, end_s) for stream in told],
    }


def table(told: dict) -> str:
    lines = [
        f"A prompt of {told['n_long_tokens']} tokens beside {told['n_clients']} streams: its first token after "
        f"{told['long_first_token_s']:.1f} s ({told['long_cached_tokens']} tokens came from the cache)",
        "",
        "| stream | before: median ms | during: median | p99 | max | begins at s | max / median before | max / median during |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for number, stream in enumerate(told["streams"]):
        before, during = stream["before"], stream["during"]
        lines.append(
            f"| {number} | {before['median_ms']:.1f} | {during['median_ms']:.1f} | {during['p99_ms']:.1f} | "
            f"{during['max_ms']:.1f} | {stream['max_at_s']:.1f} | {stream['max_over_median_before']:.1f} | {stream['max_over_median_during']:.1f} |"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description="How long running streams pause while a long prompt is read.")
    servers.add_arguments(parser)
    parser.add_argument("--url", help="a server that runs already")
    parser.add_argument("--api-key", help="the key that it asks for")
    parser.add_argument("--clients", type=int, default=4, help="streams that run")
    parser.add_argument("--long", type=int, default=30_000, help="tokens of the prompt that arrives")
    parser.add_argument("--prompt", type=int, default=64, help="tokens of each stream's own prompt")
    parser.add_argument("--before", type=float, default=10, help="seconds until it arrives")
    parser.add_argument("--limit", type=float, help="fail if a pause is longer than so many medians")
    args = parser.parse_args()

    async def run(url: str) -> dict:
        return await measure(await Target.find(url, args.api_key), args.clients, args.long, args.before, args.prompt)

    try:
        if args.url:
            told = asyncio.run(run(args.url))
        else:
            n_ctx = args.ctx or args.long + 512
            with servers.lossy_of(args, n_ctx, "--parallel", str(args.clients + 1)) as server:
                told = {"command": server.command} | asyncio.run(run(server.url))
    except (http1.BadResponse, servers.ServerError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(table(told))
    if args.output:
        args.output.write_text(json.dumps(servers.about_machine() | told, indent=2) + "\n")
    worst = max(stream["max_over_median_during"] for stream in told["streams"])
    if args.limit and worst > args.limit:
        print(f"error: a stream paused for {worst:.1f} times its median, more than {args.limit}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
