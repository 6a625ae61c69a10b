#!/usr/bin/env python3
"""The same load on `lossy serve` and on llama.cpp's `llama-server`, in turns: 1, 4, 8 and 16 clients.

usage: python3 bench/serve/peers.py --model smollm2|qwen|PATH [--clients 1,4,8,16] [--rounds 3] [--threads 2]
                                    [--prompt 128] [--generate 128] [--documents --document 2048]
                                    [--kv f16,k2v2] [--llama-settings "-fa off;-fa on"] [--llama-server PROGRAM]
                                    [-o FILE.json]

Every setting is a server of its own, and all of them stay while the measurement runs; idle, they compute nothing. In each
round every setting gets the same prompts once for each number of clients. With --documents each client has a document
that is read before the clock starts: then decoding is what is measured. The ratio is of medians, each engine at its best.
"""
import argparse
import asyncio
import contextlib
import json
import pathlib
import statistics
import sys

import build_llama_server
import http1
import load
import servers
import workload as work
from load import Target


class Measured:
    """What one setting of one engine gave for one number of clients, round by round."""

    def __init__(self, engine: str, setting: str, n_clients: int):
        self.engine, self.setting, self.n_clients = engine, setting, n_clients
        self.rounds: list[dict] = []

    def median(self, *keys: str) -> float:
        """The median over rounds of one figure; NaN if no round has it."""
        values = []
        for told in self.rounds:
            for key in keys:
                told = told.get(key, {}) if isinstance(told, dict) else {}
            if isinstance(told, (int, float)):
                values.append(told)
        return statistics.median(values) if values else float("nan")

    @property
    def speed(self) -> float:
        return self.median("generated_tokens_per_s")

    @property
    def n_errors(self) -> int:
        return sum(told["n_errors"] for told in self.rounds)


def workload_of(args: argparse.Namespace, n_clients: int, seed: int) -> work.Workload:
    n_documents = n_clients if args.documents else 0
    return work.Workload(
        args.requests * n_clients, n_clients, None, args.prompt, args.generate, n_documents, args.document, seed
    )


async def measure(server: servers.Server, workload: work.Workload) -> dict:
    told, _ = await load.measure(await Target.find(server.url), workload, None, n_warm_up=workload.n_clients)
    return told | {"resident_bytes": server.resident_bytes()}


def best(results: list[Measured], engine: str, n_clients: int) -> Measured | None:
    own = [r for r in results if (r.engine, r.n_clients) == (engine, n_clients) and r.speed == r.speed]
    return max(own, key=lambda r: r.speed, default=None)


def table(results: list[Measured]) -> str:
    """Markdown: a row for each number of clients, both engines at their best setting."""
    lines = [
        "| clients | lossy t/s | llama-server t/s | ratio | first token, p50 ms: lossy | llama-server | "
        "between tokens, p50 ms: lossy | llama-server |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for n_clients in dict.fromkeys(r.n_clients for r in results):
        ours, theirs = best(results, "lossy", n_clients), best(results, "llama-server", n_clients)
        pair = (ours, theirs)
        cells = [f"{r.speed:.1f} ({r.setting})" if r else "—" for r in pair]
        cells.append(f"{ours.speed / theirs.speed:.2f}×" if ours and theirs else "—")
        for key in ("first_token_ms", "between_tokens_ms"):
            cells += [f"{r.median(key, 'p50'):.1f}" if r else "—" for r in pair]
        lines.append(f"| {n_clients} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def details(results: list[Measured]) -> str:
    """Markdown: every setting, with its spread over rounds."""
    lines = [
        "| clients | engine | setting | t/s | spread | p99 ms between tokens | MB | errors |",
        "| ---: | --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for r in results:
        speeds = [told["generated_tokens_per_s"] for told in r.rounds if "generated_tokens_per_s" in told]
        spread = 100 * (max(speeds) - min(speeds)) / r.speed if speeds else float("nan")
        lines.append(
            f"| {r.n_clients} | {r.engine} | {r.setting} | {r.speed:.1f} | {spread:.0f} % | "
            f"{r.median('between_tokens_ms', 'p99'):.1f} | {r.median('resident_bytes') / 1e6:.0f} | {r.n_errors} |"
        )
    return "\n".join(lines)


def start_all(args: argparse.Namespace, stack: contextlib.ExitStack) -> list[tuple[str, str, servers.Server]]:
    """(engine, setting, server) of all that take part."""
    model = servers.model_path(args.model)
    most = max(args.clients)
    n_ctx = args.ctx or args.prompt + args.generate + (args.document if args.documents else 0) + 64
    started = []
    for scheme in filter(None, args.kv.split(",")):
        options = ("--kv", scheme, "--parallel", str(most), *args.options)
        server = stack.enter_context(servers.lossy(args.lossy, model, n_ctx, args.threads, *options))
        started.append(("lossy", scheme, server))
    if args.llama_settings:
        program = args.llama_server or build_llama_server.program()
        if not program.exists():
            raise servers.ServerError(f"{program} is not there; build it with bench/serve/build_llama_server.py")
        for setting in args.llama_settings.split(";"):
            options = setting.split()
            server = stack.enter_context(servers.llama(program, model, n_ctx, most, args.threads, *options))
            started.append(("llama-server", setting.strip(), server))
    return started


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="The same load on lossy serve and llama-server, in turns.")
    servers.add_arguments(parser)
    parser.add_argument("--clients", default="1,4,8,16", help="comma list: how many ask at once")
    parser.add_argument("--requests", type=int, default=3, help="of each client in a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--prompt", type=int, default=128, help="tokens of each prompt, or of each question")
    parser.add_argument("--generate", type=int, default=128, help="tokens of each answer")
    parser.add_argument("--documents", action="store_true", help="each client has a document, cached beforehand")
    parser.add_argument("--document", type=int, default=2048, help="tokens of each document")
    parser.add_argument("--llama-server", type=pathlib.Path, help="the program [default: the one that is built here]")
    parser.add_argument("--llama-settings", default="-fa off;-fa on", help="options of llama-server, between semicolons")
    args = parser.parse_args()
    args.clients = [int(n) for n in args.clients.split(",")]
    return args


def main() -> int:
    args = arguments()
    results: list[Measured] = []
    try:
        with contextlib.ExitStack() as stack:
            started = start_all(args, stack)
            about = {"model": servers.model_path(args.model).name, "commands": [s.command for _, _, s in started]}
            for n_clients in args.clients:
                row = [Measured(engine, setting, n_clients) for engine, setting, _ in started]
                results += row
                for seed in range(1, args.rounds + 1):
                    workload = workload_of(args, n_clients, 100 * seed + n_clients)
                    for measured, (_, _, server) in zip(row, started, strict=True):
                        measured.rounds.append(asyncio.run(measure(server, workload)))
                        speed = measured.rounds[-1].get("generated_tokens_per_s", float("nan"))
                        print(f"{n_clients} clients, round {seed}  {measured.engine} ({measured.setting}): {speed:.1f} t/s",
                              file=sys.stderr, flush=True)
    except (http1.BadResponse, servers.ServerError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(table(results) + "\n\n" + details(results))
    if args.output:
        rows = [{"engine": r.engine, "setting": r.setting, "n_clients": r.n_clients, "rounds": r.rounds} for r in results]
        args.output.write_text(json.dumps(servers.about_machine() | about | {"results": rows}, indent=2) + "\n")
    return 1 if any(r.n_errors for r in results) else 0


if __name__ == "__main__":
    sys.exit(main())
