"""The same request gets the same bytes: alone, among fifteen others, in any order, beside a long prompt, from the cache.

usage: same_bytes.py URL [--api-key KEY] [--long-tokens N] [--answer-tokens N] [--rounds N]
                     [--record FILE] [--compare FILE]

Sixteen prompts, half of them sampled with a seed; text, finish_reason and all log-probabilities are compared as the JSON
that came. --record keeps the answers, --compare expects those of another run: of another number of threads, after a
restart with a cache directory, or of a server whose small cache makes it preempt.
"""
import json
import pathlib
import queue
import random
import sys
import threading
import time

import checks
from checks import Server, check, equal, expect

N_PROMPTS = 16
# What each prompt got alone, in the first check.
alone: list[str] = []


def requests(server: Server) -> list[dict]:
    """Prompts of 20 to some 1,500 tokens: within a page, at its edge, across several; and two that begin alike."""
    made = []
    for number in range(N_PROMPTS):
        facts = " ".join(f"Item {k} of list {number % 15} costs {(k * 37 + number % 15) % 101} coins." for k in range(
            [1, 8, 9, 10, 20, 40, 80, 110][number // 2]))
        asked = {
            "model": server.model,
            "messages": [{"role": "user", "content": f"{facts} What is the price of item {number}? Explain."}],
            "max_tokens": server.options.answer_tokens * (8 + number) // 8,
            "logprobs": True,
            "top_logprobs": 3,
        }
        made.append(asked | ({"temperature": 1.2, "seed": 100 + number} if number % 2 else {"temperature": 0}))
    return made


def told(server: Server, asked: dict) -> str:
    """What an answer says, without its id, its date and its times."""
    answer = server.ask("POST", "/v1/chat/completions", asked)
    equal("status", answer.status, 200)
    choice = answer.json()["choices"][0]
    usage = answer.json()["usage"]
    kept = {key: choice[key] for key in ("message", "finish_reason", "logprobs")}
    return json.dumps(kept | {"tokens": [usage["prompt_tokens"], usage["completion_tokens"]]}, sort_keys=True)


def at_once(server: Server, asked: list[tuple[int, dict]], pause_s: float = 0.0) -> dict[int, str]:
    """All requests at the same time, each from a thread of its own, which start `pause_s` apart."""
    answers: queue.Queue = queue.Queue()

    def run(number: int, one: dict) -> None:
        try:
            answers.put((number, told(server, one)))
        except Exception as error:
            answers.put((number, error))

    threads = []
    for number, one in asked:
        threads.append(threading.Thread(target=run, args=(number, one), daemon=True))
        threads[-1].start()
        time.sleep(pause_s)
    found = {}
    for _ in asked:
        number, answer = answers.get(timeout=1200)
        if isinstance(answer, Exception):
            raise answer
        found[number] = answer
    return found


def compare_all(what: str, found: dict[int, str]) -> None:
    expect(alone, "the prompts alone failed, so there is nothing to compare with")
    different = [number for number in range(N_PROMPTS) if found[number] != alone[number]]
    if different:
        number = different[0]
        ours, first = found[number], alone[number]
        at = next((i for i, (a, b) in enumerate(zip(ours, first, strict=False)) if a != b), min(len(ours), len(first)))
        raise checks.Failed(
            f"{what}: {len(different)} of {N_PROMPTS} answers differ ({different}); prompt {number} from byte {at}: "
            f"alone …{first[max(0, at - 60):at + 80]}…, here …{ours[max(0, at - 60):at + 80]}…"
        )


@check
def alone_and_cold(server: Server) -> None:
    alone.extend(told(server, asked) for asked in requests(server))


@check
def alone_and_from_the_cache(server: Server) -> None:
    compare_all("a second time", {number: told(server, asked) for number, asked in enumerate(requests(server))})


@check
def all_together(server: Server) -> None:
    compare_all("together", at_once(server, list(enumerate(requests(server)))))


@check
def in_random_order(server: Server) -> None:
    asked = list(enumerate(requests(server)))
    for seed in range(server.options.rounds):
        rng = random.Random(seed)
        rng.shuffle(asked)
        compare_all(f"order {seed}", at_once(server, asked, pause_s=rng.choice((0.0, 0.01, 0.1))))


@check
def beside_others_that_begin_alike(server: Server) -> None:
    """Other questions share the prompts' first pages, and are in the making at the same time."""
    asked = list(enumerate(requests(server)))
    others = []
    for number, one in asked[8:]:
        text = one["messages"][0]["content"].replace("What is the price", "Who paid the price")
        others.append((N_PROMPTS + number, one | {"messages": [{"role": "user", "content": text}]}))
    mixed = asked + others
    random.Random(9).shuffle(mixed)
    compare_all("beside others", at_once(server, mixed))


@check
def cold_and_together(server: Server) -> None:
    """With a salt nothing of the earlier answers is in the cache; a salt changes no answer."""
    asked = [(number, one | {"cache_salt": f"cold {number}"}) for number, one in enumerate(requests(server))]
    compare_all("cold and together", at_once(server, asked))


@check
def while_a_long_prompt_is_read(server: Server) -> None:
    n_long = min(server.options.long_tokens, server.n_ctx() - 64)
    words = " ".join(f"{k} boats and {k * 31 % 97} gulls;" for k in range(n_long // 8))
    n_found = len(server.tokenize(words))
    words = words[: len(words) * n_long // max(n_found, 1)] if n_found > n_long else words
    n_found = len(server.tokenize(words))
    print(f"   the long prompt has {n_found} tokens")
    long = {"model": server.model, "prompt": words, "max_tokens": 1, "cache_salt": "long"}
    status: list[int] = []

    def ask_long() -> None:
        status.append(server.ask("POST", "/v1/completions", long).status)

    thread = threading.Thread(target=ask_long, daemon=True)
    asked = [(number, one | {"cache_salt": "beside long"}) for number, one in enumerate(requests(server))]
    thread.start()
    time.sleep(0.2)
    compare_all("beside a long prompt", at_once(server, asked, pause_s=0.02))
    thread.join(timeout=1200)
    equal("status of the long prompt", status, [200])


@check
def recorded_answers(server: Server) -> None:
    expect(alone, "the prompts alone failed, so there is nothing to compare with")
    if compare := server.options.compare:
        compare_all(f"against {compare.name}", dict(enumerate(json.loads(compare.read_text()))))
    if record := server.options.record:
        record.write_text(json.dumps(alone, indent=1) + "\n")


if __name__ == "__main__":
    parser = checks.parser("The same request gets the same bytes.")
    parser.add_argument("--long-tokens", type=int, default=30_000, help="of the prompt that arrives in between")
    parser.add_argument("--answer-tokens", type=int, default=24,
                        help="of the shortest; the longest has three times as many")
    parser.add_argument("--rounds", type=int, default=3, help="random orders")
    parser.add_argument("--record", type=pathlib.Path, metavar="FILE", help="keep the answers")
    parser.add_argument("--compare", type=pathlib.Path, metavar="FILE", help="expect the answers of another run")
    sys.exit(checks.main(parser))
