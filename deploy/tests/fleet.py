"""Two servers behind something that shares requests out: chats about documents, and what becomes of them when a server dies.

Each document is the beginning of many chats. A router is worth its place if it sends a chat where its document was read, so that
second questions come from the cache; and if nobody waits for ever, or takes a half answer for a whole one, when a server dies.
"""
import concurrent.futures
import contextlib
import http.client
import json
import os
import pathlib
import random
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

N_CHATS = 20
# Sentences of a document; some 1,000 tokens.
N_SENTENCES = 60
# A second question counts as cached from here on: a page is 128 tokens, and the question itself is new.
SHARE = 0.9
PATIENCE_S = 90

T = TypeVar("T")

NAMES = "Anna Boris Clara David Elena Felix Greta Henry Irene Jakob Klara Louis Maria Nils Olga Peter".split()
PLACES = "Dover Lyon Graz Bergen Porto Siena Turku Gdansk Bruges Leiden Malmo Trier Arles Cork Split Zadar".split()
THINGS = "clock map lamp violin barrel ladder mirror kettle basket compass hammer anchor letter candle".split()


def document(seed: int) -> str:
    """A text that is the same every time, and begins as no other does."""
    dice = random.Random(seed)
    sentence = "In {} {} sold a {} to {} for {} crowns."
    told = [
        sentence.format(*(dice.choice(words) for words in (PLACES, NAMES, THINGS, NAMES)), dice.randrange(10, 99))
        for _ in range(N_SENTENCES)
    ]
    return f"Ledger {seed}.\n" + " ".join(told)


class Ended(NamedTuple):
    """How a request ended: with a whole answer, with an error, or with neither."""

    text: str
    is_whole: bool
    error: str | None
    n_prompt: int = 0
    n_cached: int = 0

    @property
    def is_lost(self) -> bool:
        """The client takes it for the end of an answer, and it is none."""
        return not self.is_whole and self.error is None

    @property
    def share(self) -> float:
        return self.n_cached / self.n_prompt if self.n_prompt else 0.0


class Fleet(NamedTuple):
    """Where requests go, and what the model is called there."""

    url: str
    model: str

    def ask(self, messages: list[dict], n_tokens: int, begun: Callable[[], None] | None = None) -> Ended:
        """One request, to its end. Answers are as long as they may be, so that a server can die within one.

        `begun` is called when an answer begins to come, and makes it a stream.
        """
        body = {"model": self.model, "messages": messages, "max_tokens": n_tokens, "temperature": 0, "ignore_eos": True}
        if begun:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        parts = urlsplit(self.url)
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=PATIENCE_S)
        try:
            headers = {"Content-Type": "application/json"}
            connection.request("POST", "/v1/chat/completions", json.dumps(body).encode(), headers)
            response = connection.getresponse()
            if response.status != 200:
                return Ended("", False, f"{response.status}: {response.read()[:200]!r}")
            return ended_stream(response, begun) if begun else ended_whole(json.loads(response.read()))
        except TimeoutError:
            return Ended("", False, None)  # nobody said anything: the request is lost
        except (OSError, http.client.HTTPException, ValueError) as error:
            return Ended("", False, f"{type(error).__name__}: {error}")
        finally:
            connection.close()


def ended_whole(answer: dict) -> Ended:
    choice, usage = answer["choices"][0], answer["usage"]
    cached = usage["prompt_tokens_details"]["cached_tokens"]
    return Ended(choice["message"]["content"], bool(choice["finish_reason"]), None, usage["prompt_tokens"], cached)


def ended_stream(response: http.client.HTTPResponse, begun: Callable[[], None]) -> Ended:
    """A stream is whole if it has a reason to end, and its last line. A connection that breaks raises, as it does in clients."""
    text, reason, usage, is_done = "", None, {}, False
    received = b""
    # Lines of `http.client` end silently where a connection breaks; this does not.
    while piece := response.read1(1 << 16):
        if not received:
            begun()
        received += piece
    for line in received.decode().splitlines():
        data = line.removeprefix("data:").strip()
        if data == "[DONE]":
            is_done = True
        elif data.startswith("{"):
            event = json.loads(data)
            if "error" in event:
                return Ended(text, False, str(event["error"])[:200])
            usage = event.get("usage") or usage
            for choice in event["choices"]:
                text += choice["delta"].get("content") or ""
                reason = choice["finish_reason"] or reason
    cached = usage.get("prompt_tokens_details", {}).get("cached_tokens", 0)
    return Ended(text, is_done and reason is not None, None, usage.get("prompt_tokens", 0), cached)


def chat(fleet: Fleet, number: int) -> list[Ended]:
    """Two questions about one of two documents."""
    asked = [{"role": "user", "content": f"{document(number % 2)}\n\nWhat did {NAMES[number % len(NAMES)]} sell?"}]
    first = fleet.ask(asked, 8)
    asked += [
        {"role": "assistant", "content": first.text},
        {"role": "user", "content": f"And what was sold in {PLACES[number % len(PLACES)]}?"},
    ]
    return [first, fleet.ask(asked, 8)]


