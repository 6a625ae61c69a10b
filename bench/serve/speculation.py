#!/usr/bin/env python3
"""What guessed tokens gain: answers that quote, and one that does not, with speculation and without, in turns.

usage: python3 bench/serve/speculation.py --model qwen|PATH [--tasks summary,extraction,edit,story,noise] [--rounds 5]
                                          [--generate 200] [--against auto] [--clients 1] [--threads 2] [--kv SCHEME]
                                          [--least-ratio R] [-o FILE.json] [-- OPTIONS OF lossy serve]

The texts are those of crates/eval/text. Each round asks every question once with `"speculation": "off"` and once with what
is measured; which of both comes first changes from round to round. Both answers must be the same, or it is an error. A first
question that is not timed reads the document, so that what is measured is decoding. `story` has nothing to quote, but words that come
again; `noise` is random words at a high temperature. There, what is lost is the price of looking and of wrong guesses. With --clients N so many ask at once, each another question
about the same document.
"""
import argparse
import asyncio
import json
import pathlib
import random
import statistics
import sys
from typing import NamedTuple

import http1
import servers
from load import Target

TEXTS = servers.ROOT / "crates" / "eval" / "text"


class Task(NamedTuple):
    """A document, what is asked about it, and how the answer is sampled."""

    document: str
    question: str
    sampling: dict


def text_of(name: str, start: str, n_bytes: int) -> str:
    """Whole paragraphs of a text from where `start` stands in it."""
    text = (TEXTS / f"{name}.txt").read_text()
    at = text.index(start)
    return text[at:text.index("\n", at + n_bytes)].strip()


def function_of(name: str) -> str:
    """An item of the sources, up to the brace that closes it."""
    text = (TEXTS / "code.txt").read_text()
    at = text.index(name)
    return text[at:text.index("\n}\n", at) + 2]


def tasks(seed: int) -> dict[str, Task]:
    words = [word for word in (TEXTS / "prose.txt").read_text().split() if word.isalpha()]
    rng = random.Random(seed)
    noise = " ".join(rng.choice(words) for _ in range(600))
    greedy = {"temperature": 0}
    return {
        "summary": Task(
            text_of("prose", "Emma Woodhouse, handsome", 4500),
            "Summarize this text in about ten sentences.",
            greedy,
        ),
        "extraction": Task(
            text_of("dialogue", "It is a truth universally", 4500),
            "List everything that Mr. Bennet says, each sentence quoted word for word.",
            greedy,
        ),
        "edit": Task(
            function_of("impl Metadata {"),
            "Rename the method `require` to `demand` everywhere in this code. Print the whole code again and change "
            "nothing else.",
            greedy,
        ),
        "story": Task("", "Write a long story about a lighthouse keeper and her cat.", {"temperature": 1, "seed": seed}),
        "noise": Task(
            noise,
            "Go on with other random words, without any order.",
            {"temperature": 1.5, "top_k": 0, "top_p": 1, "min_p": 0, "seed": seed, "ignore_eos": True},
        ),
    }


async def ask(target: Target, task: Task, speculation: str, n_generate: int, client: int) -> dict:
    question = task.question if client == 0 else f"{task.question} (Answer {client}.)"
    body = {
        "model": target.model,
        "messages": [{"role": "user", "content": f"{task.document}\n\n{question}".strip()}],
        "max_tokens": n_generate,
        "speculation": speculation,
        **task.sampling,
    }
    answer = await http1.ask(target.address, "POST", "/v1/chat/completions", body)
    return {"text": answer["choices"][0]["message"]["content"], **answer["timings"]}


async def measure(url: str, args: argparse.Namespace) -> dict:
    target = await Target.find(url)
    told = {}
    for name in args.tasks.split(","):
        task = tasks(args.seed)[name]

        async def all_clients(speculation: str, n_generate: int) -> list[dict]:
            asked = (ask(target, task, speculation, n_generate, client) for client in range(args.clients))
            return await asyncio.gather(*asked)

        await all_clients("off", 8)
        rounds = []
        for number in range(args.rounds):
            kinds = ["off", args.against]
            answers = {kind: await all_clients(kind, args.generate) for kind in kinds[::-1 if number % 2 else 1]}
            texts = [[answer["text"] for answer in answers[kind]] for kind in kinds]
            if texts[0] != texts[1]:
                raise http1.BadResponse(f"{name}: the answers differ with speculation {args.against}")
            # One client: its own rate. Several: those of all together.
            rates = {kind: sum(answer["predicted_per_second"] for answer in answers[kind]) for kind in kinds}
            drafted = sum(answer["draft_n"] for answer in answers[args.against])
            accepted = sum(answer["draft_n_accepted"] for answer in answers[args.against])
            generated = sum(answer["predicted_n"] for answer in answers[args.against])
            rounds.append({"rates": rates, "drafted": drafted, "accepted": accepted, "generated": generated})
        plain, guessing = (statistics.median(r["rates"][kind] for r in rounds) for kind in ("off", args.against))
        told[name] = {
            "rounds": rounds,
            "tokens_per_second": {"off": plain, args.against: guessing},
            "ratio": statistics.median(r["rates"][args.against] / r["rates"]["off"] for r in rounds),
            "answer": texts[1][0],
        }
    return told


def table(told: dict, args: argparse.Namespace) -> str:
    lines = [
        f"{args.model}, {args.kv}, {args.clients} client(s), medians of {args.rounds} rounds, the same answers",
        "",
        f"| task | off, tokens/s | {args.against}, tokens/s | ratio (least, most) | guessed | of them right | of the answer |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, task in told.items():
        rates = task["tokens_per_second"]
        ratios = [r["rates"][args.against] / r["rates"]["off"] for r in task["rounds"]]
        drafted, accepted, generated = (sum(r[key] for r in task["rounds"]) for key in ("drafted", "accepted", "generated"))
        right = f"{100 * accepted / drafted:.0f} %" if drafted else "-"
        lines.append(
            f"| {name} | {rates['off']:.1f} | {rates[args.against]:.1f} | {task['ratio']:.2f} ({min(ratios):.2f}, "
            f"{max(ratios):.2f}) | {drafted / len(ratios):.0f} | {right} | {100 * accepted / generated:.0f} % |"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description="What guessed tokens gain.")
    servers.add_arguments(parser)
    parser.add_argument("--tasks", default="summary,extraction,edit,story,noise", help="which, between commas")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--generate", type=int, default=200, help="tokens of an answer")
    parser.add_argument("--against", default="auto", help="what is compared with off")
    parser.add_argument("--clients", type=int, default=1, help="questions at once")
    parser.add_argument("--seed", type=int, default=1, help="of the noise")
    parser.add_argument("--least-ratio", type=float, default=0, help="fail if a task is not so many times as fast")
    args = parser.parse_args()
    unknown = set(args.tasks.split(",")) - set(tasks(args.seed))
    if unknown:
        parser.error(f"--tasks: {', '.join(sorted(unknown))} is none of {', '.join(tasks(args.seed))}")
    try:
        with servers.lossy_of(args, args.ctx or 4096, "--parallel", str(args.clients)) as server:
            command = server.command
            told = asyncio.run(measure(server.url, args))
    except (http1.BadResponse, servers.ServerError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(table(told, args))
    if args.output:
        args.output.write_text(json.dumps(servers.about_machine() | {"command": command, "tasks": told}, indent=2) + "\n")
    slow = [name for name, task in told.items() if task["ratio"] < args.least_ratio]
    for name in slow:
        print(f"error: {name}: {told[name]['ratio']:.3f} times as fast, not {args.least_ratio:g}", file=sys.stderr)
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
