"""What is asked: prompts of an exact number of tokens, made from a seed or cut from files, and when they are asked."""
import random
from typing import Any, NamedTuple

import http1

SUBJECTS = "The miller,The captain,A clerk,The old teacher,Her sister,The guard,A stranger,The baker".split(",")
VERBS = "carried,sold,found,counted,painted,lost,mended,hid,weighed,described,borrowed,returned".split(",")
THINGS = "a lamp,two ropes,the ledger,a map of the coast,nine apples,an empty barrel,the letter,a clock".split(",")
PLACES = "at the harbour,in the mill,near the bridge,behind the church,on the hill,in the market".split(",")
TIMES = "before dawn,on Monday,in the autumn,after the storm,in the year {n},when the bell rang {n} times".split(",")


class Workload(NamedTuple):
    """`n_requests` requests, `n_clients` at a time, or at `rate` per second whatever is still running.

    Each prompt has `n_prompt` tokens, each answer `n_generate`. With `n_documents` a prompt begins with one of so many
    documents of `n_document` tokens, in turn, and only its last `n_prompt` tokens are its own.
    """

    n_requests: int
    n_clients: int
    rate: float | None
    n_prompt: int
    n_generate: int
    n_documents: int
    n_document: int
    seed: int


class Prompts(NamedTuple):
    """Token ids: of the documents, and of each request, whose document they begin with."""

    documents: list[list[int]]
    requests: list[list[int]]


def sentences(rng: random.Random, n_words: int) -> str:
    """Plain English that says little. No two seeds give the same, so nothing is cached by chance."""
    words, told = 0, []
    while words < n_words:
        when = rng.choice(TIMES).format(n=rng.randrange(2, 2000))
        parts = rng.choice(SUBJECTS), rng.choice(VERBS), rng.choice(THINGS), rng.choice(PLACES), when
        told.append(" ".join(parts) + ".")
        words += len(told[-1].split())
    return " ".join(told)


async def tokenize(address: tuple[str, int], text: str, key: str | None = None) -> list[int]:
    answer = await http1.ask(address, "POST", "/tokenize", {"content": text, "add_special": False}, key)
    return answer["tokens"]


async def make_prompts(
    address: tuple[str, int], workload: Workload, texts: list[str] | None = None, key: str | None = None
) -> Prompts:
    """The prompts of a workload, cut by the server's own tokenizer; from `texts` if there are any.

    Raises ValueError if the texts are too short, BadResponse if the server does not tokenize.
    """
    rng = random.Random(workload.seed)
    sizes = [workload.n_document] * workload.n_documents + [workload.n_prompt] * workload.n_requests
    if texts:
        ids = [token for text in texts for token in await tokenize(address, text, key)]
        if len(ids) < sum(sizes):
            raise ValueError(f"the texts have {len(ids)} tokens, but the prompts need {sum(sizes)}")
        pieces = _cut(ids, sizes)
    else:
        pieces = []
        for n_tokens in sizes:
            ids = await tokenize(address, sentences(rng, n_tokens), key)
            while len(ids) < n_tokens:
                ids += await tokenize(address, " " + sentences(rng, n_tokens - len(ids)), key)
            pieces.append(ids[:n_tokens])
    documents, own = pieces[: workload.n_documents], pieces[workload.n_documents:]
    requests = [(documents[i % len(documents)] if documents else []) + ids for i, ids in enumerate(own)]
    return Prompts(documents, requests)


def _cut(ids: list[int], sizes: list[int]) -> list[list[int]]:
    pieces, start = [], 0
    for size in sizes:
        pieces.append(ids[start:start + size])
        start += size
    return pieces


def completion(model: str, ids: list[int], n_generate: int, **fields: Any) -> dict:
    """A request for exactly `n_generate` tokens after these, as a stream with usage at its end."""
    asked = {"model": model, "prompt": ids, "max_tokens": n_generate, "temperature": 0, "ignore_eos": True}
    return asked | {"stream": True, "stream_options": {"include_usage": True}} | fields


def arrivals(workload: Workload) -> list[float]:
    """When each request of an open loop arrives, in seconds: gaps are exponential, as of clients who do not know each
    other.
    """
    rng = random.Random(workload.seed + 1)
    at_s, times = 0.0, []
    for _ in range(workload.n_requests):
        times.append(at_s)
        at_s += rng.expovariate(workload.rate)
    return times
