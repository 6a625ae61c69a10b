"""HTTP by hand, for requests that no library would send."""
import json
import re
import socket
import time
from typing import Any

from checks import Answer, Failed, Server


def connect(server: Server, timeout_s: float = 60) -> socket.socket:
    return socket.create_connection(server.address, timeout=timeout_s)


def request(server: Server, method: str, path: str, body: bytes | dict | None = None, **headers: str | None) -> bytes:
    """The bytes of a request. Headers are given as keywords with `_` for `-`; None leaves one out."""
    content = json.dumps(body).encode() if isinstance(body, dict) else body
    host, port = server.address
    fields: dict[str, str | None] = {"Host": f"{host}:{port}", "Connection": "close"}
    if content is not None:
        fields |= {"Content-Type": "application/json", "Content-Length": str(len(content))}
    if server.api_key:
        fields["Authorization"] = f"Bearer {server.api_key}"
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"{method} {path} HTTP/1.1"] + [f"{name}: {value}" for name, value in fields.items() if value is not None]
    return "\r\n".join(lines).encode("utf-8") + b"\r\n\r\n" + (content or b"")


def send(server: Server, sent: bytes, timeout_s: float = 60) -> Answer | None:
    """The answer to these bytes; None if the server closes the connection without one."""
    with connect(server, timeout_s) as link:
        try:
            link.sendall(sent)
        except OSError:
            pass  # it may have answered and closed before it has read all
        return read_answer(link, timeout_s)


def read_answer(link: socket.socket, timeout_s: float) -> Answer | None:
    """One answer, up to the end of its body or of the connection."""
    received, end = b"", time.monotonic() + timeout_s
    while not complete(received):
        link.settimeout(max(end - time.monotonic(), 0.01))
        try:
            more = link.recv(1 << 16)
        except TimeoutError:
            raise Failed(f"no whole answer within {timeout_s:.0f} s, only {received[:200]!r}") from None
        except OSError:
            more = b""
        if not more:
            break
        received += more
    if not received:
        return None
    head, _, body = received.partition(b"\r\n\r\n")
    match = re.match(rb"HTTP/1\.[01] (\d{3})", head)
    if not match:
        raise Failed(f"the answer is no HTTP: {received[:200]!r}")
    headers = {}
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        headers[name.decode("latin-1").strip().lower()] = value.decode("latin-1").strip()
    return Answer(int(match[1]), headers, dechunked(body) if "chunked" in headers.get("transfer-encoding", "") else body)


def complete(received: bytes) -> bool:
    """Whether these bytes are a whole answer by its own account; one without a length ends with the connection."""
    head, found, body = received.partition(b"\r\n\r\n")
    if not found:
        return False
    if match := re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE):
        return len(body) >= int(match[1])
    return bool(re.search(rb"\r\ntransfer-encoding: *chunked", head, re.IGNORECASE)) and body.endswith(b"0\r\n\r\n")


def dechunked(body: bytes) -> bytes:
    parts = b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        n_bytes = int(size.split(b";")[0] or b"0", 16)
        parts += rest[:n_bytes]
        body = rest[n_bytes + 2:]
        if n_bytes == 0:
            break
    return parts


def metric(server: Server, name: str) -> float:
    """The sum of a metric over its labels."""
    answer = server.ask("GET", "/metrics")
    found = [line for line in answer.body.decode().splitlines() if re.match(rf"{re.escape(name)}(\{{| )", line)]
    if not found:
        raise Failed(f"/metrics ({answer.status}) has no {name}")
    return sum(float(line.rsplit(" ", 1)[1]) for line in found)


def settled(server: Server, within_s: float = 20) -> float:
    """Waits until nothing runs or waits; the seconds that took."""
    start = time.monotonic()
    while True:
        left = metric(server, "vllm:num_requests_running"), metric(server, "vllm:num_requests_waiting")
        if left == (0, 0):
            return time.monotonic() - start
        if time.monotonic() - start > within_s:
            raise Failed(f"{left[0]:.0f} requests run and {left[1]:.0f} wait {within_s:.0f} s after all clients left")
        time.sleep(0.05)


def resident_bytes(pid: int) -> int:
    """The memory of a process that is in use now."""
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        for line in status:
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    raise Failed(f"process {pid} says nothing of its memory; it is dead")


def must_refuse(what: str, answer: Answer | None, *statuses: int) -> None:
    """A refusal has one of these statuses and says why in the usual form; closing the connection is one, too."""
    if answer is None:
        return
    if answer.status not in statuses:
        raise Failed(f"{what}: expected {' or '.join(map(str, statuses))}, found {answer.status}: {answer.body[:200]!r}")


def body_of(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields).encode()
