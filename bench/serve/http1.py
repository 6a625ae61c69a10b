"""HTTP for measuring: a request goes out, and every piece that comes back is kept with the time of its arrival.

Nothing is parsed while a load runs. The client shares its cores with the server, and the bytes say the same afterwards;
so a token costs the client one callback that appends to a list.
"""
import asyncio
import json
import time
from typing import Any, NamedTuple


class Transcript(NamedTuple):
    """One exchange: when its request was sent, and the pieces of the answer with their times (seconds, monotonic)."""

    sent_s: float
    pieces: list[tuple[float, bytes]]
    error: str | None


class Event(NamedTuple):
    """One `data:` line of a stream of server-sent events, and when its last byte came."""

    at_s: float
    data: bytes


class Response(NamedTuple):
    """A transcript, understood. `body` is all of the body; a stream's lines are also in `events`."""

    status: int
    headers: dict[str, str]
    body: bytes
    events: list[Event]
    end_s: float


class BadResponse(Exception):
    """What came is no HTTP, or not all of it came."""


class _Recorder(asyncio.Protocol):
    def __init__(self, request: bytes):
        self.request = request
        self.pieces: list[tuple[float, bytes]] = []
        self.sent_s = 0.0
        self.closed: asyncio.Future = asyncio.get_running_loop().create_future()

    def connection_made(self, transport) -> None:
        self.sent_s = time.monotonic()
        transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.pieces.append((time.monotonic(), data))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_result(exc)


def request_bytes(address: tuple[str, int], method: str, path: str, body: Any = None, key: str | None = None) -> bytes:
    """A request after whose answer the server closes the connection: the end of an answer needs no parser then."""
    content = b"" if body is None else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", f"Host: {address[0]}:{address[1]}", "Connection: close"]
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(content)}"]
    if key:
        lines.append(f"Authorization: Bearer {key}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


async def exchange(
    address: tuple[str, int], request: bytes, timeout_s: float, until: asyncio.Event | None = None
) -> Transcript:
    """Send a request and record until the server closes; or until the event `until`, when the client leaves."""
    loop = asyncio.get_running_loop()
    start_s = time.monotonic()
    try:
        transport, recorder = await asyncio.wait_for(
            loop.create_connection(lambda: _Recorder(request), *address), timeout_s
        )
    except (OSError, TimeoutError) as error:
        return Transcript(start_s, [], f"no connection: {error or type(error).__name__}")
    error = None
    leave = asyncio.ensure_future(until.wait()) if until else None
    try:
        waited = {recorder.closed, leave} if leave else {recorder.closed}
        done, _ = await asyncio.wait(waited, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            error = f"no end within {timeout_s:.0f} s"
        elif recorder.closed in done and (lost := recorder.closed.result()):
            error = f"connection lost: {lost}"
    finally:
        if leave:
            leave.cancel()
        transport.abort()
    return Transcript(start_s, recorder.pieces, error)


class _Body:
    """Takes a body apart as it came: its chunks, and the lines of its events."""

    def __init__(self, chunked: bool, n_bytes: int | None):
        self.chunked, self.n_left = chunked, n_bytes
        self.raw = b""
        self.complete = False
        self.body = bytearray()
        self.line = b""
        self.events: list[Event] = []

    def feed(self, at_s: float, data: bytes) -> None:
        if not self.chunked:
            self.take(at_s, data)
            self.complete = self.n_left is not None and len(self.body) >= self.n_left
            return
        self.raw += data
        while not self.complete:
            size, found, rest = self.raw.partition(b"\r\n")
            if not found:
                return
            try:
                n_bytes = int(size.split(b";")[0], 16)
            except ValueError:
                raise BadResponse(f"the size of a chunk is {size[:40]!r}") from None
            if len(rest) < n_bytes + 2:
                return
            self.take(at_s, rest[:n_bytes])
            self.raw = rest[n_bytes + 2:]
            self.complete = n_bytes == 0

    def take(self, at_s: float, data: bytes) -> None:
        self.body += data
        *lines, self.line = (self.line + data).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                self.events.append(Event(at_s, line[5:].strip()))


def response_of(transcript: Transcript, whole: bool = True) -> Response:
    """Understand a transcript; `whole` refuses one that the connection's end has cut short.

    Raises BadResponse.
    """
    if transcript.error and whole:
        raise BadResponse(transcript.error)
    head, body = b"", None
    status, headers = 0, {}
    for at_s, data in transcript.pieces:
        if body is None:
            head += data
            before, found, data = head.partition(b"\r\n\r\n")
            if not found:
                continue
            status, headers = _understand_head(before)
            length = headers.get("content-length")
            body = _Body("chunked" in headers.get("transfer-encoding", ""), int(length) if length else None)
        body.feed(at_s, data)
    if body is None:
        raise BadResponse(f"no HTTP answer, but {head[:80]!r}" if head else "the connection was closed without an answer")
    if whole and not body.complete and (body.chunked or body.n_left is not None):
        raise BadResponse(f"the answer ends after {len(body.body)} bytes, before its end")
    return Response(status, headers, bytes(body.body), body.events, transcript.pieces[-1][0])


def _understand_head(head: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = head.decode("latin-1").split("\r\n")
    parts = first.split(" ")
    if len(parts) < 2 or not parts[0].startswith("HTTP/1.") or not parts[1].isdigit():
        raise BadResponse(f"no HTTP answer, but {first[:80]!r}")
    fields = (line.partition(":") for line in lines)
    return int(parts[1]), {name.strip().lower(): value.strip() for name, _, value in fields}


async def ask(
    address: tuple[str, int], method: str, path: str, body: Any = None, key: str | None = None, timeout_s: float = 600
) -> Any:
    """A plain request for JSON, not measured. Raises BadResponse, also for every status but 200."""
    response = response_of(await exchange(address, request_bytes(address, method, path, body, key), timeout_s))
    if response.status != 200:
        raise BadResponse(f"{method} {path}: {response.status} {response.body[:300].decode(errors='replace')}")
    try:
        return json.loads(response.body)
    except ValueError:
        return response.body.decode(errors="replace")
