"""How a worker talks with run.py: one JSON object a line, requests on standard input, answers on standard output.

The first answer says `{"ready": {...}}` with the engine's version and settings, or `{"error": "..."}`. After that each
request `{"n_prompt", "n_gen", "n_depth", "setting", "seed"}` is answered with `{"seconds": ...}` or an error. The
libraries under test print where they like; so their standard output is sent to standard error.
"""
import json
import os
import sys
from typing import Any, Callable


def claim_stdout():
    """The real standard output, for answers only; everything else that prints goes to standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


def serve(start: Callable[[], tuple[dict[str, Any], Callable[[dict[str, Any]], float]]]) -> None:
    """Call `start` once; it returns what `ready` says and the function that measures one request in seconds."""
    answers = claim_stdout()

    def say(answer: dict[str, Any]) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    try:
        ready, measure = start()
    except Exception as error:  # a worker reports every failure of its engine, and run.py prints it
        say({"error": one_line(error)})
        return
    say({"ready": ready})
    for line in sys.stdin:
        try:
            say({"seconds": measure(json.loads(line))})
        except Exception as error:  # as above
            say({"error": one_line(error)})


def one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
