"""lm-evaluation-harness on tasks of the repository's own: one request at a time, eight at once, and in batches.

usage: lm_eval_client.py URL [--api-key KEY] [--json FILE]

All runs must log the same bytes: what was asked, the log-likelihoods, whether they are greedy, what was generated.
FILE gets every log-likelihood with its token ids, for a comparison with what the model gives without a server:

    {"model": …, "choices": [{"id", "choice", "context", "continuation", "context_ids", "continuation_ids",
     "loglikelihood", "is_greedy"}, …], "texts": [{"id", "text", "prefix_id", "ids", "loglikelihood"}, …]}
"""
import contextlib
import io
import json
import os
import pathlib
import sys
import tempfile

import checks
from checks import Failed, Server, check, equal, expect

TASKS = pathlib.Path(__file__).resolve().parents[4] / "testdata" / "lm_eval"
NAMES = ("lossy_choices", "lossy_texts", "lossy_answers")
WORK = tempfile.TemporaryDirectory(prefix="lossy-lm-eval-")

# What the first run logged, by task.
samples: dict[str, bytes] = {}


def run_harness(arguments: list[str], env: dict[str, str]) -> None:
    """The harness's command line, in this process: importing it takes longer than the tasks. What it prints is shown only
    if it fails.
    """
    os.environ.update(env)
    from lm_eval.__main__ import cli_evaluate

    said, own = io.StringIO(), sys.argv
    sys.argv = ["lm_eval", "run", *arguments]
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), contextlib.chdir(TASKS):
            cli_evaluate()
    except SystemExit as end:
        if end.code:
            raise Failed(f"lm_eval: exit code {end.code}: {said.getvalue().strip()[-1500:]}") from None
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        raise Failed(f"lm_eval: {why}: {said.getvalue().strip()[-1500:]}") from error
    finally:
        sys.argv = own


def run_tasks(server: Server, name: str, n_concurrent: int, batch_size: int) -> dict[str, bytes]:
    """One run of the harness on all tasks: the log of each, as bytes."""
    work = pathlib.Path(WORK.name)
    model_args = {
        "model": server.model,
        "base_url": f"{server.v1}/completions",
        "tokenizer_backend": "remote",
        "num_concurrent": n_concurrent,
        "max_retries": 1,
    }
    if server.api_key:
        model_args["auth_token"] = server.api_key
    arguments = ["--model", "local-completions", "--model_args", json.dumps(model_args), "--tasks", *NAMES]
    arguments += ["--include_path", str(TASKS), "--batch_size", str(batch_size), "--log_samples"]
    # Everything it needs is here; without these it would ask a hub.
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(work / "hf"), "DO_NOT_TRACK": "1"}
    key = {"OPENAI_API_KEY": server.key_or_dummy}
    run_harness([*arguments, "--output_path", str(work / name)], offline | key)
    logs = {}
    for task in NAMES:
        found = list((work / name).rglob(f"samples_{task}_*.jsonl"))
        equal(f"logs of {task}", len(found), 1)
        logs[task] = found[0].read_bytes()
    return logs


@check
def one_at_a_time(server: Server) -> None:
    samples.update(run_tasks(server, "one", 1, 1))
    rows = [json.loads(line) for line in samples["lossy_choices"].splitlines()]
    equal("questions", len(rows), 20)
    print(f"   acc {sum(row['acc'] for row in rows) / len(rows):.2f}")


def same_as_first(found: dict[str, bytes]) -> None:
    expect(samples, "the first run failed, so there is nothing to compare with")
    for task, log in found.items():
        for number, (ours, first) in enumerate(zip(log.splitlines(), samples[task].splitlines(), strict=True)):
            equal(f"line {number + 1} of {task}", ours, first)


@check
def eight_at_once(server: Server) -> None:
    same_as_first(run_tasks(server, "eight", 8, 1))


@check
def in_batches_of_four(server: Server) -> None:
    same_as_first(run_tasks(server, "batches", 1, 4))


@check
def log_likelihoods_are_written(server: Server) -> None:
    """Token ids are those of the harness: of context and continuation together, cut after the context's own."""
    expect(samples, "the first run failed, so there is nothing to write")
    choices, texts = [], []
    for line in samples["lossy_choices"].splitlines():
        row = json.loads(line)
        for choice, response in enumerate(row["filtered_resps"]):
            context, continuation = row["arguments"][f"gen_args_{choice}"].values()
            whole, own = server.tokenize(context + continuation), server.tokenize(context)
            loglikelihood, is_greedy = float(response[0]), str(response[1]) == "True"
            expect(loglikelihood < 0, f"log-likelihood of {continuation!r} is {loglikelihood}")
            choices.append(
                {"id": row["doc"]["id"], "choice": choice, "context": context, "continuation": continuation,
                 "context_ids": own, "continuation_ids": whole[len(own):],
                 "loglikelihood": loglikelihood, "is_greedy": is_greedy}
            )
    equal("log-likelihoods", len(choices), 80)
    info = server.ask("GET", "/tokenizer_info").json()
    prefix = server.tokenize(info.get("bos_token") or info["eos_token"])[0]
    for line in samples["lossy_texts"].splitlines():
        row = json.loads(line)
        text = row["doc"]["text"]
        texts.append(
            {"id": row["doc"]["id"], "text": text, "prefix_id": prefix, "ids": server.tokenize(text),
             "loglikelihood": float(row["filtered_resps"][0])}
        )
    if server.options.json:
        told = {"model": server.model, "choices": choices, "texts": texts}
        server.options.json.write_text(json.dumps(told) + "\n")


if __name__ == "__main__":
    parser = checks.parser("lm-evaluation-harness on tasks of the repository's own.")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="where to write the log-likelihoods")
    sys.exit(checks.main(parser))
