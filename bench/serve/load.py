#!/usr/bin/env python3
"""A load of many clients on an OpenAI-compatible server: how soon, how evenly and how fast it answers.

usage: python3 bench/serve/load.py URL [--clients 8 | --rate 2.5] [--requests N] [--prompt 128] [--generate 128]
                                   [--documents K --document 4000] [--text FILE] [--seed 1] [--warm-up 0]
                                   [--api-key KEY] [-o table|json] [--save FILE]

README.md beside this file says what the figures mean. Exit code 1 if any request failed.
"""
import argparse
import asyncio
import json
import pathlib
import sys
from typing import Any
from urllib.parse import urlsplit

import figures
import http1
import workload as work
from figures import Stream
from workload import Prompts, Workload


class Target:
    """A server under load: where it is, its key, what it calls its model."""

    def __init__(self, address: tuple[str, int], model: str, key: str | None = None, timeout_s: float = 1800):
        self.address, self.model, self.key, self.timeout_s = address, model, key, timeout_s

    @classmethod
    async def find(cls, url: str, key: str | None = None) -> "Target":
        parts = urlsplit(url)
        address = parts.hostname or "127.0.0.1", parts.port or 80
        models = await http1.ask(address, "GET", "/v1/models", key=key)
        return cls(address, models["data"][0]["id"], key)

    async def stream(self, ids: list[int], n_generate: int, until: asyncio.Event | None = None, **fields: Any):
        """One completion; its transcript, to be understood when the load is over."""
        body = work.completion(self.model, ids, n_generate, **fields)
        request = http1.request_bytes(self.address, "POST", "/v1/completions", body, self.key)
        return await http1.exchange(self.address, request, self.timeout_s, until)


async def closed_loop(target: Target, load: Workload, prompts: Prompts) -> list[http1.Transcript]:
    """Each client asks its next question when it has its answer."""
    waiting = iter(prompts.requests)
    transcripts: list[http1.Transcript] = []

    async def client() -> None:
        for ids in waiting:
            transcripts.append(await target.stream(ids, load.n_generate))

    await asyncio.gather(*(client() for _ in range(load.n_clients)))
    return transcripts


async def open_loop(target: Target, load: Workload, prompts: Prompts) -> list[http1.Transcript]:
    """Requests arrive when they arrive, whether or not the server keeps up."""

    async def one(at_s: float, ids: list[int]) -> http1.Transcript:
        await asyncio.sleep(at_s)
        return await target.stream(ids, load.n_generate)

    times = work.arrivals(load)
    return list(await asyncio.gather(*(one(at_s, ids) for at_s, ids in zip(times, prompts.requests, strict=True))))


async def warm_up(target: Target, prompts: Prompts) -> None:
    """Each document is read once, so that it lies in the cache; then the requests, which do not count.

    Raises BadResponse if one fails.
    """
    for ids in prompts.documents + prompts.requests:
        stream = figures.stream_of(await target.stream(ids, 1))
        if stream.error:
            raise http1.BadResponse(f"while warming up: {stream.error}")


async def measure(
    target: Target, load: Workload, texts: list[str] | None = None, n_warm_up: int = 0
) -> tuple[dict, list[Stream]]:
    """Run a load: its figures, and each answer. Raises BadResponse if the warm-up fails."""
    more = load._replace(n_requests=load.n_requests + n_warm_up)
    made = await work.make_prompts(target.address, more, texts, target.key)
    await warm_up(target, made._replace(requests=made.requests[load.n_requests:]))
    prompts = made._replace(requests=made.requests[: load.n_requests])
    transcripts = await (open_loop if load.rate else closed_loop)(target, load, prompts)
    streams = [figures.stream_of(transcript) for transcript in transcripts]
    told = {"workload": load._asdict(), "model": target.model}
    return told | figures.summary(streams, None if load.rate else load.n_clients), streams


def workload_of(args: argparse.Namespace) -> Workload:
    n_clients = args.clients
    n_requests = args.requests or 4 * n_clients
    return Workload(
        n_requests, n_clients, args.rate, args.prompt, args.generate, args.documents, args.document, args.seed
    )


def add_workload(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--clients", type=int, default=8, help="how many ask at once, each one request after another")
    parser.add_argument("--rate", type=float, help="requests per second, instead of clients that wait for answers")
    parser.add_argument("--requests", type=int, help="in all [default: 4 for each client]")
    parser.add_argument("--prompt", type=int, default=128, help="tokens of each prompt, or of each question")
    parser.add_argument("--generate", type=int, default=128, help="tokens of each answer")
    parser.add_argument("--documents", type=int, default=0, help="how many documents the questions are about")
    parser.add_argument("--document", type=int, default=4000, help="tokens of each document")
    parser.add_argument("--seed", type=int, default=1, help="of the texts: other seeds, other texts")


def main() -> int:
    parser = argparse.ArgumentParser(description="A load of many clients on an OpenAI-compatible server.")
    parser.add_argument("url", help="root of the server, as http://127.0.0.1:8080")
    add_workload(parser)
    parser.add_argument("--text", type=pathlib.Path, action="append", help="cut prompts from this file instead")
    parser.add_argument("--warm-up", type=int, default=0, help="requests that do not count, after the documents")
    parser.add_argument("--api-key", help="the key that the server asks for")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    parser.add_argument("--save", type=pathlib.Path, metavar="FILE", help="the same as JSON, also into a file")
    args = parser.parse_args()

    async def run() -> dict:
        target = await Target.find(args.url, args.api_key)
        texts = [path.read_text(encoding="utf-8") for path in args.text or []]
        told, _ = await measure(target, workload_of(args), texts, args.warm_up)
        return told

    try:
        told = asyncio.run(run())
    except (http1.BadResponse, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(json.dumps(told, indent=2) if args.output == "json" else figures.table(told))
    if args.save:
        args.save.write_text(json.dumps(told, indent=2) + "\n")
    return 1 if told["n_errors"] else 0


if __name__ == "__main__":
    sys.exit(main())
