"""What every script here does the same way: its arguments, and one line for each promise of the server that it checks.

A check is a function with the mark `@check`; it takes a `Server` and raises when a promise is broken. All of them run, in
the order of the file, so that one run shows all that is broken; the exit code is 1 if anything is.
"""
import argparse
import http.client
import json
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import urlsplit


class Failed(Exception):
    """A promise that the server did not keep: what was asked, what was expected, what came."""


class Answer(NamedTuple):
    """One HTTP response, read to its end."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise Failed(f"the body of a {self.status} is no JSON ({error}): {self.body[:200]!r}") from None

    def error(self) -> dict:
        """The error object of an answer that refuses, which always has the same four fields."""
        error = self.json().get("error")
        if not isinstance(error, dict) or {"message", "type", "param", "code"} - set(error):
            raise Failed(f"a {self.status} without error{{message, type, param, code}}: {self.body[:300]!r}")
        return error


class Server(NamedTuple):
    """Where the server is, what it calls its model, and whatever else the command line says."""

    root: str
    api_key: str | None
    model: str
    options: argparse.Namespace

    @property
    def v1(self) -> str:
        return f"{self.root}/v1"

    @property
    def key_or_dummy(self) -> str:
        """Client libraries refuse to start without a key, also where the server wants none."""
        return self.api_key or "none"

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.root)
        return parts.hostname or "127.0.0.1", parts.port or 80

    def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
        """One plain request on a connection of its own; `body` is JSON unless it is bytes."""
        return ask(self.root, self.api_key, method, path, body, headers)

    def tokenize(self, text: str) -> list[int]:
        answer = self.ask("POST", "/tokenize", {"content": text, "add_special": False})
        equal("status of /tokenize", answer.status, 200)
        return answer.json()["tokens"]

    def n_ctx(self) -> int:
        return self.ask("GET", "/props").json()["default_generation_settings"]["n_ctx"]


def ask(
    root: str, api_key: str | None, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
) -> Answer:
    parts = urlsplit(root)
    connection = http.client.HTTPConnection(parts.hostname or "127.0.0.1", parts.port or 80, timeout=600)
    content = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
    sent = {"Content-Type": "application/json"} if content is not None else {}
    if api_key:
        sent["Authorization"] = f"Bearer {api_key}"
    sent.update(headers or {})
    try:
        connection.request(method, path, content, sent)
        response = connection.getresponse()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
    finally:
        connection.close()


def expect(holds: Any, message: str) -> None:
    if not holds:
        raise Failed(message)


def equal(what: str, found: Any, expected: Any) -> None:
    if found != expected:
        raise Failed(f"{what}: expected {expected!r}, found {found!r}")


def one_of(what: str, found: Any, allowed: tuple) -> None:
    if found not in allowed:
        raise Failed(f"{what}: expected one of {allowed!r}, found {found!r}")


Check = Callable[[Server], None]
CHECKS: list[Check] = []


def check(function: Check) -> Check:
    """Mark of a function that `run` runs."""
    CHECKS.append(function)
    return function


def parser(about: str) -> argparse.ArgumentParser:
    """The arguments that all scripts share."""
    made = argparse.ArgumentParser(description=about)
    made.add_argument("url", help="root of the server, as http://127.0.0.1:8080")
    made.add_argument("--api-key", help="the key that the server asks for")
    made.add_argument("--only", metavar="WORD", help="only checks with WORD in their names")
    made.add_argument("--without", metavar="WORD", action="append", default=[], help="no checks with WORD in the name")
    return made


def parser_with_tools(about: str) -> argparse.ArgumentParser:
    """The same for scripts of which some checks need a model whose template knows tools."""
    made = parser(about)
    made.add_argument("--tools", action="store_true", help="also what needs a model whose template knows tools")
    return made


def server_of(args: argparse.Namespace) -> Server:
    root = args.url.rstrip("/").removesuffix("/v1")
    models = ask(root, args.api_key, "GET", "/v1/models")
    if models.status != 200:
        raise SystemExit(f"error: GET /v1/models: {models.status} {models.body[:200]!r}")
    return Server(root, args.api_key, models.json()["data"][0]["id"], args)


def run(server: Server) -> int:
    """Run the checks in order and say what became of each; the exit code of the script."""
    only, without = server.options.only, list(server.options.without)
    if not getattr(server.options, "tools", True):
        without.append("tools")
    failed = ran = 0
    n_left_out = 0
    for one in CHECKS:
        name = one.__name__
        if (only and only not in name) or any(word in name for word in without):
            n_left_out += 1
            continue
        start = time.monotonic()
        ran += 1
        try:
            one(server)
        except Failed as failure:
            failed += 1
            print(f"FAILED {name}: {failure}", flush=True)
        except Exception as error:  # whatever a client library raises is a broken promise too
            failed += 1
            at = traceback.extract_tb(error.__traceback__)
            own = next((frame for frame in reversed(at) if frame.filename == sys.argv[0]), at[-1])
            print(f"FAILED {name}: line {own.lineno}: {type(error).__name__}: {str(error)[:600]}", flush=True)
        else:
            print(f"ok {name} ({time.monotonic() - start:.1f} s)", flush=True)
    if n_left_out:
        print(f"{n_left_out} left out, as the command line says")
    print(f"{ran - failed} of {ran} checks hold", flush=True)
    return 1 if failed or not ran else 0


def main(parser: argparse.ArgumentParser) -> int:
    """The whole script: read the command line, find the server, run the checks."""
    return run(server_of(parser.parse_args()))
