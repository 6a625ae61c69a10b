"""Agents of other people, unchanged, against the server: three turns each, of which the later ones come from the cache.

usage: agents.py URL [--codex PROGRAM] [--opencode PROGRAM] [--api-key KEY] [--only WORD] [--without WORD]

The programs are `codex` of npm's @openai/codex and `opencode` of opencode-ai. Whatever the model says, a turn must end without an
error. A small proxy before the server notes requests and answers.
"""
import http.server
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request

import checks
from checks import Failed, Server, check, expect

PATIENCE_S = 600


class Proxy:
    """Passes requests on to the server, and notes how many tokens of each prompt the cache had."""

    def __init__(self, root: str):
        noted = self.requests = []

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.0"

            def log_message(self, *_):
                pass

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                asked = json.loads(body)
                noted.append({"path": self.path, "asked": asked})
                index = len(noted) - 1
                request = urllib.request.Request(root + self.path, json.dumps(asked).encode(), dict(self.headers), method="POST")
                for name in ("Content-length", "Host", "Accept-encoding"):
                    request.remove_header(name)
                try:
                    answer = urllib.request.urlopen(request, timeout=PATIENCE_S)
                except urllib.error.HTTPError as error:
                    answer = error
                with answer:
                    self.send_response(answer.status)
                    self.send_header("Content-Type", answer.headers["Content-Type"])
                    self.end_headers()
                    whole = b""
                    while piece := answer.read1(65536):
                        whole += piece
                        self.wfile.write(piece)
                        self.wfile.flush()
                noted[index] |= {"status": answer.status, "answer": whole.decode()}

            def do_GET(self):
                with urllib.request.urlopen(root + self.path, timeout=PATIENCE_S) as answer:
                    self.send_response(answer.status)
                    self.end_headers()
                    self.wfile.write(answer.read())

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def shares(self) -> list[float]:
        """Of each request, the share of the prompt that came from the cache."""
        found = []
        for request in self.requests:
            expect(request.get("status") == 200, f"status {request.get('status')}: {request.get('answer', '')[:500]}")
            timings = [json.loads(text) for text in found_objects(request["answer"], '"timings":')]
            timings = [one for one in timings if one and one.get("prompt_n") is not None]
            expect(timings, f"no timings in {request['answer'][-500:]}")
            last = timings[-1]
            found.append(last["cache_n"] / (last["cache_n"] + last["prompt_n"]))
        return found


def found_objects(text: str, key: str) -> list[str]:
    """The JSON objects that follow a key."""
    found, start = [], 0
    while (start := text.find(key, start)) >= 0:
        start += len(key)
        if text[start] != "{":
            continue
        depth = 0
        for end in range(start, len(text)):
            depth += {"{": 1, "}": -1}.get(text[end], 0)
            if depth == 0:
                found.append(text[start : end + 1])
                break
    return found


def run(command: list[str], home: pathlib.Path, work: pathlib.Path) -> str:
    """One turn, with a home that has nothing of the user's."""
    own = {"PWD": str(work), "HOME": str(home), "CODEX_HOME": str(home / "codex"), "OPENCODE_DISABLE_AUTOUPDATE": "1"}
    own |= {f"XDG_{name}_HOME": str(home / name.lower()) for name in ("CONFIG", "DATA", "CACHE", "STATE")}
    done = subprocess.run(
        command, cwd=work, env=os.environ | own, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=PATIENCE_S, check=False,
    )
    if done.returncode != 0:
        raise Failed(f"{' '.join(command[:3])} ends with {done.returncode}: {(done.stdout + done.stderr)[-1500:]}")
    return done.stdout


def codex(server: Server, url: str, home: pathlib.Path, work: pathlib.Path):
    """What runs a turn of Codex: the first one, or one more."""
    (home / "codex").mkdir()
    (home / "codex" / "config.toml").write_text(
        f'model = "{server.model}"\nmodel_provider = "own"\napproval_policy = "never"\nsandbox_mode = "read-only"\n'
        f'[model_providers.own]\nname = "own"\nbase_url = "{url}/v1"\nwire_api = "responses"\n'
    )
    start = [server.options.codex, "exec", "--skip-git-repo-check"]
    return lambda text, is_first: run([*start, text] if is_first else [*start, "resume", "--last", text], home, work)


def opencode(server: Server, url: str, home: pathlib.Path, work: pathlib.Path):
    """The same of opencode."""
    provider = {"npm": "@ai-sdk/openai-compatible", "options": {"baseURL": f"{url}/v1"}, "models": {server.model: {}}}
    settings = {"provider": {"own": provider}, "model": f"own/{server.model}", "autoupdate": False, "share": "disabled"}
    (work / "opencode.json").write_text(json.dumps(settings))
    start = [server.options.opencode, "run"]
    return lambda text, is_first: run([*start, text] if is_first else [*start, "-c", text], home, work)


def three_turns(server: Server, agent) -> list[list[dict]]:
    """The requests of each turn; those after the first turn come from the cache but for what is new."""
    with tempfile.TemporaryDirectory() as home, tempfile.TemporaryDirectory() as work, Proxy(server.root) as proxy:
        turn = agent(server, proxy.url, pathlib.Path(home), pathlib.Path(work))
        turns = []
        for text in ("Say hello in one word.", "Now say goodbye.", "Which words did you say?"):
            n_before = len(proxy.requests)
            turn(text, n_before == 0)
            turns.append(proxy.requests[n_before:])
            expect(turns[-1], "the turn has asked nothing")
        shares = proxy.shares()
        later = shares[len(turns[0]) :]
        print("   from the cache: " + ", ".join(f"{100 * share:.1f} %" for share in shares))
        expect(min(later) > 0.9, f"shares from the cache: {shares}, of which the first {len(turns[0])} are the first turn's")
        return turns


@check
def codex_has_three_turns(server: Server) -> None:
    expect(server.options.codex, "--codex names no program")
    three_turns(server, codex)


@check
def opencode_has_three_turns(server: Server) -> None:
    expect(server.options.opencode, "--opencode names no program")
    three_turns(server, opencode)


if __name__ == "__main__":
    options = checks.parser("Agents of other people against the server.")
    options.add_argument("--codex", help="the program codex")
    options.add_argument("--opencode", help="the program opencode")
    sys.exit(checks.main(options))