def second_questions_are_cached(fleet: Fleet) -> str:
    """Twenty chats about two documents, several at once; what came of them, in a line.

    # Errors
    Too few second questions came from the cache, or a request had no whole answer.
    """
    start = time.monotonic()
    # Each document is asked about once before many ask at the same time, as a router knows nothing yet.
    chats = [chat(fleet, number) for number in range(2)]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        chats += pool.map(lambda number: chat(fleet, number), range(2, N_CHATS))
    for ended in (ended for pair in chats for ended in pair):
        assert ended.is_whole, f"no whole answer: {ended}"
    seconds = [second for _, second in chats]
    n_cached = sum(second.share >= SHARE for second in seconds)
    share = sum(second.n_cached for second in seconds) / sum(second.n_prompt for second in seconds)
    told = (
        f"{n_cached} of {N_CHATS} second questions had {SHARE:.0%} of their prompts from the cache, {share:.1%} of all "
        f"{sum(second.n_prompt for second in seconds)} tokens; {time.monotonic() - start:.1f} s"
    )
    assert n_cached >= SHARE * N_CHATS and share >= SHARE, told
    return told


def nothing_is_lost(fleet: Fleet, kill: Callable[[], None]) -> str:
    """Half of the requests are streams. A server is killed when all of these have begun; afterwards more are asked.

    # Errors
    A request ended with neither a whole answer nor an error, or the server that is left does not answer.
    """
    n_requests, n_streams = 8, 4
    start = time.monotonic()
    begun = threading.Semaphore(0)

    def ask(number: int) -> Ended:
        # Two long beginnings, so that both servers have something to do.
        question = f"{document(number % 2)[:1500]}\n\nTell me more, {NAMES[number]}."
        return fleet.ask([{"role": "user", "content": question}], 150, begun.release if number < n_streams else None)

    with concurrent.futures.ThreadPoolExecutor(n_requests) as pool:
        running = [pool.submit(ask, number) for number in range(n_requests)]
        all_run = all(begun.acquire(timeout=PATIENCE_S) for _ in range(n_streams))
        kill()
        ended = [future.result() for future in running]
    lost = [one for one in ended if one.is_lost]
    errors = [one.error for one in ended if one.error]
    told = f"{sum(one.is_whole for one in ended)} whole answers, {len(errors)} errors {sorted(set(errors))}, {len(lost)} lost"
    assert all_run, f"not all streams began: {told}"
    assert not lost, f"{told}: {lost}"
    assert errors, f"no stream ran where the server died, so nothing was tested: {told}"
    afterwards = [fleet.ask([{"role": "user", "content": f"Are you there? {n}"}], 4) for n in range(6)]
    n_after = sum(one.is_whole for one in afterwards)
    assert not any(one.is_lost for one in afterwards), f"lost after the server died: {afterwards}"
    assert afterwards[-1].is_whole, f"the server that is left does not answer: {afterwards}"
    return f"{told}; then {n_after} of {len(afterwards)} answered; {time.monotonic() - start:.1f} s"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextlib.contextmanager
def process(command: list[str], log: pathlib.Path, env: dict[str, str] | None = None) -> Iterator[subprocess.Popen]:
    """A program whose words go to a file, and which ends with the block; so do the processes that it has started."""
    with log.open("wb") as out:
        started = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=env, start_new_session=True
        )
    try:
        yield started
    finally:
        for word in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(started.pid, word)
            with contextlib.suppress(subprocess.TimeoutExpired):
                started.wait(10)


class Server(NamedTuple):
    """A server of its own process."""

    url: str
    started: subprocess.Popen

    def kill(self) -> None:
        """As a machine dies: without a word."""
        self.started.kill()
        self.started.wait()

    def load(self) -> int:
        """Requests that it runs."""
        return sum(slot["is_processing"] for slot in get(self.url, "/slots"))


@contextlib.contextmanager
def lossy(program: str, model: str, folder: pathlib.Path, name: str) -> Iterator[Server]:
    log = folder / f"{name}.log"
    with process([program, "serve", model, "--port", "0", "--threads", "1", "-c", "4096"], log) as started:
        url = wait_for(lambda: re.search(r"http://127\.0\.0\.1:\d+", log.read_text()), started, log)[0]
        yield Server(url, started)


def wait_for(found: Callable[[], T], started: subprocess.Popen, log: pathlib.Path, patience_s: float = 60) -> T:
    """What `found` gives, as soon as it gives something.

    # Errors
    The program ended, or took too long; with the last that it said.
    """
    end = time.monotonic() + patience_s
    while started.poll() is None and time.monotonic() < end:
        if value := found():
            return value
        time.sleep(0.05)
    code = started.poll()
    why = f"{patience_s:.0f} s were not enough" if code is None else f"exit code {code}"
    raise SystemExit(f"error: {started.args[0]}: {why}\n{log.read_text(errors='replace')[-2000:]}")


def get(url: str, path: str) -> Any:
    """What is answered there, as JSON.

    # Errors
    Nobody answers, or not with 200.
    """
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=5)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        if response.status != 200:
            raise OSError(f"{path}: {response.status}")
        return json.loads(response.read())
    finally:
        connection.close()


def models(url: str) -> list[str]:
    """The models that are served there; none if nobody answers."""
    try:
        return [model["id"] for model in get(url, "/v1/models")["data"]]
    except (OSError, http.client.HTTPException, ValueError, KeyError):
        return []
