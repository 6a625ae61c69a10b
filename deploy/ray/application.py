"""lossy on Ray Serve: replicas on many machines, more of them when there is more to do, and each document read by one of them.

    serve run application:build model=model.gguf max_replicas=4         # in this folder; http://127.0.0.1:8000/v1

Two deployments: `Replica` runs one `lossy serve` as its child and hands requests to it; `Front` reads a request's body, so that
`DocumentRouter` can send it where its beginning has been read, and hands the answer on piece by piece.

A replica that dies takes no answer with it silently. A request of which the client has seen nothing is asked again elsewhere. A
stream that has begun ends with an error event, and without its last line.
"""
import contextlib
import hashlib
import json
import logging
import os
import random
import re
import shlex
import shutil
import subprocess
import threading
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import aiohttp
from pydantic import BaseModel
from ray import serve
from ray.exceptions import RayError
from ray.serve.config import AutoscalingConfig, RequestRouterConfig
from ray.serve.handle import DeploymentHandle
from ray.serve.request_router import PendingRequest, ReplicaID, RequestRouter, RunningReplica
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

logger = logging.getLogger("ray.serve")

# What goes to the server and comes from it; the rest belongs to one connection.
ASKED_HEADERS = ("accept", "anthropic-beta", "anthropic-version", "authorization", "content-type", "x-api-key")
TOLD_HEADERS = ("content-type", "retry-after", "www-authenticate")
# Fields that a prompt is made of, in the order in which templates write them.
PROMPT_FIELDS = ("tools", "system", "instructions", "messages", "input", "prompt")
# Characters of a prompt that are compared at once.
BLOCK = 512
# A request goes where at least this share of its blocks was read.
LEAST_SHARE = 0.3


class Settings(BaseModel):
    """What `serve run` is told, each as `name=value`."""

    model: str
    program: str = "lossy"
    # Options of `lossy serve`, as one text.
    options: str = ""
    min_replicas: int = 1
    max_replicas: int = 1
    # Of each replica; also its threads.
    cpus: int = 1
    # Requests of a replica, running or waiting, above which there are to be more replicas.
    target_ongoing_requests: float = 8
    # Requests that a replica has at most; then its documents are read by others, too.
    max_ongoing_requests: int = 32
    start_timeout_s: float = 300


