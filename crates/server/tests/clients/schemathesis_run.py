"""Requests that schemathesis makes from /openapi.json, valid ones and others: the server never fails and never hangs.

usage: schemathesis_run.py URL [--api-key KEY] [--seconds N] [--examples N] [--seed N] [--checks LIST]

Every operation of the document takes part. Without --seconds each gets a fixed number of examples, for CI; with it, more
until the time is spent. A valid request may ask for a whole context of tokens, so the server should have a short one
(-c 512): an answer that takes more than a minute counts as a hang.
"""
import pathlib
import subprocess
import sys
import tempfile

import checks
from checks import Failed, Server, check, equal, expect

# 501 is what the server says of embeddings: it can say no more without another kind of model.
CONFIG = """
[checks.not_a_server_error]
expected-statuses = ["2XX", "3XX", "4XX", "501"]
"""


@check
def document(server: Server) -> None:
    """The document names what the server has; what is missing in it would not be tried."""
    answer = server.ask("GET", "/openapi.json")
    equal("status of /openapi.json", answer.status, 200)
    found = answer.json()
    expect(found["openapi"].startswith("3."), f"openapi is {found['openapi']!r}")
    expected = {
        "/v1/chat/completions", "/v1/completions", "/v1/models", "/tokenize", "/detokenize", "/tokenizer_info",
        "/apply-template", "/health", "/version", "/server_info", "/props", "/slots", "/metrics",
    }
    missing = sorted(expected - set(found["paths"]))
    expect(not missing, f"/openapi.json does not have {', '.join(missing)}")
    print(f"   {sum(len(item) for item in found['paths'].values())} operations")


@check
def no_request_makes_it_fail(server: Server) -> None:
    options = server.options
    with tempfile.TemporaryDirectory(prefix="lossy-schemathesis-") as folder:
        work = pathlib.Path(folder)
        (work / "schemathesis.toml").write_text(CONFIG)
        command = [str(pathlib.Path(sys.executable).with_name("schemathesis")), "--no-color"]
        command += ["--config-file", str(work / "schemathesis.toml"), "run", f"{server.root}/openapi.json"]
        command += ["--checks", options.checks, "--seed", str(options.seed), "--max-examples", str(options.examples)]
        command += ["--workers", "4", "--request-timeout", "60", "--continue-on-failure", "--generation-database", "none"]
        command += ["--suppress-health-check", "all", "--warnings", "off"]
        if options.seconds:
            command += ["--max-time", str(options.seconds)]
        if server.api_key:
            command += ["--header", f"Authorization: Bearer {server.api_key}"]
        limit_s = options.seconds + 300 if options.seconds else 1800
        try:
            done = subprocess.run(command, cwd=work, capture_output=True, text=True, timeout=limit_s, check=False)
        except subprocess.TimeoutExpired:
            raise Failed(f"schemathesis is not done after {limit_s} s") from None
        if done.returncode != 0:
            raise Failed(f"exit code {done.returncode}\n{(done.stdout + done.stderr)[-options.show:]}")
        print("   " + "\n   ".join(done.stdout.strip().splitlines()[-6:]))


@check
def the_server_is_well(server: Server) -> None:
    equal("status of /health", server.ask("GET", "/health").status, 200)
    body = {"model": server.model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}
    equal("status of a chat", server.ask("POST", "/v1/chat/completions", body).status, 200)


if __name__ == "__main__":
    parser = checks.parser("Requests that schemathesis makes from /openapi.json.")
    parser.add_argument("--seconds", type=int, help="go on until so much time is spent")
    parser.add_argument("--examples", type=int, default=20, help="at most so many for each operation and phase")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--checks", default="not_a_server_error", help="comma list, as schemathesis calls them, or all")
    parser.add_argument("--show", type=int, default=6000, help="characters of the output shown after a failure")
    sys.exit(checks.main(parser))
