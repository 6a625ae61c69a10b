"""What must be true after every fault: the server answers, nothing runs or waits, and its memory is as before."""
import argparse
import json
import pathlib
import time

import checks
import wire
from checks import Failed, Server, equal, expect

CHAT = "/v1/chat/completions"
start_bytes: list[int] = []


def parser(about: str) -> argparse.ArgumentParser:
    """With --pid the memory of that process is compared before and after. What the server keeps on purpose counts, too:
    it should have a small --cache-ram.
    """
    made = checks.parser(about)
    made.add_argument("--pid", type=int, help="the server's process, whose memory is compared")
    made.add_argument("--allow-mb", type=int, default=64, help="by how much its memory may grow")
    return made


def chat(server: Server, **fields) -> dict:
    asked = {"model": server.model, "messages": [{"role": "user", "content": "Tell me of the sea."}], "temperature": 0}
    return asked | {"max_tokens": 8} | fields


def long_messages(server: Server, n_tokens: int, about: str) -> list[dict]:
    """A message of nearly so many tokens that no other check has sent."""
    text = " ".join(f"{about} {k} of {k * 13 % 89}." for k in range(min(n_tokens, server.n_ctx() - 700) // 10))
    return [{"role": "user", "content": text}]


def well(server: Server) -> None:
    """The server answers, and nothing is left of what the check began."""
    equal("status of /health", server.ask("GET", "/health").status, 200)
    took = wire.settled(server)
    if took > 2:
        raise Failed(f"work went on for {took:.1f} s after all clients had left")
    answer = server.ask("POST", CHAT, chat(server))
    equal("status of a plain request afterwards", answer.status, 200)


def note_memory(server: Server) -> None:
    """What the first requests of any server need is there before the memory is noted."""
    for _ in range(3):
        equal("status", server.ask("POST", CHAT, chat(server)).status, 200)
    server.ask("POST", CHAT, chat(server, messages=long_messages(server, 4_000, "warm")))
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "boolean"}}}
    server.ask("POST", CHAT, chat(server, response_format=schema))
    well(server)
    if server.options.pid:
        start_bytes.append(wire.resident_bytes(server.options.pid))
        print(f"   {start_bytes[0] / 1e6:.0f} MB")


def compare_memory(server: Server) -> None:
    well(server)
    wire.settled(server)
    for slot in server.ask("GET", "/slots").json():
        expect(not slot["is_processing"], f"a slot is busy: {json.dumps(slot)[:200]}")
    if server.options.pid:
        expect(start_bytes, "the memory at the start was not noted")
        limit = start_bytes[0] + server.options.allow_mb * 1_000_000
        for _ in range(50):
            now = wire.resident_bytes(server.options.pid)
            if now <= limit:
                break
            time.sleep(0.2)
        files = len(list(pathlib.Path(f"/proc/{server.options.pid}/fd").iterdir()))
        print(f"   {now / 1e6:.0f} MB, at the start {start_bytes[0] / 1e6:.0f} MB; {files} open files")
        expect(now <= limit, f"{(now - start_bytes[0]) / 1e6:.0f} MB more than at the start")
        expect(files < 100, f"{files} files are open")