class Asked(NamedTuple):
    """A request, and what its prompt begins with."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    beginnings: tuple[bytes, ...]


def beginnings(body: bytes) -> tuple[bytes, ...]:
    """A hash for each beginning of the prompt that is a number of blocks; none if the body has no prompt."""
    try:
        fields = json.loads(body)
        text = "".join(json.dumps(fields[name]) for name in PROMPT_FIELDS if name in fields)
    except (ValueError, TypeError):
        return ()
    hashed, found = hashlib.blake2b(digest_size=8), []
    for start in range(0, len(text) - BLOCK + 1, BLOCK):
        hashed.update(text[start:start + BLOCK].encode())
        found.append(hashed.digest())
    return tuple(found)


class DocumentRouter(RequestRouter):
    """Sends a request where the longest beginning of its prompt has been, and a new one where fewest have been."""

    def initialize_state(self, most_beginnings: int = 200_000) -> None:
        self.most_beginnings = most_beginnings
        # Where a beginning was read last; the least recently used ones go first.
        self.places: OrderedDict[bytes, ReplicaID] = OrderedDict()

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        asked = asked_of(pending_request)
        of_id = {replica.replica_id: replica for replica in candidate_replicas}
        for n_blocks in range(len(asked), 0, -1):
            if n_blocks < LEAST_SHARE * len(asked):
                break
            known = of_id.get(self.places.get(asked[n_blocks - 1]))
            if known:
                # Asked several times, each time more patiently: on a busy machine it may not say in time that it has room.
                return [[known]] * 4 + [[replica for replica in candidate_replicas if replica is not known]]
        # Of the first rank the one with the shortest queue is taken, and among equals the first.
        n_read = Counter(self.places.values())
        random.shuffle(candidate_replicas := list(candidate_replicas))
        return [sorted(candidate_replicas, key=lambda replica: n_read[replica.replica_id])]

    def on_request_routed(self, pending_request: PendingRequest, replica_id: ReplicaID, result: Any) -> None:
        for beginning in asked_of(pending_request):
            self.places[beginning] = replica_id
            self.places.move_to_end(beginning)
        while len(self.places) > self.most_beginnings:
            self.places.popitem(last=False)


def asked_of(pending_request: PendingRequest | None) -> tuple[bytes, ...]:
    # Serve copies the router's class together with what it uses, so its `Asked` is another class than that of the request.
    args = pending_request.args if pending_request else ()
    return args[0].beginnings if args else ()


@serve.deployment
class Replica:
    """One `lossy serve`, which lives as long as this does, and this as long as it."""

    def __init__(self, settings: Settings):
        command = [settings.program, "serve", settings.model, "--port", "0", "--threads", str(settings.cpus)]
        # The server ends with this process, also if that is killed.
        with_me = ["setpriv", "--pdeathsig", "TERM"] if shutil.which("setpriv") else []
        self.is_wanted = True
        self.server = subprocess.Popen(
            [*with_me, *command, *shlex.split(settings.options)], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        self.url, found = "", threading.Event()
        threading.Thread(target=self.listen, args=(found,), daemon=True).start()
        found.wait(settings.start_timeout_s)
        if not self.url:
            self.stop()
            raise RuntimeError(f"`{' '.join(command)}` does not listen; what it said is in this replica's log")
        self.session: aiohttp.ClientSession | None = None

    def listen(self, found: threading.Event) -> None:
        """Reads what the server says, to its end; then ends this replica, so that nobody sends it requests."""
        for line in self.server.stderr:
            logger.info(line.rstrip())
            if not self.url and (address := re.search(r"listening on (http://\S+)", line)):
                self.url = address[1]
                found.set()
        code = self.server.wait()
        was_serving = bool(self.url)
        found.set()
        if self.is_wanted and was_serving:
            logger.error(f"lossy serve ended with {code}: this replica ends, too")
            os._exit(1)

    def stop(self) -> None:
        self.is_wanted = False
        self.server.terminate()

    def __del__(self):
        # Serve has waited for the requests that ran.
        self.stop()

    async def check_health(self) -> None:
        async with self.ask("GET", "/health", timeout=aiohttp.ClientTimeout(total=10)) as answer:
            answer.raise_for_status()

    def ask(self, method: str, path: str, **more: Any) -> Any:
        if not self.session:
            self.session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None, connect=10))
        return self.session.request(method, self.url + path, **more)

    async def answer(self, asked: Asked) -> AsyncIterator[tuple[int, dict[str, str]] | bytes]:
        """First the status and the headers, then the body in pieces."""
        async with self.ask(asked.method, asked.path, headers=asked.headers, data=asked.body or None) as answer:
            yield answer.status, {name: answer.headers[name] for name in TOLD_HEADERS if name in answer.headers}
            async for piece in answer.content.iter_any():
                yield piece


@serve.deployment
class Front:
    """Where HTTP comes in."""

    def __init__(self, replicas: DeploymentHandle):
        self.replicas = replicas.options(stream=True, method_name="answer")

    async def __call__(self, request: Request) -> Response:
        body = await request.body()
        path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        headers = {name: request.headers[name] for name in ASKED_HEADERS if name in request.headers}
        asked = Asked(request.method, path, headers, body, beginnings(body))
        error: Exception | None = None
        # A replica may die, and so may the one that takes its place.
        for _ in range(3):
            answer = self.replicas.remote(asked)
            try:
                status, told = await anext(answer)
                if told.get("content-type", "").startswith("text/event-stream"):
                    return StreamingResponse(events(answer), status, told)
                return Response(b"".join([piece async for piece in answer]), status, told)
            except (RayError, aiohttp.ClientError) as died:
                error = died
                logger.warning(f"{path} is asked again: {type(died).__name__}")
        return Response(error_body(error), 503, {"content-type": "application/json", "retry-after": "5"})


async def events(answer: Any) -> AsyncIterator[bytes]:
    """A stream, with an error at its end if the replica dies."""
    try:
        async for piece in answer:
            yield piece
    except (RayError, aiohttp.ClientError) as died:
        yield b"data: " + error_body(died) + b"\n\n"
    finally:
        with contextlib.suppress(Exception):
            answer.cancel()


def error_body(died: Exception | None) -> bytes:
    message = f"the server died while it answered ({type(died).__name__}): ask again"
    return json.dumps({"error": {"message": message, "type": "unavailable_error", "param": None, "code": None}}).encode()


def build(settings: Settings) -> serve.Application:
    """The application, for `serve run application:build name=value …`."""
    replicas = Replica.options(
        ray_actor_options={"num_cpus": settings.cpus},
        max_ongoing_requests=settings.max_ongoing_requests,
        autoscaling_config=AutoscalingConfig(
            min_replicas=settings.min_replicas,
            max_replicas=settings.max_replicas,
            target_ongoing_requests=settings.target_ongoing_requests,
        ),
        request_router_config=RequestRouterConfig(request_router_class=DocumentRouter),
        health_check_period_s=5,
        graceful_shutdown_timeout_s=30,
    ).bind(settings)
    # One front knows where everything was read. It computes nothing, and needs no CPU of its own.
    return Front.options(ray_actor_options={"num_cpus": 0}, max_ongoing_requests=10_000).bind(replicas)
