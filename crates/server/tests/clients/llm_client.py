"""What the command-line program `llm` does with the server, as a user sets it up: one entry in a YAML file.

usage: llm_client.py URL [--api-key KEY] [--only WORD] [--without WORD]
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import checks
from checks import Failed, Server, check, equal, expect

HOME = tempfile.TemporaryDirectory(prefix="lossy-llm-")
QUESTION = "Write one sentence about the sea."


def llm(server: Server, *arguments: str) -> str:
    """What one run of the program prints; its settings are in a folder of its own."""
    home = pathlib.Path(HOME.name)
    entries = [
        {"model_id": "served", "model_name": server.model, "api_base": server.v1, "supports_schema": True},
        {"model_id": "served-text", "model_name": server.model, "api_base": server.v1, "completion": True},
    ]
    # JSON is YAML.
    (home / "extra-openai-models.yaml").write_text(json.dumps(entries))
    # With a key, the program sends it to every model of the file.
    env = dict(os.environ, LLM_USER_PATH=str(home), OPENAI_API_KEY=server.key_or_dummy)
    command = [sys.executable, "-m", "llm", *arguments]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode != 0:
        raise Failed(f"`llm {' '.join(arguments)}`: exit code {done.returncode}: {done.stderr.strip()[-500:]}")
    return done.stdout


GREEDY = ("-o", "temperature", "0", "-o", "max_tokens", "24")


@check
def model_is_listed(server: Server) -> None:
    expect("served" in llm(server, "models"), "`llm models` does not list the model")


@check
def prompt_usage_and_conversation(server: Server) -> None:
    """Each run of the program takes seconds to start: what the log of one says is looked at behind it."""
    whole = llm(server, "-m", "served", "--no-stream", *GREEDY, QUESTION)
    expect(whole.strip(), "no text")
    equal("as a stream", llm(server, "-m", "served", *GREEDY, QUESTION), whole)
    last = json.loads(llm(server, "logs", "-n", "1", "--json"))[0]
    expect(last["input_tokens"] and last["output_tokens"], f"usage: {last['input_tokens']}, {last['output_tokens']}")
    expect(llm(server, "-c", *GREEDY, "One more, please.").strip(), "no second answer")


@check
def system_prompt(server: Server) -> None:
    expect(llm(server, "-m", "served", "-s", "Be brief.", *GREEDY, QUESTION).strip(), "no text")


@check
def schema(server: Server) -> None:
    form = {"type": "object", "properties": {"age": {"type": "integer", "minimum": 0, "maximum": 30}},
            "required": ["age"], "additionalProperties": False}
    options = ("-o", "temperature", "0", "-o", "max_tokens", "64")
    told = llm(server, "-m", "served", "--schema", json.dumps(form), *options, "Describe a cat.")
    equal("fields", list(json.loads(told)), ["age"])


@check
def plain_completion(server: Server) -> None:
    options = ("-o", "temperature", "0", "-o", "max_tokens", "8")
    expect(llm(server, "-m", "served-text", "--no-stream", *options, "One, two,").strip(), "no text")


if __name__ == "__main__":
    sys.exit(checks.main(checks.parser("What the command-line program `llm` does with the server.")))
